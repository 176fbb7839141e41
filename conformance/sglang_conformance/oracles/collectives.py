"""What collectives give: numbers that tell which rank they come from, and what follows from them, on plain arrays.

Every rank brings its own numbers. Those to be summed end in bits that are the rank's own, and at each position one rank
fills all bits of the type: a sum of them is exact in every order, shows whose part is missing or counted twice, and
does not survive a way through a narrower type. Those to be moved hold their rank and their position, in all bits too.
Floats have fractions, so that a way through integers shows. Floating types are computed as float64, all others as
int64; torch and its backends have no part in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_MOST_POWERS = 13
_MOST_SUBSETS = 8
# Primes, each the last below a power of two: a shift by a round number does not go unnoticed.
_TURNS = (32749, 16381, 8191, 4093, 2039, 1021, 509, 251, 127, 61, 31, 13, 7, 5, 3, 2)
_GOLDEN = 0.6180339887498949  # steps of that part of the whole come near every number soon
_FRACTION = 4.0


@dataclass(frozen=True)
class Kind:
    """A type of numbers: a float with so many ``bits`` of precision and a largest power of two, or an integer."""

    floating: bool
    bits: int
    top: int
    signed: bool = True

    @property
    def epsilon(self) -> float:
        """The distance from 1 to the next number; 0 for integers."""
        return 2.0 ** (1 - self.bits) if self.floating else 0.0

    @property
    def smallest(self) -> float:
        """The least positive number of full precision; 0 for integers."""
        return 2.0 ** (1 - self.top) if self.floating else 0.0


KINDS: Mapping[str, Kind] = {
    "bfloat16": Kind(True, 8, 127),
    "float16": Kind(True, 11, 15),
    "float32": Kind(True, 24, 127),
    "float64": Kind(True, 53, 1023),
    "int8": Kind(False, 7, 6),
    "int16": Kind(False, 15, 14),
    "int32": Kind(False, 31, 30),
    "int64": Kind(False, 62, 61),
    "uint8": Kind(False, 8, 7, signed=False),
    "bool": Kind(False, 1, 0, signed=False),
    "float8_e4m3fn": Kind(True, 4, 7),
    "float8_e5m2": Kind(True, 3, 14),
}
"""By torch's names."""

_COMBINED: Mapping[str, Callable[[Array, Array], Array]] = {
    "sum": np.add,
    "avg": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "product": np.multiply,
    "band": np.bitwise_and,
    "bor": np.bitwise_or,
    "bxor": np.bitwise_xor,
}
OPERATIONS = tuple(_COMBINED)


def part(operation: str, dtype: str, rank: int, size: int, count: int, salt: int = 0) -> Array:
    """The numbers that a rank of ``size`` brings to a reduction; another ``salt`` gives other numbers.

    Their reduction is exact in the type, and so is each step towards it; of an average, only where the number of ranks
    is a power of two.
    """
    kind, places = KINDS[dtype], np.arange(count) + salt
    if operation in ("sum", "avg"):
        return _fraction(_typed(_summand(rank, size, places, kind), kind))
    if operation in ("min", "max"):
        return _fraction(_typed(_comparable(rank, size, places, kind), kind))
    if operation == "product":
        doubles = (rank + places) % 3 == 0 if rank < kind.top // 2 else places < 0
        return _typed(np.where(doubles, 2, 1), kind)
    return _typed(_mixed(rank, places) % (1 << kind.bits), kind)


