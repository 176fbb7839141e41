"""What several ranks saw of one leg, judged together: the earliest wrong number of any of them explains the others.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import islice
from typing import Any

from ...journey import birth
from ...journey.birth import Birth
from ...journey.served import Served
from .. import expect
from ..member import Member
from . import judging


def parts_are_right(member: Member, served: Served, kinds: Collection[str]) -> None:
    """Fail where the first wrong number of all ranks is born in these kinds: on the rank that has it.

    NotReached, on all ranks alike, where it is born in another: then what these were given was wrong. Nothing is wrong
    where the logits of all ranks are right. All ranks of the group must call it.
    """
    if not any(member.side.to_all(judging.goes_wrong(served))):
        return
    own = _born(served)
    told = None if own is None else [own.number, served.rank // served.leg.tp, own.order, own.kind, str(own)]
    said: list[Any] = member.side.to_all(told)
    wrong = [(*each, rank) for rank, each in enumerate(said) if each is not None]
    if not wrong:
        return
    *_, kind, text, rank = min(wrong, key=lambda each: (each[:3], each[-1]))
    if kind not in kinds:
        raise expect.NotReached(f"the first wrong number is born elsewhere, in the {kind} of rank {rank}: {text}")
    if rank == served.rank and own is not None:
        judging.tell(served, own)


def same_tokens(member: Member, served: Served) -> None:
    """Fail on a rank whose tokens are not those of the first. All ranks of the group must call it."""
    said = member.side.to_all({name: list(tokens) for name, tokens in served.tokens.items()})
    for name, tokens in said[0].items():
        expect.equal(
            said[served.rank][name],
            tokens,
            call=f"serving {served.leg}: the tokens of request {name}, beside those of rank 0",
            cause="ranks that go on with other tokens compute parts of different texts: a wrong sum, or the sampler",
        )


def _born(served: Served) -> Birth | None:
    """Where the first wrong number of this rank is born.

    In a ``stage`` where it came with what an earlier stage of the pipeline has sent: with the sum that a later stage
    begins with, and not with the norm that is taken of it.
    """
    found = list(islice(birth.differences(served.passes, judging.truth(served)), 2))
    if not found:
        return None
    first, after = found[0], found[-1]
    begins = _begins(served, first)
    if begins and after.kind == "residual" and (after.module, after.number) == (first.module, first.number):
        return replace(after, kind="stage", order=first.order)
    return first


def _begins(served: Served, found: Birth) -> bool:
    """Whether it is the first value of a pass on a later stage that the oracle has."""
    if served.rank < served.leg.tp:
        return False
    true, seen = judging.truth(served), served.passes[found.number].seen
    begins: int = next(order for order, each in enumerate(seen) if true.point(each) is not None)
    return found.order == begins
