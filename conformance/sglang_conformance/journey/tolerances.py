"""How far a right platform's numbers may be from the oracle's, and when it may choose another token.

An operator rounds what it gives, and some of what it makes on the way, to the type of numbers in use: each time by the
type's unit roundoff u of a number at most. Sums are taken in float32 or better whatever the type, so that a sum of n
products is off by about the root of n of float32's roundoffs, in whatever order it is taken; so is the angle of a
rotation, by the position. With the widest row and the longest sequence, each of an operator's ``ROUNDINGS`` is

    e = u + 2**-24 * (1 + sqrt(width) + sqrt(positions))

of a number at most, and 0.41 of that on average, up or down; numbers smaller than is usual in their row are taken as
that, since they may be sums of larger ones. What becomes of it on the way, through all layers, is not for a formula to
say: norms make it smaller, sharp attention and gates larger. So the oracle itself is run again with such errors in
every operator, by chance up or down, some times over; what its numbers are off by is what rounding does to this model,
on these tokens, at this depth. ``RESERVE`` times the largest of each row is the tolerance: other orders of rounding
lead to other errors, and right platforms round where the table does not know it, as in the parts of a sum that ranks
add.

Measured on plain torch, in the three types, with sums in other orders and in the parts of one, two and four ranks: the
largest error of any point and row was seven tenths of the tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..oracles.collectives import KINDS

if TYPE_CHECKING:
    from ..oracles.decoders.decoder import Decoder, Trace
    from ..oracles.decoders.points import Point

Array = NDArray[np.float64]

DTYPES = ("float32", "bfloat16", "float16")
"""The types that there are tolerances for."""

ROUNDINGS: Mapping[str, int] = {
    "embedding": 0,
    "pool": 0,
    "residual": 1,
    "norm": 2,
    "linear": 2,
    "rope": 2,
    "attention": 3,
    "activation": 2,
    "router": 1,
    "topk": 1,
    "experts": 4,
    "logits": 1,
}
"""How often an operator rounds."""

RESERVE = 2.5
"""How many times the largest error of the runs with errors is allowed."""

RESERVE_ALONE = 6.0
"""How many times the largest error of a single rounding is allowed to an operator alone, for each root of roundings."""

_USUAL = 0.41
_RUNS = 3


def roundoff(dtype: str) -> float:
    """How far rounding to a type takes a number at most, as a part of it. Raises ValueError for another type."""
    if dtype not in DTYPES:
        raise ValueError(f"no tolerance for {dtype}: there is one for {', '.join(DTYPES)}")
    return KINDS[dtype].epsilon / 2.0


def along(decoder: Decoder, trace: Trace, dtype: str) -> dict[str, Array]:
    """The tolerances of each point by name, ``[token]``, for numbers computed all the way from the tokens.

    They are finite and, but for the embedding, above zero; those of chosen experts are zero. Raises ValueError for a
    type without tolerances.
    """
    each = _each(trace, dtype)
    largest = {point.name: np.zeros(len(point.value)) for point in trace.points}
    for run in range(_RUNS):
        signs = _Signs(run)

        def off(point: Point, signs: _Signs = signs) -> NDArray[Any]:
            if not _rounds(point):
                return point.value
            usual: float = _USUAL * each * ROUNDINGS[point.operator] ** 0.5
            error: Array = usual * _size(point.value) * signs.drawn(point.value.shape)
            return point.value + error

        for right, wrong in zip(trace.points, decoder.followed(trace.batch.sequences, off).points, strict=True):
            own = 2 * _USUAL * each * ROUNDINGS[right.operator] ** 0.5 * _size(right.value)
            error = np.abs(wrong.value - right.value) + (own if _rounds(right) else 0.0)
            largest[right.name] = np.maximum(largest[right.name], error.max(axis=1))
    return {name: RESERVE * np.maximum(rows, np.mean(rows)) for name, rows in largest.items()}


def alone(trace: Trace, dtype: str) -> dict[str, Array]:
    """The tolerances of each point by name, ``[token, column]``, where the oracle followed the platform.

    That is, for the errors of one operator that was given what the oracle was given. Raises ValueError for a type
    without tolerances.
    """
    each = _each(trace, dtype)
    return {
        point.name: RESERVE_ALONE * each * ROUNDINGS[point.operator] ** 0.5 * _rounds(point) * _size(point.value)
        for point in trace.points
    }


def undecided(margins: NDArray[Any], tolerance: NDArray[Any] | float) -> NDArray[np.bool_]:
    """Where a right platform may choose another token: the two best logits may each be off, towards each other."""
    near: NDArray[np.bool_] = margins < 2 * tolerance
    return near


class _Signs:
    """Plus and minus one, the same each time, whatever release of numpy draws them."""

    def __init__(self, run: int) -> None:
        self._bits = np.random.Philox(key=run)

    def drawn(self, shape: tuple[int, ...]) -> NDArray[np.int8]:
        count = int(np.prod(shape))
        bits = np.unpackbits(self._bits.random_raw(-(-count // 64)).astype("<u8").view(np.uint8), count=count)
        return (bits.astype(np.int8) * 2 - 1).reshape(shape)


def _each(trace: Trace, dtype: str) -> float:
    width = max(point.value.shape[1] for point in trace.points)
    positions = max(len(sequence) for sequence in trace.batch.sequences)
    sums: float = 1.0 + width**0.5 + positions**0.5
    return roundoff(dtype) + roundoff("float32") * sums


def _rounds(point: Point) -> bool:
    return bool(ROUNDINGS[point.operator]) and point.value.dtype.kind == "f"


def _size(value: NDArray[Any]) -> Array:
    """Of each number; at least what is usual in its row."""
    usual = np.sqrt(np.mean(np.square(value), axis=1, keepdims=True))
    size: Array = np.maximum(np.abs(value), usual)
    return size
