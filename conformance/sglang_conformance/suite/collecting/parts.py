"""What every rank brings to one collective, and what follows from it; the numbers are the oracle's.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...oracles.collectives import Array
    from ..member import Member

MOVE = "move"
_SHAPES = ((1,), (7,), (3, 5), (2, 1, 4))
_AGAIN = (5,)
_IN_TURN = (("float32", 4), ("float32", 16), ("bfloat16", 24), ("float16", 40), ("float32", 3), ("bfloat16", 56))


@dataclass(frozen=True)
class Parts:
    """The parts of ``size`` ranks: each of this shape, unless another is asked for, and of this type.

    ``operation`` is what they are for: a reduction, by the oracle's name, or MOVE. Another ``salt``, other numbers.
    ``copies``: so many times the same, one after the other.
    """

    operation: str
    dtype: str
    size: int
    shape: tuple[int, ...]
    salt: int = 0
    copies: int = 1

    def of(self, rank: int, shape: Sequence[int] | None = None) -> Array:
        """One rank's part."""
        import numpy as np

        from ...oracles import collectives as oracle

        wanted = self.shape if shape is None else tuple(shape)
        if self.operation == MOVE:
            numbers = oracle.tags(self.dtype, rank, self.size, prod(wanted), self.salt)
        else:
            numbers = oracle.part(self.operation, self.dtype, rank, self.size, prod(wanted), self.salt)
        numbers = numbers.reshape(wanted)
        return np.concatenate([numbers] * self.copies) if self.copies > 1 else numbers

    def all(self) -> list[Array]:
        """Every rank's part, by rank."""
        return [self.of(rank) for rank in range(self.size)]

    def reduced(self) -> Array:
        """What a reduction makes of them."""
        from ...oracles import collectives as oracle

        return oracle.reduced(self.operation, self.all())

    def gathered(self, dim: int = 0) -> Array:
        """All parts, joined along a dimension."""
        import numpy as np

        return np.concatenate(self.all(), axis=dim)

    def for_each(self) -> Parts:
        """The same with so many rows for each rank as these have in all."""
        return replace(self, shape=(self.size * self.shape[0], *self.shape[1:]))

    def words(self) -> str:
        """Type and shape, for people."""
        first = [self.copies * rows for rows in self.shape[:1]]
        return f"{self.dtype} {[*first, *self.shape[1:]]}"


def summed(member: Member, dtype: str, shape: Sequence[int], salt: int = 0) -> Parts:
    """Parts of all ranks of a member's group, to be summed."""
    return Parts("sum", dtype, member.size, tuple(shape), salt)


def moved(member: Member, dtype: str, shape: Sequence[int], salt: int = 0) -> Parts:
    """Parts of all ranks of a member's group, to be moved."""
    return Parts(MOVE, dtype, member.size, tuple(shape), salt)


def repeated(parts: Parts, copies: int) -> Parts:
    """The same numbers so many times over, one after the other: large parts are made more quickly so."""
    return replace(parts, copies=copies)


def each_type(
    member: Member, operation: str, dtypes: Sequence[str], *, scalars: bool = False, times: int = 2
) -> Iterator[Parts]:
    """Parts of each type, of shapes that take turns; ``scalars`` too, which have no dimension.

    Two ranks have them ``times`` over, more ranks once, where each collective takes so much longer.
    """
    shapes = (*_SHAPES, ()) if scalars else _SHAPES
    for number, dtype in enumerate(tuple(dtypes) * (times if member.size <= 2 else 1)):
        yield Parts(operation, dtype, member.size, shapes[number % len(shapes)], 3 * number)


def in_turn(member: Member) -> Iterator[tuple[Parts, Parts, int]]:
    """Parts to be summed, others to be moved, and a root, for calls that follow each other in the same memory.

    They are longer and shorter than those before, by elements and by bytes, and change their type.
    """
    for number, (dtype, count) in enumerate(_IN_TURN):
        yield summed(member, dtype, (count,), number), moved(member, dtype, (count,), number), number % member.size


def rooted(each: Iterable[Parts]) -> Iterator[tuple[Parts, int]]:
    """Parts with the rank that they go to or come from: the ranks take turns, and then each has its turn with one type
    and shape, the last rank first. What remembers a root by the type and the shape is wrong there.
    """
    parts = None
    for number, parts in enumerate(each):
        yield parts, number % parts.size
    if parts is not None:
        for rank in reversed(range(parts.size)):
            yield replace(parts, shape=_AGAIN, salt=parts.salt + 3 * (rank + 1)), rank
