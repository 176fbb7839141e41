"""Python objects over a group: broadcast, gathered, sent and received, all by way of pickle."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch.distributed import ProcessGroup

from .._released import Lifetime, Parameters, released
from ._group import Group

TAGGED = Parameters({"tag": Lifetime("0.5.16")})


@dataclass
class P2PWork:
    """A send that is under way, and the tensor that must live until it is done."""

    work: Any
    payload: torch.Tensor | None


class Objects(Group):
    """The part of a GroupCoordinator that carries objects. Ranks are places in the group."""

    def broadcast_object(self, obj: Any = None, src: int = 0) -> Any:
        """The object of the rank at place ``src``, on every rank.

        Raises AssertionError for no such place, and for another place than the first in a group that was made with
        ``use_message_queue_broadcaster``.
        """
        assert src < self.world_size, f"Invalid src rank ({src})"
        if self.world_size == 1:
            return obj
        if self.mq_broadcaster is not None:
            assert src == 0, f"only the group's first rank can broadcast objects in {self.unique_name}, not {src}"
            return self.mq_broadcaster.broadcast_object(obj)
        parcel = [obj]
        torch.distributed.broadcast_object_list(parcel, src=self.ranks[src], group=self.cpu_group)
        return parcel[0]

    def broadcast_object_list(self, obj_list: list[Any], src: int = 0, group: ProcessGroup | None = None) -> list[Any]:
        """Fill the list with the objects of the rank at place ``src``, and return it; over the device group."""
        assert src < self.world_size, f"Invalid src rank ({src})"
        if self.world_size > 1:
            torch.distributed.broadcast_object_list(obj_list, src=self.ranks[src], group=self.device_group)
        return obj_list

    def all_gather_object(self, obj: Any) -> list[Any]:
        """Every rank's object, by place."""
        gathered: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(gathered, obj, group=self.cpu_group)
        return gathered

    @released(TAGGED)
    def send_object(self, obj: Any, dst: int, async_send: bool = False, tag: int = 0) -> list[P2PWork]:
        """Send an object to the rank at place ``dst``; with ``async_send``, what must be waited for is returned.

        Raises AssertionError for no such place, or this rank's own.
        """
        self._check_other(dst, "destination")
        parcel = torch.frombuffer(bytearray(pickle.dumps(obj)), dtype=torch.uint8)
        size = torch.tensor([parcel.numel()], dtype=torch.long)
        send: Callable[..., Any] = torch.distributed.isend if async_send else torch.distributed.send
        works = [P2PWork(send(part, self.ranks[dst], group=self.cpu_group, tag=tag), part) for part in (size, parcel)]
        return works if async_send else []

    @released(TAGGED)
    def recv_object(self, src: int, tag: int = 0) -> Any:
        """The object that the rank at place ``src`` sends; raises AssertionError for no such place, or its own."""
        self._check_other(src, "source")
        size = self._receive_host(torch.empty(1, dtype=torch.long), src, tag)
        parcel = self._receive_host(torch.empty(int(size), dtype=torch.uint8), src, tag)
        return pickle.loads(parcel.numpy().tobytes())

    def _check_other(self, rank: int, what: str) -> None:
        assert rank < self.world_size, f"Invalid {what} rank ({rank})"
        assert rank != self.rank_in_group, f"Invalid {what} rank ({rank}): it is the current rank"

    def _receive_host(self, room: torch.Tensor, src: int, tag: int) -> torch.Tensor:
        """Receive into host memory; ``irecv`` serves what was sent either way."""
        work = torch.distributed.irecv(room, src=self.ranks[src], group=self.cpu_group, tag=tag)
        if work is not None:
            work.wait()
        return room
