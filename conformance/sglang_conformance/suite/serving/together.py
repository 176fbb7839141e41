"""What several ranks saw of one leg, judged together: the earliest wrong number of any of them explains the others.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from ...journey import birth
from ...journey.birth import Birth
from ...journey.served import Served
from ...journey.watch import Token
from .. import expect
from ..member import Member
from . import judging


@dataclass(frozen=True)
class _First:
    """The first wrong number of all ranks: in which pass, of what kind, on which rank, and which it is in words."""

    number: int
    kind: str
    rank: int
    text: str


def parts_are_right(member: Member, served: Served, kinds: Collection[str]) -> None:
    """Fail where the first wrong number of all ranks is born in these kinds: on the rank that has it.

    NotReached, on all ranks alike, where it is born in another: then what these were given was wrong. Nothing is wrong
    where the logits of all ranks are right, nor once ranks go on with other tokens. All ranks must call it.
    """
    found = _first(member, served)
    if found is None:
        return
    if found.kind not in kinds:
        where = f"in the {found.kind} of rank {found.rank}: {found.text}"
        raise expect.NotReached(f"serving {served.leg}: the first wrong number is born elsewhere, {where}")
    own = _born(served)
    if found.rank == served.rank and own is not None:
        judging.tell(served, own)


def same_tokens(member: Member, served: Served) -> None:
    """Fail on a rank whose tokens are not those of the first; NotReached where numbers were wrong before.

    All ranks of the group must call it.
    """
    said = _tokens(member, served)
    if all(tokens == said[0] for tokens in said):
        return
    found = _first(member, served)
    if found is not None:
        raise expect.NotReached(f"serving {served.leg}: the {found.kind} of rank {found.rank} is wrong: {found.text}")
    for name, tokens in said[0].items():
        expect.equal(
            said[served.rank][name],
            tokens,
            call=f"serving {served.leg}: the tokens of request {name}, beside those of rank 0",
            cause="all numbers up to there are right: the sampler, or a hook on it; ranks that go on with other tokens "
            "compute parts of different texts",
        )


def _first(member: Member, served: Served) -> _First | None:
    """The first wrong number, where it is not only that ranks have gone on with other tokens; the same on all ranks."""
    parted = _parted(served, _tokens(member, served))
    if not any(member.side.to_all(judging.goes_wrong(served))):
        return None
    own = _born(served)
    told = None if own is None else [own.number, served.rank // served.leg.tp, own.order, own.kind, str(own)]
    said: list[Any] = member.side.to_all(told)
    wrong = [(*each, rank) for rank, each in enumerate(said) if each is not None]
    if not wrong:
        return None
    number, _, _, kind, text, rank = min(wrong, key=lambda each: (each[:3], each[-1]))
    return _First(number, kind, rank, text) if number <= parted else None


def _tokens(member: Member, served: Served) -> list[dict[str, list[int]]]:
    """The tokens of each rank."""
    return member.side.to_all({name: list(tokens) for name, tokens in served.tokens.items()})


def _parted(served: Served, said: Sequence[Mapping[str, Sequence[int]]]) -> float:
    """After which pass some ranks go on with other tokens than the rest; infinity where none do."""
    others = set()
    for name, answer in served.answers.items():
        for made, tokens in enumerate(zip(*(each[name] for each in said), strict=False)):
            if len(set(tokens)) > 1:
                others.add(Token(name, len(answer.request.prompt) + made - 1))
                break
    return min((each.number for each in served.passes if others & set(each.rows)), default=math.inf)


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
