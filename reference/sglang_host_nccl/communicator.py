"""One rank's communicator: what NCCL's collectives do, over the memory that the ranks share."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from sglang_host_memory import Layout, Segment, join

from . import arithmetic
from .codes import OPERATIONS, TYPES, Failure, Result, failures
from .operations import BETWEEN_TWO, Kind, Operation, told
from .peers import PAIR_BUFFER, Exchange

BUFFER = 1 << 20  # bytes, of which each rank has two
_ONE_STEP = 1 << 16  # bytes up to which every rank reduces all: above, each reduces its share
_ALIGNED = 64  # shares begin at lines of the cache


class Communicator:
    """A rank of a communicator, whose ranks meet at a name.

    Its operations raise :class:`.Failure`, and after one it takes no more.
    """

    def __init__(self, name: str, rank: int, size: int) -> None:
        with failures():
            segment = join(name, rank, Layout(size, BUFFER, PAIR_BUFFER)) if size > 1 else None
        self.rank = rank
        self.size = size
        self.error = Result.SUCCESS
        self.windows: dict[int, int] = {}
        self._segment = segment
        self._exchange = Exchange(segment, rank)
        self._lock = threading.Lock()

    def run(self, operations: Sequence[Operation]) -> None:
        """Do these: collectives in their order, then what is sent and received, all at once."""
        with self._lock:
            if self.error:
                raise Failure(self.error, "an earlier operation of this communicator has failed: abort it")
            try:
                with failures():
                    self._run(operations)
            except Failure as failure:
                self.error = failure.result
                if self._segment is not None:
                    self._segment.fail()
                raise

    def _run(self, operations: Sequence[Operation]) -> None:
        between = []
        for operation in operations:
            if operation.kind in BETWEEN_TWO:
                between.append(operation)
            else:
                self._collective(operation)
        if between:
            self._exchange.run(between)

    def abort(self) -> None:
        """End what another thread of this process does with it, and let go of it."""
        if self._segment is not None:
            self._segment.stop("the communicator was aborted")
        self.close(failed=True)

    def close(self, *, failed: bool = False) -> None:
        """Let go of it."""
        with self._lock:
            if self._segment is not None:
                self._segment.close(failed=failed)
            self._segment = None
            self._exchange = Exchange(None, self.rank)

    def _collective(self, operation: Operation) -> None:
        if self._segment is None:
            self._alone(operation)
            return
        size = operation.elements * TYPES[operation.type].size
        match operation.kind:
            case Kind.ALL_REDUCE if size <= _ONE_STEP:
                self._all_reduce_in_one_step(self._segment, operation, size)
            case Kind.ALL_REDUCE:
                self._all_reduce(self._segment, operation, size)
            case Kind.REDUCE:
                self._reduce(self._segment, operation, size)
            case Kind.BROADCAST:
                self._broadcast(self._segment, operation, size)
            case Kind.ALL_GATHER:
                self._all_gather(self._segment, operation, size)
            case Kind.REDUCE_SCATTER:
                self._reduce_scatter(self._segment, operation, size)

    def _alone(self, operation: Operation) -> None:
        arithmetic.copy(operation.target, operation.source, operation.elements * TYPES[operation.type].size)

    def _agree(self, segment: Segment, operation: Operation, first: int) -> None:
        """In the first piece of a collective: publish it, and see that all ranks are about to do the same."""
        if first:
            segment.publish()
            return
        what = operation.what
        other = segment.agree(what, operation.elements)
        if other is not None:
            theirs, own = told(*segment.said_by(other)[:2]), told(what, operation.elements)
            raise Failure(Result.INVALID_USAGE, f"rank {self.rank} calls {own}, but rank {other} calls {theirs}")

    def _all_reduce_in_one_step(self, segment: Segment, operation: Operation, size: int) -> None:
        step = segment.begin()
        arithmetic.copy(segment.buffer(self.rank, step), operation.source, size)
        self._agree(segment, operation, 0)
        self._combine(segment, step, 0, operation.target, operation.elements, operation)

    def _all_reduce(self, segment: Segment, operation: Operation, size: int) -> None:
        """In two steps: each rank reduces its share of what all have given, then all take the shares of the others."""
        width = TYPES[operation.type].size
        for first in range(0, size, BUFFER):
            length = min(BUFFER, size - first)
            step = segment.begin()
            arithmetic.copy(segment.buffer(self.rank, step), operation.source + first, length)
            self._agree(segment, operation, first)
            shares = _shares(length, self.size)
            begin, end = shares[self.rank]
            following = segment.begin()
            self._combine(segment, step, begin, operation.target + first + begin, (end - begin) // width, operation)
            arithmetic.copy(segment.buffer(self.rank, following) + begin, operation.target + first + begin, end - begin)
            segment.publish()
            for place in segment.others:
                segment.await_step(place, following)
                begin, end = shares[place]
                source = segment.buffer(place, following) + begin
                arithmetic.copy(operation.target + first + begin, source, end - begin)

    def _reduce(self, segment: Segment, operation: Operation, size: int) -> None:
        width = TYPES[operation.type].size
        for first in _pieces(size, BUFFER):
            length = min(BUFFER, size - first)
            step = segment.begin()
            arithmetic.copy(segment.buffer(self.rank, step), operation.source + first, length)
            self._agree(segment, operation, first)
            if self.rank == operation.peer:
                self._combine(segment, step, 0, operation.target + first, length // width, operation)

    def _broadcast(self, segment: Segment, operation: Operation, size: int) -> None:
        gives = self.rank == operation.peer
        for first in _pieces(size, BUFFER):
            length = min(BUFFER, size - first)
            step = segment.begin()
            if gives:
                arithmetic.copy(segment.buffer(self.rank, step), operation.source + first, length)
            self._agree(segment, operation, first)
            if gives:
                arithmetic.copy(operation.target + first, operation.source + first, length)
            else:
                segment.await_step(operation.peer, step)
                arithmetic.copy(operation.target + first, segment.buffer(operation.peer, step), length)

    def _all_gather(self, segment: Segment, operation: Operation, size: int) -> None:
        for first in _pieces(size, BUFFER):
            length = min(BUFFER, size - first)
            step = segment.begin()
            arithmetic.copy(segment.buffer(self.rank, step), operation.source + first, length)
            self._agree(segment, operation, first)
            arithmetic.copy(operation.target + self.rank * size + first, operation.source + first, length)
            for place in segment.others:
                segment.await_step(place, step)
                arithmetic.copy(operation.target + place * size + first, segment.buffer(place, step), length)

    def _reduce_scatter(self, segment: Segment, operation: Operation, size: int) -> None:
        width = TYPES[operation.type].size
        most = BUFFER // self.size // _ALIGNED * _ALIGNED
        for first in _pieces(size, most):
            length = min(most, size - first)
            step = segment.begin()
            for place in range(self.size):
                room = segment.buffer(self.rank, step) + place * most
                arithmetic.copy(room, operation.source + place * size + first, length)
            self._agree(segment, operation, first)
            self._combine(segment, step, self.rank * most, operation.target + first, length // width, operation)

    def _combine(self, segment: Segment, step: int, offset: int, target: int, count: int, operation: Operation) -> None:
        """Reduce what all ranks have put at that place of their buffers."""
        for place in segment.others:
            segment.await_step(place, step)
        parts = [segment.buffer(place, step) + offset for place in range(self.size)]
        arithmetic.reduce_into(target, parts, count, operation.type, OPERATIONS[operation.reduction])


def _pieces(size: int, most: int) -> range:
    """Where the pieces of so many bytes begin; one piece of nothing, on which ranks agree too."""
    return range(0, size or 1, most)


def _shares(length: int, ranks: int) -> list[tuple[int, int]]:
    """Where each rank's share of a buffer begins and ends."""
    share = -(-length // (ranks * _ALIGNED)) * _ALIGNED
    return [(min(place * share, length), min((place + 1) * share, length)) for place in range(ranks)]
