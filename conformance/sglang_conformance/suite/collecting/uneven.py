"""Uneven collectives: each rank has rows of a number of its own, or none; and a group's own, with these.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from ...hosts import groups
from .. import expect
from ..member import Member
from . import tensors
from .judging import REFUSED, Verdict, attempt, offered
from .parts import Parts, moved

sizes = st.lists(st.integers(0, 5), min_size=8, max_size=8)
"""How many rows each rank has: the first so many of these, and again from the start for a larger group."""


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


def dealt(dtype: str, sizes: Sequence[int], columns: int, salt: int, size: int) -> Rows:
    """Rows of the :data:`sizes` drawn, for so many ranks."""
    return Rows(dtype, [sizes[rank % len(sizes)] for rank in range(size)], columns, salt)


def one_without(size: int) -> Iterator[Rows]:
    """Each rank in turn has no rows; and once all but one have none.

    The turns go round both ways: on more than two ranks what remembers sizes by a rank's own rows and those of all is
    wrong there.
    """
    for way in (1, -1):
        for number in range(size):
            yield Rows("float32", [way * (rank - number) % size for rank in range(size)], 2, number)
    yield Rows("bfloat16", [0] * (size - 1) + [3], 1, 9)


def gathered_by_group(member: Member, verdict: Verdict, rows: Rows, *, refusable: bool = False) -> None:
    """all_gatherv of the group, of one tensor and of two at once; where it may refuse, all ranks have to."""
    import numpy as np

    call = f"GroupCoordinator.all_gatherv of {rows.dtype} with sizes={list(rows.sizes)}"
    parts = [each.parts(member) for each in (rows, replace(rows, salt=rows.salt + 1))]
    wholes = [np.concatenate(each) for each in parts]
    own = [tensors.made(each[member.number], rows.dtype, member.device) for each in parts]
    for words, given, expected in ((call, own[0], wholes[:1]), (f"{call}, of two tensors", own, wholes)):
        got = _answer(member, words, member.coordinator.all_gatherv, given, rows, refusable)
        if got is REFUSED:
            continue
        found = got if isinstance(got, list | tuple) else (got,)
        verdict.equal(len(found), len(expected), call=f"{words}: the number of tensors that it returns")
        for each, whole in zip(found, expected, strict=False):  # another number of them has just been told
            verdict.holds(each, whole, rows.dtype, words)


def scattered_by_group(member: Member, verdict: Verdict, rows: Rows, *, refusable: bool = False) -> None:
    """reduce_scatterv of the group."""
    whole = rows.whole(member)
    call = f"GroupCoordinator.reduce_scatterv of {whole.words()} with sizes={list(rows.sizes)}"
    own = tensors.made(whole.of(member.number), rows.dtype, member.device)
    got = _answer(member, call, member.coordinator.reduce_scatterv, own, rows, refusable)
    if got is not REFUSED:
        is_part(verdict, got, whole, rows.mine(member.number), call)


def refused_in_words(member: Member, host: str, rows: Rows) -> None:
    """Fail where a refusal is only that something is not there; HostDefect where SGLang's own method says so."""
    own = {
        "all_gatherv": rows.parts(member)[member.number],
        "reduce_scatterv": rows.whole(member).of(member.number),
    }
    for method, numbers in own.items():
        tensor = tensors.made(numbers, rows.dtype, member.device)
        try:
            getattr(member.coordinator, method)(tensor, sizes=list(rows.sizes))
        except AttributeError as error:
            fault = f"SGLang's own {method} of a group without a communicator fails before it says that one is required"
            try:
                expect.fail(
                    expected="an error that says what is missing, or an answer",
                    seen=f"AttributeError: {error}",
                    call=f"GroupCoordinator.{method} with sizes={list(rows.sizes)}",
                )
            except expect.Violation as violation:
                if host == "installed" and groups.is_hosts_own(method):
                    raise expect.HostDefect(fault, violation) from None
                raise
        except Exception:
            continue  # in words of its own


def _answer(member: Member, call: str, function: Callable[..., Any], given: Any, rows: Rows, refusable: bool) -> Any:
    if refusable:
        return offered(member, function, given, sizes=list(rows.sizes))
    return attempt(call, function, given, sizes=list(rows.sizes))


def is_part(verdict: Verdict, got: Any, whole: Parts, mine: slice, call: str) -> None:
    """Judge a rank's rows of a sum."""

    def theirs() -> list[Any]:
        return [part[mine] for part in whole.all()]

    verdict.holds(got, whole.reduced()[mine], whole.dtype, call, sources=theirs, operation="sum")
