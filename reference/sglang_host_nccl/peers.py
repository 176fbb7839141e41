"""What ranks send each other, two by two: any number of messages at once, in pieces.

Two ranks share words that count the pieces written and read, in each direction, and room for two pieces. The first
piece of a message says how long it is and of which type.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from . import arithmetic
from .codes import TYPES, Failure, Result
from .operations import Kind, Operation
from .segment import PAIR_BUFFER, Segment, order_memory

_WRITTEN, _READ, _TYPE, _COUNT = 0, 1, 2, 4  # the last two for pieces of even and odd numbers


def run(segment: Segment | None, rank: int, operations: Sequence[Operation]) -> None:
    """Send and receive all these; messages between two ranks in their order, all else at once."""
    wanted = [operation for operation in operations if operation.elements]  # nothing to move is nothing to do
    wanted.sort(key=lambda operation: operation.kind)  # the others wait for what is sent
    ways = _ways(segment, rank, [operation for operation in wanted if operation.peer != rank])
    moved = [way.move() for way in ways]
    _to_itself(rank, [operation for operation in wanted if operation.peer == rank])
    while ways:
        ways = [way for way in ways if not way.is_done]
        if ways and not any(moved):
            _await_any(ways)
        moved = [way.move() for way in ways]


def _ways(segment: Segment | None, rank: int, operations: Iterable[Operation]) -> list[_Way]:
    found: dict[tuple[Kind, int], _Way] = {}
    for operation in operations:
        assert segment is not None, "a communicator of one rank has no peers"
        key = (operation.kind, operation.peer)
        found.setdefault(key, _Way(segment, rank, *key)).queue.append(operation)
    return list(found.values())


def _await_any(ways: Sequence[_Way]) -> None:
    peers = tuple({way.peer for way in ways})
    ways[0].segment.await_until(lambda: any(way.can_move for way in ways), peers)


def _to_itself(rank: int, operations: Sequence[Operation]) -> None:
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
        self.segment = segment
        self.peer = peer
        self.queue: deque[Operation] = deque()
        self._sends = kind == Kind.SEND
        self._source, self._target = (rank, peer) if self._sends else (peer, rank)
        self._words = segment.pair(self._source, self._target)
        self._moved = 0  # bytes of the first in the queue

    @property
    def is_done(self) -> bool:
        """Whether all messages have been moved."""
        return not self.queue

    @property
    def can_move(self) -> bool:
        """Whether this rank can move a piece."""
        words, first = self.segment.words, self._words
        outstanding = words[first + _WRITTEN] - words[first + _READ]
        return outstanding < 2 if self._sends else outstanding > 0

    def move(self) -> bool:
        """Move as many pieces as can be; whether any was."""
        moved = False
        while self.queue and self.can_move:
            operation = self.queue[0]
            size = operation.elements * TYPES[operation.type].size
            length = min(PAIR_BUFFER, size - self._moved)
            order_memory()
            self._put(operation, length) if self._sends else self._take(operation, length)
            self._moved += length
            if self._moved == size:
                self._moved = 0
                self.queue.popleft()
            moved = True
        return moved

    def _put(self, operation: Operation, length: int) -> None:
        words, number = self.segment.words, self.segment.words[self._words + _WRITTEN]
        words[self._words + _TYPE + number % 2] = operation.type
        words[self._words + _COUNT + number % 2] = operation.elements
        room = self.segment.pair_buffer(self._source, self._target, number)
        arithmetic.copy(room, operation.source + self._moved, length)
        order_memory()
        words[self._words + _WRITTEN] = number + 1

    def _take(self, operation: Operation, length: int) -> None:
        words, number = self.segment.words, self.segment.words[self._words + _READ]
        type_, count = words[self._words + _TYPE + number % 2], words[self._words + _COUNT + number % 2]
        _require_alike(self.peer, operation, type_, count)
        room = self.segment.pair_buffer(self._source, self._target, number)
        arithmetic.copy(operation.target + self._moved, room, length)
        order_memory()
        words[self._words + _READ] = number + 1
