"""What came of serving: the tokens of each request, their logits, and what was seen on the way. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .leg import Leg, Request
from .watch import Pass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """What a request came to: its tokens, and of each the row of logits that it was chosen by.

    ``logits`` are empty on a rank that has none (the first stages of a pipeline). ``reason`` is SGLang's word for why
    it ended, such as length or abort; empty where it did not. ``by_graph`` says of each token whether a graph gave it.
    """

    request: Request
    tokens: tuple[int, ...] = ()
    logits: tuple[Array, ...] = ()
    by_graph: tuple[bool, ...] = ()
    reason: str = ""

    @property
    def sequence(self) -> tuple[int, ...]:
        """The prompt, and what was made of it."""
        return (*self.request.prompt, *self.tokens)


@dataclass(frozen=True)
class Memory:
    """Slots that are free, that the prefix cache can give up, and how many there are; and rows for requests."""

    available: int
    evictable: int
    total: int
    rows: int
    rows_total: int


@dataclass(frozen=True)
class Served:
    """One leg on one rank.

    ``captured`` are the batch sizes that have a graph, ``retracted`` counts requests that had to begin anew for want of
    slots, ``cached`` tokens that were found in the prefix cache. ``classes`` are those of the pool, the allocator, the
    attention backend and the graph runner, ``places`` the lines of those that are a vendor's. ``elsewhere`` are the
    bytes on other devices than the rank's, by index; None where they are not counted.
    """

    leg: Leg
    rank: int
    answers: Mapping[str, Answer]
    passes: tuple[Pass, ...]
    before: Memory
    after: Memory
    captured: tuple[int, ...] = ()
    retracted: int = 0
    cached: int = 0
    steps: int = 0
    seconds: float = 0.0
    classes: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[int, int] | None = None

    @property
    def tokens(self) -> dict[str, tuple[int, ...]]:
        """Each request's tokens."""
        return {name: answer.tokens for name, answer in self.answers.items()}
