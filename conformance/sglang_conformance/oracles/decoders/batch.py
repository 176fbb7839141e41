"""Sequences of tokens, laid out as rows one after another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .arithmetic import Array, attended

Rows = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Batch:
    """Whole sequences, each from its first token on."""

    sequences: Rows

    @staticmethod
    def of(sequences: Sequence[Sequence[int]]) -> Batch:
        """A batch of sequences. Raises ValueError where there is none, or an empty one."""
        return Batch(_checked(sequences))

    @cached_property
    def tokens(self) -> Array:
        """All tokens."""
        return np.array(list(itertools.chain(*self.sequences)), dtype=np.int64)

    @cached_property
    def positions(self) -> Array:
        """Each token's place in its sequence."""
        return np.concatenate([np.arange(len(sequence)) for sequence in self.sequences])

    @cached_property
    def spans(self) -> tuple[slice, ...]:
        """Each sequence's rows."""
        ends = list(itertools.accumulate(len(sequence) for sequence in self.sequences))
        return tuple(slice(end - len(each), end) for end, each in zip(ends, self.sequences, strict=True))

    @property
    def last(self) -> Array:
        """The row of each sequence's last token."""
        return np.array([span.stop - 1 for span in self.spans])

    def row(self, sequence: int, position: int) -> int:
        """The row of a token. Raises IndexError where the sequence has no such position."""
        if not 0 <= position < len(self.sequences[sequence]):
            raise IndexError(f"sequence {sequence} has no position {position}")
        return int(self.spans[sequence].start) + position

    def attended(self, layer: int, queries: Array, keys: Array, values: Array, scale: float) -> Array:
        """What each token takes of its own sequence in a layer."""
        return np.concatenate([attended(queries[span], keys[span], values[span], scale) for span in self.spans])


@dataclass(frozen=True)
class Draft(Batch):
    """The newest tokens of sequences, with what is remembered of those before: a guess, which need not be trusted."""

    seen: tuple[int, ...] = ()
    kept: dict[tuple[int, int], tuple[Array, Array]] = field(default_factory=dict)

    @staticmethod
    def of(sequences: Sequence[Sequence[int]]) -> Draft:
        """Sequences of which nothing is remembered. Raises ValueError where there is none, or an empty one."""
        return Draft(_checked(sequences), (0,) * len(sequences))

    def then(self, tokens: Sequence[int]) -> Draft:
        """One more token for each sequence."""
        seen = tuple(before + len(each) for before, each in zip(self.seen, self.sequences, strict=True))
        return Draft(tuple((int(token),) for token in tokens), seen, self.kept)

    @cached_property
    def positions(self) -> Array:
        """Each token's place in its sequence."""
        return np.concatenate([b + np.arange(len(s)) for b, s in zip(self.seen, self.sequences, strict=True)])

    def attended(self, layer: int, queries: Array, keys: Array, values: Array, scale: float) -> Array:
        """What each token takes of its own sequence in a layer, whose keys and values are remembered."""
        given = []
        for sequence, span in enumerate(self.spans):
            known, worth = keys[span], values[span]
            if before := self.kept.get((layer, sequence)):
                known, worth = np.concatenate([before[0], known]), np.concatenate([before[1], worth])
            self.kept[layer, sequence] = known, worth
            given.append(attended(queries[span], known, worth, scale))
        return np.concatenate(given)


def _checked(sequences: Sequence[Sequence[int]]) -> Rows:
    if not len(sequences) or not all(len(sequence) for sequence in sequences):
        raise ValueError("a batch needs sequences of one token or more")
    return tuple(tuple(map(int, sequence)) for sequence in sequences)
