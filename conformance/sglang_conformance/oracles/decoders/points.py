"""The named values on the way through a decoder, and what each rank has of them.

A point is what a module of SGLang's model gives out, or what then stands in the pool of keys and values. Its value is
that of the whole model, a row for each token. Where ranks share the work, each has some columns of it, or all, or a
summand: the ranks' summands are the value once they have been reduced.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from .arithmetic import Array, projected


@dataclass(frozen=True)
class Place:
    """A rank of a tensor-parallel group of ``size``, whose ranks share the experts among ``experts`` parts of it.

    Within such a part, ranks share each expert's columns. Raises ValueError where the numbers do not fit.
    """

    rank: int = 0
    size: int = 1
    experts: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size or self.size % self.experts:
            raise ValueError(f"no place: {self}")

    @property
    def expert_part(self) -> int:
        """Which part of the experts the rank has."""
        return self.rank // (self.size // self.experts)

    @property
    def within_experts(self) -> Place:
        """Its place among the ranks that have the same experts."""
        size = self.size // self.experts
        return Place(self.rank % size, size)


class Held(Protocol):
    """How ranks hold a value."""

    @property
    def partial(self) -> bool:
        """Whether what a rank has is a summand."""

    def part(self, value: Array, place: Place) -> Array:
        """What a rank has of a value, before any reduction."""


@dataclass(frozen=True)
class Everywhere:
    """Every rank has the whole value."""

    partial: ClassVar[bool] = False

    def part(self, value: Array, place: Place) -> Array:
        """All of it."""
        return value


@dataclass(frozen=True)
class Block:
    """``count`` groups of columns, each of ``width``; where there are more ranks than groups, several have the same."""

    count: int
    width: int = 1

    def share(self, place: Place) -> slice:
        """The columns of a rank. Raises ValueError where groups do not divide among ranks."""
        if self.count % place.size and place.size % self.count:
            raise ValueError(f"{self.count} do not divide among {place.size} ranks")
        each = max(1, self.count // place.size)
        first = place.rank * self.count // place.size
        return slice(first * self.width, (first + each) * self.width)


@dataclass(frozen=True)
class Columns:
    """Every rank has its share of each block of columns, one block after another."""

    blocks: tuple[Block, ...]
    partial: ClassVar[bool] = False

    def part(self, value: Array, place: Place) -> Array:
        """The rank's shares, side by side."""
        ends = np.cumsum([block.count * block.width for block in self.blocks])
        wholes = np.split(value, ends[:-1], axis=1)
        return np.concatenate([w[:, b.share(place)] for w, b in zip(wholes, self.blocks, strict=True)], axis=1)


@dataclass(frozen=True)
class Vocabulary:
    """Every rank has the columns of so many tokens of the vocabulary, which is first filled up to a round number."""

    padding: ClassVar[int] = 64
    partial: ClassVar[bool] = False

    def part(self, value: Array, place: Place) -> Array:
        """The columns of the rank's tokens; those that fill up are left out."""
        return value[:, vocabulary_share(value.shape[1], place)]


@dataclass(frozen=True)
class Embedded:
    """Every rank has the rows of a table for its tokens of the vocabulary, and gives zeros for all others."""

    tokens: Array
    vocabulary: int
    partial: ClassVar[bool] = True

    def part(self, value: Array, place: Place) -> Array:
        """The rows whose tokens are the rank's."""
        share = vocabulary_share(self.vocabulary, place)
        own = (self.tokens >= share.start) & (self.tokens < share.stop)
        masked: Array = np.where(own[:, None], value, 0.0)
        return masked


@dataclass(frozen=True)
class Projected:
    """Every rank has some columns of the inputs, and those of the weight ``[output, input]`` that they meet."""

    inputs: Array
    weight: Array
    block: Block
    partial: ClassVar[bool] = True

    def part(self, value: Array, place: Place) -> Array:
        """The rank's columns, projected."""
        share = self.block.share(place)
        return projected(self.inputs[:, share], self.weight[:, share])


@dataclass(frozen=True)
class Experts:
    """Every rank has some of the experts, and of each of these some columns.

    ``activations`` are ``[choice, token, column]``, ``chosen`` and ``shares`` ``[token, choice]``, ``weights``
    ``[expert, output, column]``.
    """

    activations: Array
    chosen: Array
    shares: Array
    weights: Array
    partial: ClassVar[bool] = True

    def part(self, value: Array, place: Place) -> Array:
        """The sum of what the rank's experts give, by its columns of them."""
        own = Block(len(self.weights)).share(Place(place.expert_part, place.experts))
        columns = Block(self.weights.shape[2]).share(place.within_experts)
        summand = np.zeros_like(value)
        for choice, activations in enumerate(self.activations):
            for expert in range(own.start, own.stop):
                rows = np.flatnonzero(self.chosen[:, choice] == expert)
                given = projected(activations[rows][:, columns], self.weights[expert][:, columns])
                summand[rows] += given * self.shares[rows, choice, None]
        return summand


def vocabulary_share(count: int, place: Place) -> slice:
    """A rank's tokens of a vocabulary. SGLang fills it up to a multiple of 64, and then divides it.

    (0.5.11 to 0.5.23: layers/vocab_parallel_embedding.py.)
    """
    each = -(-count // Vocabulary.padding) * Vocabulary.padding // place.size
    return slice(min(each * place.rank, count), min(each * (place.rank + 1), count))


@dataclass(frozen=True)
class Point:
    """A value on the way.

    ``module`` is the dotted name that the module has in SGLang's model, and ``output`` says which of its values this
    is, if it gives several. ``operator`` is its kind, ``layer`` the layer's index, if it is in one. ``value`` is
    ``[token, column]``, of all ranks together.
    """

    module: str
    operator: str
    layer: int | None
    value: Array
    held: Held = Everywhere()
    output: str = ""

    @property
    def name(self) -> str:
        """The module, and which of its values."""
        return f"{self.module}:{self.output}" if self.output else self.module

    @property
    def partial(self) -> bool:
        """Whether ranks have summands of it until they reduce them; afterwards each has the whole value."""
        return self.held.partial

    def part(self, place: Place) -> Array:
        """What a rank's module gives, before any reduction."""
        return self.held.part(self.value, place)


Steps = Generator[Point, Array, Array]
"""Points, one after another; for each is sent what to go on with. What they lead to is returned."""


def named(points: Sequence[Point], name: str) -> Point:
    """The point of that name. Raises KeyError where there is none."""
    for point in points:
        if point.name == name:
            return point
    raise KeyError(name)
