"""Uneven collectives of a communicator and of its group: each rank has rows of a number of its own, or none.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..collecting import tensors
from ..collecting.judging import Verdict, attempt
from ..collecting.parts import Parts, moved
from ..member import Member
from . import communicators


@dataclass(frozen=True)
class Rows:
    """How many rows each rank has, of so many columns of a type; another ``salt``, other numbers."""

    dtype: str
    sizes: Sequence[int]
    columns: int
    salt: int

    def parts(self, member: Member) -> list[Any]:
        """Each rank's rows, to be gathered."""
        made = (moved(member, self.dtype, (rows, self.columns), self.salt) for rows in self.sizes)
        return [each.of(rank) for rank, each in enumerate(made)]

    def whole(self, member: Member) -> Parts:
        """What each rank brings to a sum, of which each is to have its rows."""
        return Parts("sum", self.dtype, member.size, (sum(self.sizes), self.columns), self.salt)

    def mine(self, rank: int) -> slice:
        """A rank's rows of the whole."""
        first = sum(self.sizes[:rank])
        return slice(first, first + self.sizes[rank])


def one_without(size: int) -> Iterator[Rows]:
    """Each rank in turn has no rows; and once all but one have none.

    The turns go round both ways: on more than two ranks what remembers sizes by a rank's own rows and those of all is
    wrong there.
    """
    for way in (1, -1):
        for number in range(size):
            yield Rows("float32", [way * (rank - number) % size for rank in range(size)], 2, number)
    yield Rows("bfloat16", [0] * (size - 1) + [3], 1, 9)


def gathered(member: Member, verdict: Verdict, communicator: Any, rows: Rows) -> None:
    """Gather by the communicator, and judge the result, what lies around it, and that the input stays."""
    import numpy as np

    parts, sizes = rows.parts(member), list(rows.sizes)
    call = f"{communicators.OWNER}.all_gather of {rows.dtype} with sizes={sizes}"
    own = tensors.laid(parts[member.number], rows.dtype, member.device, tensors.OFFSET)
    room = tensors.room((sum(sizes), rows.columns), rows.dtype, member.device)
    attempt(call, communicator.all_gather, room.tensor, own.tensor, sizes=sizes)
    verdict.holds(room.tensor, np.concatenate(parts), rows.dtype, call)
    verdict.equal(room.disturbed(), 0, call=f"{call}: changed elements around it")
    verdict.holds(own.tensor, parts[member.number], rows.dtype, f"{call}: its input afterwards")


def scattered(member: Member, verdict: Verdict, communicator: Any, rows: Rows) -> None:
    """Reduce and scatter by the communicator, and judge in the same way."""
    whole, sizes, mine = rows.whole(member), list(rows.sizes), rows.mine(member.number)
    call = f"{communicators.OWNER}.reduce_scatter of {whole.words()} with sizes={sizes}"
    own = tensors.laid(whole.of(member.number), rows.dtype, member.device, tensors.OFFSET)
    room = tensors.room((sizes[member.number], rows.columns), rows.dtype, member.device)
    attempt(call, communicator.reduce_scatter, room.tensor, own.tensor, sizes=sizes)
    _is_part(verdict, room.tensor, whole, mine, call)
    verdict.equal(room.disturbed(), 0, call=f"{call}: changed elements around it")
    verdict.holds(own.tensor, whole.of(member.number), rows.dtype, f"{call}: its input afterwards")


def gathered_by_group(member: Member, verdict: Verdict, rows: Rows) -> None:
    """all_gatherv of the group, of one tensor and of two at once."""
    import numpy as np

    parts, sizes = rows.parts(member), list(rows.sizes)
    call = f"GroupCoordinator.all_gatherv of {rows.dtype} with sizes={sizes}"
    own = tensors.made(parts[member.number], rows.dtype, member.device)
    single = attempt(call, member.coordinator.all_gatherv, own, sizes=sizes)
    several = attempt(f"{call}, of two tensors", member.coordinator.all_gatherv, [own, own.clone()], sizes=sizes)
    for got in (*_each(single), *_each(several)):
        verdict.holds(got, np.concatenate(parts), rows.dtype, call)


def scattered_by_group(member: Member, verdict: Verdict, rows: Rows) -> None:
    """reduce_scatterv of the group."""
    whole, sizes = rows.whole(member), list(rows.sizes)
    call = f"GroupCoordinator.reduce_scatterv of {whole.words()} with sizes={sizes}"
    own = tensors.made(whole.of(member.number), rows.dtype, member.device)
    got = attempt(call, member.coordinator.reduce_scatterv, own, sizes=sizes)
    _is_part(verdict, got, whole, rows.mine(member.number), call)


def _is_part(verdict: Verdict, got: Any, whole: Parts, mine: slice, call: str) -> None:
    def theirs() -> list[Any]:
        return [part[mine] for part in whole.all()]

    verdict.holds(got, whole.reduced()[mine], whole.dtype, call, sources=theirs, operation="sum")


def _each(answer: Any) -> list[Any]:
    return list(answer) if isinstance(answer, list | tuple) else [answer]
