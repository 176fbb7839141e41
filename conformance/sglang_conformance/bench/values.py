"""The numbers that go into an all-reduce and the sums that must come out, on a rank's device.

They are the oracle's, whose sums are exact in every order, as far as a tile reaches, and then again from its start. A
tile's length is a prime, so that rows or blocks that went astray do not look right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..oracles import collectives as oracle

TILE = 32_749
VARIETY = 5
"""So many different tiles take turns: what is left of an earlier call, of whichever engine, is wrong in the next."""

_APART = 1_009


@dataclass(frozen=True)
class Tile:
    """What a rank brings, and the sum that all must have: on the device, and on the host for a second look."""

    given: Any
    total: Any
    given_on_host: Any
    total_on_host: Any


def tiles(dtype: str, rank: int, size: int, count: int, device: Any) -> tuple[Tile, ...]:
    """The tiles of one rank of ``size``, for tensors of ``count`` elements."""
    import torch

    kind = getattr(torch, dtype)
    made = []
    for number in range(VARIETY):
        parts = [oracle.part("sum", dtype, each, size, min(count, TILE), _APART * number) for each in range(size)]
        given, total = (torch.from_numpy(each).to(kind) for each in (parts[rank], oracle.reduced("sum", parts)))
        made.append(Tile(given.to(device), total.to(device), given, total))
    return tuple(made)


def fill(tensor: Any, tile: Any) -> None:
    """Write a tile into a contiguous tensor, over and over."""
    for part, numbers in _parts(tensor, tile):
        part.copy_(numbers)


def wrong(tensor: Any, tile: Any) -> int:
    """How many elements of a tensor differ from the tile that it should hold over and over; NaN always does."""
    return sum(int((part != numbers).sum()) for part, numbers in _parts(tensor, tile))


def _parts(tensor: Any, tile: Any) -> Iterator[tuple[Any, Any]]:
    flat, length = tensor.reshape(-1), tile.numel()
    whole = flat.numel() // length * length
    if whole:
        yield flat[:whole].view(-1, length), tile
    if whole < flat.numel():
        yield flat[whole:], tile[: flat.numel() - whole]
