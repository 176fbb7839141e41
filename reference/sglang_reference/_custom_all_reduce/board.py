"""Where the ranks of a group leave texts for each other, and how one waits for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

_SHORTEST, _LONGEST = 0.001, 0.05  # pauses between two looks, in seconds


class Board(Protocol):
    """A text stays as it was first written. The methods do not wait; a board that is gone raises OSError or
    RuntimeError.
    """

    def settle(self, key: str, text: str) -> str:
        """Leave a text where there is none yet; returns the one that is there then, which is the same for all."""

    def read(self, key: str) -> str | None:
        """The text; None while there is none."""


class StoreBoard:
    """A board on a store of torch.distributed, under a prefix of its own. The texts stay while the store does."""

    def __init__(self, store: Any, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def settle(self, key: str, text: str) -> str:
        """Leave a text where there is none yet; returns the one that is there then."""
        return bytes(self._store.compare_set(f"{self._prefix}/{key}", "", text)).decode()

    def read(self, key: str) -> str | None:
        """The text; None while there is none. It never waits in the store, whose other users would wait as well."""
        name = f"{self._prefix}/{key}"
        return bytes(self._store.get(name)).decode() if self._store.check([name]) else None


def board_of(group: Any, purpose: str = "custom_all_reduce") -> Board:
    """A fresh board for the ranks of a process group, on the store with which the group was made.

    All ranks must ask equally often: each time it is another board.
    """
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import _get_process_group_store

    store = _get_process_group_store(group)
    turn = store.add(f"{purpose}/asked by {dist.get_rank(group)}", 1)
    return StoreBoard(store, f"{purpose}/{turn}")


def texts(board: Board, keys: Sequence[str], seconds: float, enough: Callable[[], bool]) -> list[str | None]:
    """The texts, waited for until all are there, ``enough`` says so, or time is up: None for those that are not."""
    moment, pause = time.monotonic() + seconds, _SHORTEST
    found = [board.read(key) for key in keys]
    while None in found and time.monotonic() < moment and not enough():
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST)
        found = [text if text is not None else board.read(key) for key, text in zip(keys, found, strict=True)]
    return found
