"""What ranks send each other, two by two: any number of messages at once, in pieces.

Two ranks share words that count the pieces written and read, in each direction, and room for two pieces. The first
piece of a message says how long it is and of which type.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from sglang_host_memory import Segment, order_memory

from . import arithmetic
from .codes import TYPES, Failure, Result
from .operations import Kind, Operation

PAIR_BUFFER = 1 << 18  # bytes, of which each ordered pair of ranks has two

_WRITTEN, _READ, _TYPE, _COUNT = 0, 1, 2, 4  # the last two for pieces of even and odd numbers


class Exchange:
    """All messages of a rank, those to itself too."""

    def __init__(self, segment: Segment | None, rank: int) -> None:
        self._segment = segment
        self._rank = rank
        self._ways: dict[tuple[Kind, int], _Way] = {}

    def run(self, operations: Iterable[Operation]) -> None:
        """Send and receive all these; messages between two ranks in their order, all else at once."""
        own: list[Operation] = []
        ways: dict[_Way, None] = {}
        for operation in operations:
            if not operation.elements:  # nothing to move is nothing to do
                continue
            if operation.peer == self._rank:
                own.append(operation)
                continue
            way = self._way(operation.kind, operation.peer)
            way.queue.append(operation)
            ways[way] = None
        for way in ways:
            if way.sends:  # first, as the others wait for it
                way.move()
        _to_itself(self._rank, own)
        waiting = [way for way in ways if way.queue]
        while waiting:
            moved = [way.move() for way in waiting]
            if not any(moved):
                self._await_any(waiting)
            waiting = [way for way in waiting if way.queue]

    def _way(self, kind: Kind, peer: int) -> _Way:
        way = self._ways.get((kind, peer))
        if way is None:
            assert self._segment is not None, "a communicator of one rank has no peers"
            way = self._ways[kind, peer] = _Way(self._segment, self._rank, kind, peer)
        return way

    def _await_any(self, ways: Sequence[_Way]) -> None:
        assert self._segment is not None
        peers = tuple({way.peer for way in ways})
        self._segment.await_until(lambda: any(way.can_move() for way in ways), peers)


def _to_itself(rank: int, operations: Sequence[Operation]) -> None:
    if not operations:
        return
    given = [operation for operation in operations if operation.kind == Kind.SEND]
    taken = [operation for operation in operations if operation.kind == Kind.RECV]
    if len(given) != len(taken):
        text = f"rank {rank} sends itself {len(given)} messages in a group and receives {len(taken)}"
        raise Failure(Result.INVALID_USAGE, text)
    for one, other in zip(given, taken, strict=True):
        _require_alike(rank, other, one.type, one.elements)
        arithmetic.copy(other.target, one.source, one.elements * TYPES[one.type].size)


def _require_alike(sender: int, operation: Operation, type_: int, count: int) -> None:
    if (type_, count) != (operation.type, operation.elements):
        sent, wanted = f"{count} {TYPES[type_].name}", f"{operation.elements} {TYPES[operation.type].name}"
        raise Failure(Result.INVALID_USAGE, f"rank {sender} sends {sent} where {wanted} are to be received")


class _Way:
    """The messages that this rank has for one peer, or that one peer has for it."""

    def __init__(self, segment: Segment, rank: int, kind: Kind, peer: int) -> None:
        self.peer = peer
        self.sends = kind == Kind.SEND
        self.queue: deque[Operation] = deque()
        self._words = segment.words
        self._segment = segment
        self._source, self._target = (rank, peer) if self.sends else (peer, rank)
        self._first = segment.layout.pair(self._source, self._target)
        self._moved = 0  # bytes of the first in the queue

    def can_move(self) -> bool:
        """Whether this rank can move a piece."""
        outstanding = self._words[self._first + _WRITTEN] - self._words[self._first + _READ]
        return outstanding < 2 if self.sends else outstanding > 0

    def move(self) -> bool:
        """Move as many pieces as can be; whether any was."""
        moved = False
        while self.queue and self.can_move():
            operation = self.queue[0]
            size = operation.elements * TYPES[operation.type].size
            length = min(PAIR_BUFFER, size - self._moved)
            order_memory()
            self._put(operation, length) if self.sends else self._take(operation, length)
            self._moved += length
            if self._moved == size:
                self._moved = 0
                self.queue.popleft()
            moved = True
        return moved

    def _put(self, operation: Operation, length: int) -> None:
        words, first = self._words, self._first
        number = words[first + _WRITTEN]
        words[first + _TYPE + number % 2] = operation.type
        words[first + _COUNT + number % 2] = operation.elements
        room = self._segment.pair_buffer(self._source, self._target, number)
        arithmetic.copy(room, operation.source + self._moved, length)
        order_memory()
        words[first + _WRITTEN] = number + 1

    def _take(self, operation: Operation, length: int) -> None:
        words, first = self._words, self._first
        number = words[first + _READ]
        _require_alike(self.peer, operation, words[first + _TYPE + number % 2], words[first + _COUNT + number % 2])
        room = self._segment.pair_buffer(self._source, self._target, number)
        arithmetic.copy(operation.target + self._moved, room, length)
        order_memory()
        words[first + _READ] = number + 1
