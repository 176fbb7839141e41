"""What a communicator can be told to do, as plain numbers, and how it travels to a stream."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from .codes import OPERATIONS, TYPES, Failure, Result


class Kind(IntEnum):
    """What is done."""

    ALL_REDUCE = 1
    REDUCE = 2
    BROADCAST = 3
    ALL_GATHER = 4
    REDUCE_SCATTER = 5
    SEND = 6
    RECV = 7


_CALLS = {
    Kind.ALL_REDUCE: "ncclAllReduce",
    Kind.REDUCE: "ncclReduce",
    Kind.BROADCAST: "ncclBroadcast",
    Kind.ALL_GATHER: "ncclAllGather",
    Kind.REDUCE_SCATTER: "ncclReduceScatter",
    Kind.SEND: "ncclSend",
    Kind.RECV: "ncclRecv",
}
BETWEEN_TWO = (Kind.SEND, Kind.RECV)
"""Those in which only a rank and its peer take part."""

_ROOTED = (Kind.REDUCE, Kind.BROADCAST)
_REDUCE = (Kind.ALL_REDUCE, Kind.REDUCE, Kind.REDUCE_SCATTER)


class Operation(NamedTuple):
    """One call: the addresses ``source`` and ``target``, and ``elements`` of the type of that code.

    ``reduction`` is a code of an operation, ``peer`` the root or the other rank; each 0 where there is none. Elements
    are counted as NCCL's function does: what one rank gives an all-gather, what it gets from a reduce-scatter.
    """

    kind: Kind
    source: int
    target: int
    elements: int
    type: int
    reduction: int = 0
    peer: int = 0

    @property
    def what(self) -> int:
        """All but the count on which all ranks must agree, as one number."""
        return self.kind | self.type << 8 | self.reduction << 16 | self.peer << 24

    def require(self, rank: int, size: int) -> None:
        """Raise Failure for what NCCL refuses, on this rank of so many."""
        codes = 0 <= self.type < len(TYPES) and 0 <= self.reduction < len(OPERATIONS)
        if not (codes and 0 <= self.peer < size):
            raise Failure(Result.INVALID_ARGUMENT, f"{_CALLS[self.kind]}: {self._wrong_code(size)}")
        if not (self.source and self.target) and self.elements:
            self._require_pointers(rank)

    def _wrong_code(self, size: int) -> str:
        if not 0 <= self.type < len(TYPES):
            return f"{self.type} is not the code of a type"
        if not 0 <= self.reduction < len(OPERATIONS):
            return f"{self.reduction} is not the code of a reduction"
        return f"{'root' if self.kind in _ROOTED else 'peer'} {self.peer} is none of {size} ranks"

    def _require_pointers(self, rank: int) -> None:
        receives = self.kind != Kind.SEND and (self.kind != Kind.REDUCE or rank == self.peer)
        gives = self.kind != Kind.RECV and (self.kind != Kind.BROADCAST or rank == self.peer)
        if (gives and not self.source) or (receives and not self.target):
            name = "recvbuff" if self.source else "sendbuff"
            raise Failure(Result.INVALID_ARGUMENT, f"{_CALLS[self.kind]}: {name} is NULL")


def told(what: int, count: int) -> str:
    """What :attr:`Operation.what` and a count say, for people."""
    kind, type_, reduction, peer = what & 255, what >> 8 & 255, what >> 16 & 255, what >> 24
    text = f"{_CALLS[Kind(kind)]} of {count} {TYPES[type_].name}"
    if kind in _REDUCE:
        text += f", {OPERATIONS[reduction]}"
    return f"{text}, root {peer}" if kind in _ROOTED else text


# As it travels: the communicator and the number of operations, then each of them.
_HEADER = struct.Struct("=QQ")
_ENTRY = struct.Struct("=QQQQQQQ")


def pack(communicator: int, operations: Sequence[Operation]) -> bytes:
    """Operations of a communicator, by its handle, as bytes."""
    entries = [_ENTRY.pack(*operation) for operation in operations]
    return _HEADER.pack(communicator, len(entries)) + b"".join(entries)


def packed_length(head: bytes) -> int:
    """How many bytes there are, by the first :data:`HEAD_BYTES` of them."""
    entries: int = _HEADER.unpack(head)[1]
    return _HEADER.size + entries * _ENTRY.size


HEAD_BYTES = _HEADER.size


def unpack(data: bytes) -> tuple[int, list[Operation]]:
    """What :func:`pack` packed."""
    communicator, _ = _HEADER.unpack_from(data)
    entries = _ENTRY.iter_unpack(data[_HEADER.size :])
    return communicator, [Operation(Kind(kind), *numbers) for kind, *numbers in entries]