def tags(dtype: str, rank: int, size: int, count: int, salt: int = 0) -> Array:
    """Numbers to be moved: each holds its rank and, as far as the type has room, its position."""
    kind = KINDS[dtype]
    places = np.arange(count) + salt
    if (room := _room(size, kind)) < 2:
        return _fraction(_typed(_mixed(rank, places) % min(1 << kind.bits, 4), kind))
    tagged = _turned(places, room) * size + rank
    return _fraction(_typed(tagged * (1 - (places // 2 & 1) * 2) if kind.signed else tagged, kind))


def noise(dtype: str, count: int, scale: int, seed: int) -> Array:
    """Random numbers of a floating type, about two to the power of ``scale``: their sums are not exact."""
    kind = KINDS[dtype]
    drawn = np.random.default_rng(seed).standard_normal(count)
    drawn = np.copysign(np.maximum(np.abs(drawn), 1 / 16), drawn) * 2.0**scale
    digits, powers = np.frexp(drawn)
    rounded: Array = np.ldexp(np.round(digits * 2.0**kind.bits), powers - kind.bits)
    return rounded


def reduced(operation: str, parts: Sequence[Array]) -> Array:
    """The reduction of all ranks' parts, place by place; an average is a float64."""
    whole: Array = reduce(_COMBINED[operation], parts)
    return whole / len(parts) if operation == "avg" else whole


def tolerance(dtype: str, parts: Sequence[Array]) -> Array:
    """How far a sum in that type may be from the exact one: each of the additions, in whatever order, rounds a partial
    sum, which is at most the sum of all sizes; and once more on the way out. What is smaller than the type's full
    precision reaches may be flushed.
    """
    kind = KINDS[dtype]
    sizes: Array = reduce(np.add, [np.abs(each) for each in parts])
    return sizes * kind.epsilon * len(parts) + kind.smallest


def rounding(dtype: str, exact: Array) -> Array:
    """How far a number in that type may be from the exact one, rounded twice."""
    return 2 * np.abs(exact) * KINDS[dtype].epsilon


def split(whole: Array, sizes: Sequence[int]) -> list[Array]:
    """The rows of a whole, parted: ``sizes[i]`` of them to the i-th."""
    ends = list(itertools.accumulate(sizes))
    return [whole[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def exchanged(inputs: Sequence[Sequence[Array]], rank: int) -> list[Array]:
    """What a rank has after an exchange in which rank s gives rank d ``inputs[s][d]``."""
    return [given[rank] for given in inputs]


def wrong(got: Array, expected: Array, within: Array | float = 0.0) -> NDArray[np.int64]:
    """The flat positions at which an array of the same shape is not what was expected; a NaN equals a NaN."""
    within = np.broadcast_to(within, expected.shape).reshape(-1)
    got, expected = got.reshape(-1), expected.reshape(-1)
    if (got == expected).all():
        return np.empty(0, dtype=np.int64)
    with np.errstate(invalid="ignore"):
        near = np.abs(got - expected) <= within
        right = (got == expected) | near
    if got.dtype.kind == "f":
        right |= np.isnan(got) & np.isnan(expected)
    return np.flatnonzero(~right)


def told(got: float, expected: float, parts: Sequence[float], operation: str) -> str:
    """In words, what became of the ranks' parts at one position; empty where no simple fault explains it.

    ``operation`` is a reduction's, or ``move``: then the expected number is one of the parts.
    """
    if operation in ("sum", "avg"):
        return _told_of_sum(got * (len(parts) if operation == "avg" else 1), got, parts)
    holders = [rank for rank, each in enumerate(parts) if each == got]
    owners = [rank for rank, each in enumerate(parts) if each == expected]
    if len(holders) == 1 and got != expected:
        return f"it is the number of rank {holders[0]}" + (f", not of rank {owners[0]}" if len(owners) == 1 else "")
    return ""


def _told_of_sum(total: float, got: float, parts: Sequence[float]) -> str:
    ranks = range(len(parts))
    if len(set(map(abs, parts))) < len(parts) or 0 in parts:
        return ""
    whole = sum(parts)
    if total != got and got == whole:
        return "the sum, not divided by the number of ranks"
    if len(parts) <= _MOST_SUBSETS:
        for count in range(1, len(parts)):
            for some in itertools.combinations(ranks, count):
                if total == whole - sum(parts[rank] for rank in some):
                    return f"without {_named(some)}"
    for rank in ranks:
        if total == whole + parts[rank]:
            return f"rank {rank} counted twice"
    for lost, doubled in itertools.permutations(ranks, 2):
        if total == whole - parts[lost] + parts[doubled]:
            return f"rank {doubled} counted in place of rank {lost}"
    multiples = [times for times in range(2, len(parts) + 1) if total == times * whole]
    return f"the sum of all ranks, {multiples[0]} times" if multiples else ""


def _named(ranks: Sequence[int]) -> str:
    return ("rank " if len(ranks) == 1 else "ranks ") + " and ".join(map(str, ranks))


def _typed(numbers: Array, kind: Kind) -> Array:
    return numbers.astype(np.float64 if kind.floating else np.int64)


def _fraction(numbers: Array) -> Array:
    return numbers / _FRACTION if numbers.dtype.kind == "f" else numbers


def _room(size: int, kind: Kind) -> int:
    """How many numbers the type has for each rank, without its greatest one, which may be what stands in a result that
    was not written.
    """
    return ((1 << kind.bits) - 1) // size


def _turned(places: Array, room: int) -> Array:
    """Numbers below ``room`` that change from each position to the next, and reach far into its bits; a shift by less
    than all of them changes each.
    """
    if room > _TURNS[0]:
        bits = room.bit_length() - 1
        odd = int(_GOLDEN * (1 << bits)) | 1
        return _mixed_free(places + 1, odd) & ((1 << bits) - 1)
    turns = next(each for each in _TURNS if each <= room)
    found: Array = (places + 1) * max(1, round(_GOLDEN * turns)) % turns
    return found


def _mixed_free(places: Array, factor: int) -> Array:
    """The product's lower bits, whatever it comes to."""
    found: Array = (places.astype(np.uint64) * np.uint64(factor)).view(np.int64)
    return found


def _comparable(rank: int, size: int, places: Array, kind: Kind) -> Array:
    """Numbers of which each rank's is the least once, and the greatest once, in as many positions as there are ranks:
    all of one sign, all of the other, or of both, in turns.
    """
    room = _room(size, kind)
    numbers = (_turned(places, room) if room > 1 else 0) * size + (rank + places) % size
    if not kind.signed:
        return numbers
    either = 1 - (rank + places & 1) * 2
    found: Array = numbers * np.choose(places // size % 3, [1, -1, either])
    return found


@cache
def _levels(size: int, bits: int) -> int:
    """How many different powers of two the ranks have: as many as there are ranks, if the bits hold their sum."""
    fitting = (n for n in range(min(size, bits), 0, -1) if n + (-(-size // n) - 1).bit_length() <= bits)
    return next(fitting, 1)


def _summand(rank: int, size: int, places: Array, kind: Kind) -> Array:
    """The rank's own power of two; above those of all ranks, at positions that take turns, what fills the type's bits;
    and for all ranks alike a sign and a power of two that change with the position.
    """
    levels, low = _levels(size, kind.bits), _summed_bits(size, kind.bits)
    own = np.full_like(places, 1 << (rank % levels))
    high = kind.bits - low
    if high > 0:
        top = 1 << (high - 1)
        filled = top | (_mixed(0, places) & (top - 1) if kind.signed else _mixed(0, places) % max(1, top - 1))
        own = own + np.where((rank + places) % size == 0, filled << low, 0)
    turns, powers = np.divmod(places, _powers(kind))
    found: Array = np.left_shift(own, powers)
    return found * (1 - 2 * (turns & 1)) if kind.signed else found


def _summed_bits(size: int, bits: int) -> int:
    """How many bits the sum of all ranks' own powers of two takes."""
    levels = _levels(size, bits)
    return levels + (-(-size // levels) - 1).bit_length()


@cache
def _powers(kind: Kind) -> int:
    """How many powers of two there are for positions: a number of a float has the more of them, the fewer its bits."""
    return _prime_to(kind.top + 2 - kind.bits, min(_MOST_POWERS, 63 - kind.bits)) if kind.floating else 1


def _prime_to(room: int, most: int) -> int:
    """The largest prime up to both; 1 where there is none."""
    for number in range(min(room, most), 1, -1):
        if all(number % divisor for divisor in range(2, number)):
            return number
    return 1


def _mixed(rank: int, places: Array) -> Array:
    """Numbers of 63 bits, without any order to them."""
    mixed = (places.astype(np.uint64) + np.uint64(97 * (rank + 1))) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    found: Array = ((mixed ^ (mixed >> np.uint64(32))) >> np.uint64(1)).astype(np.int64)
    return found
