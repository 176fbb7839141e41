"""Memory that the ranks of a group share: made, opened and given back by all together.

A failure of one rank is raised on all, with its cause, and what was made until then is given back.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import NamedTuple, Protocol

from .gathering import Gather, together

logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """A place in memory as other processes find it: the handle of an allocation, and the bytes from its beginning."""

    handle: bytes
    offset: int


class Memory(Protocol):
    """A device's memory, which processes can open to each other. What cannot be done raises RuntimeError."""

    def allocate(self, length: int) -> int:
        """The address of so many bytes of new memory, all zero."""

    def free(self, address: int) -> None:
        """Give memory back."""

    def export(self, address: int) -> Place:
        """Where an address of this process is, for others."""

    def open(self, handle: bytes) -> int:
        """The address in this process where another process's allocation begins."""

    def close(self, address: int) -> None:
        """Let go of an allocation that was opened."""


class Peers:
    """Other ranks' allocations, opened in this process: each once, until it is closed."""

    def __init__(self, memory: Memory, rank: int) -> None:
        self._memory = memory
        self._rank = rank
        self._opened: dict[tuple[int, bytes], int] = {}

    def address(self, rank: int, place: Place, own: int) -> int:
        """The address here of a place of a rank's; ``own``, where that is this rank."""
        if rank == self._rank:
            return own
        key = rank, place.handle
        if key not in self._opened:
            self._opened[key] = self._memory.open(place.handle)
        return self._opened[key] + place.offset

    def close(self) -> None:
        """Let go of all of them."""
        while self._opened:
            _, address = self._opened.popitem()
            _attempt("letting go of a peer's memory", functools.partial(self._memory.close, address))


class Shared:
    """As much memory of every rank, opened on each.

    ``addresses``: where each rank's begins, in this process. All ranks make theirs together; raises RuntimeError on all
    where one cannot.
    """

    def __init__(self, memory: Memory, gather: Gather, rank: int, length: int) -> None:
        self._memory = memory
        self._gather = gather
        self.peers = Peers(memory, rank)
        self._own = 0
        self.addresses: list[int] = []
        try:
            places = together(gather, f"making {length} bytes of shared memory", lambda: self._make(length))
            together(gather, "opening the others' memory", lambda: self._open(places))
        except BaseException:
            self.close(alone=True)
            raise

    def _make(self, length: int) -> Place:
        self._own = self._memory.allocate(length)
        return self._memory.export(self._own)

    def _open(self, places: list[Place]) -> None:
        self.addresses = [self.peers.address(rank, place, self._own) for rank, place in enumerate(places)]

    def close(self, *, alone: bool = False) -> None:
        """Let go of the others' memory, and give this rank's back once they have let go of it, too.

        ``alone``: without waiting for them. Does nothing the second time.
        """
        self.peers.close()
        if not self._own:
            return
        if not alone:
            _attempt("waiting for the others to let go of memory", lambda: self._gather(None))
        own, self._own = self._own, 0
        _attempt("giving memory back", lambda: self._memory.free(own))


def _attempt(what: str, action: Callable[[], object]) -> None:
    """Do one step of many that are all to be tried; what goes wrong is told in the log."""
    try:
        action()
    except Exception as error:
        logger.warning("%s failed: %s", what, error)
