"""A collective of torch with all that it takes: tensors for what is given and for what is got, and how each is judged.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from . import tensors
from .judging import Verdict
from .parts import MOVE, Parts

if TYPE_CHECKING:
    from ...oracles.collectives import Array

Judge = Callable[[Verdict, Any, str], None]


@dataclass(frozen=True)
class Seat:
    """A rank's place in one of torch's groups; ``ranks`` are the numbers that its members have in the world."""

    group: Any
    ranks: tuple[int, ...]
    place: int
    device: Any

    @property
    def size(self) -> int:
        """How many ranks the group has."""
        return len(self.ranks)

    @property
    def words(self) -> str:
        """The group, for people."""
        return f"in the group of ranks {', '.join(map(str, self.ranks))}"


@dataclass(frozen=True)
class Held:
    """A tensor that a collective is given, what must stand in it afterwards (None: anything), and what it is."""

    laid: tensors.Laid
    judge: Judge | None
    words: str = ""


@dataclass(frozen=True)
class Prepared:
    """A collective with all that it takes, to be begun once.

    ``begin(async_op)`` calls it, and gives the works that are to be waited for: none unless asynchronous; that of what
    is received before that of what is sent.
    """

    call: str
    begin: Callable[[bool], list[Any]]
    results: tuple[Held, ...]
    inputs: tuple[Held, ...] = field(default=())

    def judge(self, verdict: Verdict, results: Sequence[Any] | None = None) -> None:
        """Judge every result (or these copies of them), what lies around each, and that the inputs are as they were.

        Where copies are given, inputs are not judged: they may have been overwritten.
        """
        for number, held in enumerate(self.results):
            got = held.laid.tensor if results is None else results[number]
            if held.judge is not None:
                held.judge(verdict, got, f"{self.call}{held.words}")
        for held in (*self.results, *self.inputs):
            verdict.equal(held.laid.disturbed(), 0, call=f"{self.call}{held.words}: changed elements around the tensor")
        for held in self.inputs if results is None else ():
            if held.judge is not None:
                held.judge(verdict, held.laid.tensor, f"{self.call}{held.words}: its input afterwards")

    def copies(self) -> list[Any]:
        """Copies of the results, made on the current stream."""
        return [held.laid.tensor.clone() for held in self.results]

    def spoil(self) -> None:
        """Overwrite what was given, and what was got."""
        for held in (*self.inputs, *self.results):
            held.laid.tensor.fill_(float("nan"))


@dataclass(frozen=True)
class Table:
    """What a collective is prepared from."""

    name: str
    at: Seat
    parts: Parts
    root: int
    layout: str
    owner: str = "torch.distributed"

    @property
    def call(self) -> str:
        """The call, for people."""
        how = "" if self.parts.operation == MOVE else f", {self.parts.operation}"
        where = "" if self.at.ranks == tuple(range(self.at.size)) else f" {self.at.words}"
        return f"{self.owner}.{self.name} of {self.parts.dtype} {list(self.shape)}{how}{where}"

    @property
    def shape(self) -> tuple[int, ...]:
        """That of one rank's part, with all its copies."""
        return shape_of(self.parts)

    @property
    def rooted(self) -> str:
        """The call with its root."""
        return f"{self.call}, root {self.at.ranks[self.root]}"

    @property
    def is_root(self) -> bool:
        """Whether this rank is it."""
        return self.at.place == self.root

    def held(self, numbers: Array, judge: Judge | None = None, words: str = "") -> Held:
        """A tensor of these numbers."""
        return Held(tensors.laid(numbers, self.parts.dtype, self.at.device, self.layout), judge, words)

    def room(self, shape: Sequence[int], judge: Judge, words: str = "") -> Held:
        """Room for a result, poisoned."""
        import numpy as np

        made = self.held(np.zeros(tuple(shape)), judge, words)
        made.laid.tensor.fill_(tensors.poison(self.parts.dtype))
        return made

    def same(self, numbers: Array, words: str = "") -> Held:
        """An input, which must stay as it is."""
        return self.held(numbers, lambda v, got, call: v.holds(got, numbers, self.parts.dtype, call), words)

    def rooms(self) -> tuple[Held, ...]:
        """Room for every rank's part."""
        return tuple(
            self.room(self.shape, partial(moved, self.parts, rank), f": element {rank}") for rank in range(self.at.size)
        )


def moved(parts: Parts, rank: int, verdict: Verdict, got: Any, call: str) -> None:
    """One rank's part, as it is: for a tensor that is to hold it."""
    verdict.moved(got, parts, rank, call)


def shape_of(parts: Parts) -> tuple[int, ...]:
    """The shape of one rank's part, with all its copies."""
    return (parts.copies * parts.shape[0], *parts.shape[1:]) if parts.copies > 1 else parts.shape
