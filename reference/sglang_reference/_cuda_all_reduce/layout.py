"""Where things lie in the memory that the ranks of a CUDA engine share, and how one operation is parted: pure.

A rank's memory has the board (:mod:`.kernels`), then, each twice, a slot for every rank to push to, room for a staged
input, and room for this rank's chunk of the sum. Everything begins at a multiple of 16 bytes, the unit of all moves.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence
from dataclasses import dataclass

PACK = 16  # bytes that a thread moves at once
MAX_WORLD = 16
LINE_WORDS = 16  # of eight bytes: a line of the device's cache
_ALIGNMENT = 1024
_WORD = 8
_MEETINGS = 2
_WARP = 32
_FEW, _MANY = 4, 16  # warps of a block: two sizes, so that few kernels must be compiled


class Algorithm(enum.Enum):
    """How an operation is done; the values are SGLang's names of them."""

    ONE_SHOT_PUSH = "1shot_push"
    TWO_SHOT_PUSH = "2shot_push"
    ONE_SHOT_PULL = "1shot_pull"
    TWO_SHOT_PULL = "2shot_pull"

    @property
    def pushes(self) -> bool:
        """Whether ranks write to each other; else they read, and can read registered inputs where they lie."""
        return self in (Algorithm.ONE_SHOT_PUSH, Algorithm.TWO_SHOT_PUSH)

    @property
    def shots(self) -> int:
        """1 where every rank sums all, 2 where each sums a chunk."""
        return 1 if self in (Algorithm.ONE_SHOT_PUSH, Algorithm.ONE_SHOT_PULL) else 2


class Row(enum.IntEnum):
    """The rows of the table of addresses. All but the first are two: for operations of even and of odd numbers."""

    BOARD = 0
    PUSH = 1
    STAGE = 3
    RESULT = 5


@dataclass(frozen=True)
class Layout:
    """The shared memory of ``world`` ranks, for launches of at most ``blocks`` blocks.

    ``push_bytes`` is a slot's length, ``pull_bytes`` that of the longest input that is staged or has its sum parted;
    0 where the algorithms that need it are never asked for. Raises ValueError for what cannot be.
    """

    world: int
    blocks: int
    push_bytes: int
    pull_bytes: int

    def __post_init__(self) -> None:
        if not 2 <= self.world <= MAX_WORLD:
            raise ValueError(f"the kernels serve 2 to {MAX_WORLD} ranks, not {self.world}")
        if self.blocks < 1:
            raise ValueError(f"a launch has at least one block, not {self.blocks}")
        if min(self.push_bytes, self.pull_bytes) < 0 or self.push_bytes % PACK or self.pull_bytes % PACK:
            raise ValueError(f"{self.push_bytes} and {self.pull_bytes} bytes are not both multiples of {PACK}")

    @property
    def head_words(self) -> int:
        """The words before a board's first line: each block's number, one for failure, and padding."""
        return _up(self.blocks + 1, LINE_WORDS)

    @property
    def board_bytes(self) -> int:
        """The length of a board."""
        return _WORD * (self.head_words + _MEETINGS * self.blocks * LINE_WORDS)

    @property
    def chunk_bytes(self) -> int:
        """The length of a rank's chunk of the longest input."""
        return PACK * -(-self.pull_bytes // (PACK * self.world))

    @property
    def total_bytes(self) -> int:
        """The length of a rank's memory."""
        row, length = list(self._areas())[-1]
        return row + length

    def capacity(self, algorithm: Algorithm, registered: bool = False) -> int:
        """The longest input in bytes; ``registered``: one that the others read where it lies."""
        if algorithm is Algorithm.ONE_SHOT_PUSH:
            return self.push_bytes
        if algorithm is Algorithm.TWO_SHOT_PUSH:
            return self.world * PACK * (self.push_bytes // (2 * PACK))
        if algorithm is Algorithm.ONE_SHOT_PULL and registered:
            return 1 << 30
        return self.pull_bytes

    def table(self, bases: Sequence[int]) -> list[list[int]]:
        """The table of addresses, by the ranks' memories as one process sees them: rows by :class:`Row`."""
        return [[base + offset for base in bases] for offset, _ in self._areas()]

    def _areas(self) -> list[tuple[int, int]]:
        """Offset and length of what each row of the table stands for."""
        lengths = [self.board_bytes]
        for length in (self.world * self.push_bytes, self.pull_bytes, self.chunk_bytes):
            lengths += [length, length]
        areas, offset = [], 0
        for length in lengths:
            areas.append((offset, length))
            offset += _up(length, _ALIGNMENT)
        return areas


@dataclass(frozen=True)
class Launch:
    """One operation: how many ``packs`` of 16 bytes, of ``pack`` elements each, by how many blocks of how many warps,
    each ``tile`` elements at a time.
    """

    packs: int
    pack: int
    grid: int
    warps: int
    tile: int


@functools.lru_cache(4096)
def launch(layout: Layout, algorithm: Algorithm, nbytes: int, itemsize: int, registered: bool = False) -> Launch:
    """How an input of that many bytes is parted among blocks: every rank parts it alike.

    Each thread moves 16 bytes at a time. Raises ValueError for bytes that are no multiple of 16, none at all, or more
    than the memory holds.
    """
    if nbytes <= 0 or nbytes % PACK:
        raise ValueError(f"{nbytes} bytes are not a positive multiple of {PACK}")
    capacity = layout.capacity(algorithm, registered)
    if nbytes > capacity:
        raise ValueError(f"{nbytes} bytes are more than {algorithm.value} has room for, {capacity}")
    packs = nbytes // PACK
    parted = packs if algorithm.shots == 1 else -(-packs // layout.world)
    warps = _FEW if parted <= layout.blocks * _FEW * _WARP else _MANY
    threads = warps * _WARP
    grid = min(layout.blocks, -(-parted // threads))
    return Launch(packs, PACK // itemsize, grid, warps, threads * PACK // itemsize)


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
