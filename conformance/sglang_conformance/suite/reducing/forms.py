"""The forms in which a tensor may lie in its storage, and what all ranks bring to a sum in one of them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from ..collecting.parts import Parts

if TYPE_CHECKING:
    from ...oracles.collectives import Array

_PERIOD = 16_381  # a prime: what is wrong by a round number of elements shows


@dataclass(frozen=True)
class Form:
    """How a tensor lies in a storage of so many elements: with these strides, from this offset on."""

    words: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    storage: int

    def of(self, flat: Array) -> Array:
        """The tensor's numbers, of those of the storage."""
        import numpy as np

        width = flat.itemsize
        strides = tuple(stride * width for stride in self.strides)
        found: Array = np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, strides, writeable=False)
        copied: Array = found.copy()
        return copied

    def laid(self, storage: Any) -> Any:
        """The tensor, in a flat one that is its storage."""
        return storage.as_strided(self.shape, self.strides, self.offset)


def contiguous(*shape: int) -> Form:
    """One that fills its storage, in order."""
    return Form("contiguous", shape, steps(shape), 0, prod(shape))


def steps(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a contiguous tensor."""
    return tuple(prod(shape[place + 1 :]) for place in range(len(shape)))


DENSE = (
    contiguous(8, 16),
    Form("at the start of a larger storage", (8, 16), (16, 1), 0, 256),
    Form("in the midst of a larger storage", (8, 16), (16, 1), 64, 256),
    Form("in a larger storage, from its third element on", (8, 16), (16, 1), 3, 140),
    Form("at the end of a larger storage", (8, 16), (16, 1), 128, 256),
    Form("transposed", (16, 8), (1, 16), 0, 128),
    Form("transposed, at the end of a larger storage", (16, 8), (1, 16), 128, 256),
    Form("transposed, in the midst of a larger storage", (16, 8), (1, 16), 64, 256),
    Form("with its last dimension first", (4, 8, 4), (1, 16, 4), 0, 128),
    Form("with odd strides where there is one element", (1, 8, 1, 16), (999, 16, 5, 1), 0, 128),
)
"""Forms in which no element lies between, or is, two of the tensor's."""

SPARSE = (
    Form("every second column", (8, 16), (32, 2), 0, 256),
    Form("the first columns of wider rows", (8, 16), (24, 1), 0, 192),
    Form("the last columns of wider rows", (8, 16), (24, 1), 8, 192),
    Form("every second row, transposed", (16, 8), (1, 32), 0, 256),
)
"""Forms with elements between."""

OVERLAPPING = (
    Form("one row, expanded", (8, 16), (0, 1), 0, 16),
    Form("one row, expanded, in a storage of as many elements as it shows", (8, 16), (0, 1), 0, 128),
    Form("rows that overlap, in a storage of as many elements as it shows", (8, 16), (8, 1), 0, 128),
)
"""Forms that show elements several times."""


@dataclass(frozen=True)
class Brought:
    """What ``size`` ranks bring to a sum: a tensor of this form and type each. Another ``salt``, other numbers."""

    dtype: str
    size: int
    form: Form
    salt: int = 0

    def storage(self, rank: int) -> Array:
        """The numbers of a rank's storage."""
        import numpy as np

        count = self.form.storage
        some = Parts("sum", self.dtype, self.size, (min(count, _PERIOD),), self.salt).of(rank)
        return np.resize(some, count) if count > _PERIOD else some

    def of(self, rank: int) -> Array:
        """The numbers of a rank's tensor."""
        return self.form.of(self.storage(rank))

    def all(self) -> list[Array]:
        """Every rank's."""
        return [self.of(rank) for rank in range(self.size)]

    def reduced(self) -> Array:
        """Their sum."""
        import numpy as np

        from ...oracles import collectives as oracle

        count = self.form.storage
        whole = oracle.reduced("sum", Parts("sum", self.dtype, self.size, (min(count, _PERIOD),), self.salt).all())
        return self.form.of(np.resize(whole, count) if count > _PERIOD else whole)

    def words(self) -> str:
        """Type, shape and form, for people."""
        form = "" if self.form.words == "contiguous" else f", {self.form.words}"
        return f"{self.dtype} {list(self.form.shape)}{form}"


def flat(dtype: str, size: int, count: int, salt: int = 0) -> Brought:
    """So many elements of each rank, in a row."""
    return Brought(dtype, size, contiguous(count), salt)


def drawn(shape: Sequence[int], lanes: int, order: Sequence[int], offset: int, behind: int, gap: int) -> Form:
    """A form from numbers drawn at random.

    The last dimension is ``lanes`` times as long; its dimensions lie in memory in this order, with a ``gap`` between
    its rows, ``offset`` elements before it and some behind it.
    """
    lengths = (*shape[:-1], shape[-1] * lanes)
    places = [place for place in order if place < len(lengths)]
    strides, reach = [0] * len(lengths), 1
    for number, place in enumerate(reversed(places)):
        strides[place] = reach
        reach = reach * lengths[place] + (gap if number == 0 else 0)
    told = [f"its dimensions in the order {places}"] if places != sorted(places) else []
    told += [f"a gap of {gap}"] if gap else []
    told += [f"offset {offset} in a larger storage"] if offset or behind else []
    return Form(", ".join(told) or "contiguous", lengths, tuple(strides), offset, offset + reach + behind)
