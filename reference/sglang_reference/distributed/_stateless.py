"""Ranks that exchange objects over a key-value store alone, without torch.distributed being initialized."""

from __future__ import annotations

import pickle
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch.distributed


@dataclass
class StatelessProcessGroup:
    """A group for a few small objects, as a communicator needs to come to life: not for tensors.

    ``store`` is a store of torch.distributed that all of its ranks reach. What was sent is taken out of it
    ``data_expiration_seconds`` later, when this rank sends again. (SGLang 0.5.23, srt/distributed/utils.py)
    """

    rank: int
    world_size: int
    store: Any
    data_expiration_seconds: int = 3600
    send_dst_counter: dict[int, int] = field(default_factory=dict)
    recv_src_counter: dict[int, int] = field(default_factory=dict)
    broadcast_send_counter: int = 0
    broadcast_recv_src_counter: dict[int, int] = field(default_factory=dict)
    entries: deque[tuple[str, float]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        assert self.rank < self.world_size, f"there is no rank {self.rank} of {self.world_size}"
        for counter in (self.send_dst_counter, self.recv_src_counter, self.broadcast_recv_src_counter):
            counter.update(dict.fromkeys(range(self.world_size), 0))

    @staticmethod
    def create(
        host: str, port: int, rank: int, world_size: int, data_expiration_seconds: int = 3600
    ) -> StatelessProcessGroup:
        """A group that meets at ``host`` and ``port``, where its first rank opens the store."""
        store = torch.distributed.TCPStore(host, port, world_size, rank == 0)  # type: ignore[attr-defined]
        return StatelessProcessGroup(rank, world_size, store, data_expiration_seconds)

    def send_obj(self, obj: Any, dst: int) -> None:
        """Send an object to one rank."""
        self._put(f"send_to/{dst}/{self.rank}/{self.send_dst_counter[dst]}", obj)
        self.send_dst_counter[dst] += 1

    def recv_obj(self, src: int) -> Any:
        """The next object that one rank has sent to this one."""
        key = f"send_to/{self.rank}/{src}/{self.recv_src_counter[src]}"
        self.recv_src_counter[src] += 1
        return pickle.loads(self.store.get(key))

    def broadcast_obj(self, obj: Any, src: int) -> Any:
        """One rank's object, on every rank."""
        if self.rank == src:
            self._put(f"broadcast_from/{src}/{self.broadcast_send_counter}", obj)
            self.broadcast_send_counter += 1
            return obj
        key = f"broadcast_from/{src}/{self.broadcast_recv_src_counter[src]}"
        self.broadcast_recv_src_counter[src] += 1
        return pickle.loads(self.store.get(key))

    def all_gather_obj(self, obj: Any) -> list[Any]:
        """Every rank's object, by rank."""
        return [self.broadcast_obj(obj if rank == self.rank else None, src=rank) for rank in range(self.world_size)]

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.all_gather_obj(None)

    def expire_data(self) -> None:
        """Take out of the store what this rank sent too long ago."""
        now = time.perf_counter()
        while self.entries and now - self.entries[0][1] > self.data_expiration_seconds:
            self.store.delete_key(self.entries.popleft()[0])

    def _put(self, key: str, obj: Any) -> None:
        self.expire_data()
        self.store.set(key, pickle.dumps(obj))
        self.entries.append((key, time.perf_counter()))
