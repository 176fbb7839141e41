"""How a tensor is parted: into tiles that fit into the ranks' memory, and each tile into shares, one a rank."""

from __future__ import annotations

from typing import NamedTuple

ALIGNED = 64  # bytes: shares begin at lines of the cache


class Share(NamedTuple):
    """A rank's part of a tile, in elements from the tile's beginning."""

    begin: int
    end: int


class Tile(NamedTuple):
    """A part of a tensor, in elements, and the share of each rank in it."""

    first: int
    length: int
    shares: tuple[Share, ...]


def tiles(count: int, most: int, size: int, width: int) -> tuple[Tile, ...]:
    """Tiles of at most ``most`` elements, as even as can be, of a tensor of ``count`` elements of ``width`` bytes."""
    number = max(1, -(-count // most))
    line = ALIGNED // width
    each = min(most, -(-count // number // line) * line or line)
    made = []
    for first in range(0, count, each):
        length = min(each, count - first)
        made.append(Tile(first, length, _shares(length, size, line)))
    return tuple(made)


def _shares(count: int, size: int, line: int) -> tuple[Share, ...]:
    each = -(-count // (size * line)) * line
    return tuple(Share(min(count, place * each), min(count, (place + 1) * each)) for place in range(size))


def share_bytes(tile: int, size: int) -> int:
    """The most bytes of a share in a tile of that many bytes."""
    return -(-tile // (size * ALIGNED)) * ALIGNED
