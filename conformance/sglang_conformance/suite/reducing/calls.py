"""A custom all-reduce called and judged.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import Any

from ..collecting import tensors
from ..collecting.judging import Verdict, attempt
from ..member import Member
from . import engines
from .forms import Brought

ITEM = {"bfloat16": 2, "float16": 2, "float32": 4, "float64": 8, "int8": 1, "uint8": 1, "int16": 2, "int32": 4} | {
    "int64": 8,
    "bool": 1,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
}
"""Bytes of one element of each type that the oracle knows."""


def spelt(brought: Brought) -> str:
    """The call, for people."""
    return f"{engines.OWNER}.custom_all_reduce of {brought.words()}"


def given(member: Member, brought: Brought, place: int | None = None) -> tuple[Any, Any]:
    """A rank's tensor, and its storage."""
    storage = tensors.made(brought.storage(member.number if place is None else place), brought.dtype, member.device)
    return brought.form.laid(storage), storage


def reduced(
    member: Member, verdict: Verdict, engine: Any, brought: Brought, place: int | None = None, after: str = ""
) -> Any:
    """Reduce what the ranks bring, which it accepts, and judge the result; gives that."""
    tensor, _ = given(member, brought, place)
    call = f"{spelt(brought)}{after}"
    got = attempt(call, engine.custom_all_reduce, tensor)
    judge(verdict, got, brought, call)
    return got


def judge(verdict: Verdict, got: Any, brought: Brought, call: str) -> None:
    """Judge what is to be the sum: by torch, which is quicker where all is well; what is wrong is looked at again.

    Nothing is said of what was refused.
    """
    import torch

    wanted = torch.from_numpy(brought.reduced()).to(getattr(torch, brought.dtype))
    if isinstance(got, torch.Tensor) and got.dtype == wanted.dtype and torch.equal(got.cpu(), wanted):
        return
    verdict.holds(got, brought.reduced(), brought.dtype, call, sources=brought.all, operation="sum")


def accepted(member: Member, engine: Any, brought: Brought) -> bool:
    """Whether all ranks say that they reduce it; a violation where they do not say the same."""
    tensor, _ = given(member, brought)
    return alike(member, engine, [(tensor, brought.words())])[0]


def alike(member: Member, engine: Any, asked: list[tuple[Any, str]]) -> list[bool]:
    """What it says of each of these tensors, which all ranks must say."""
    from .. import expect

    answers = [engines.accepts(engine, tensor, words) for tensor, words in asked]
    for number, row in enumerate(zip(*member.side.to_all(answers), strict=True)):
        seen = ", ".join(f"rank {rank}: {answer}" for rank, answer in enumerate(row))
        call = f"{engines.OWNER}.should_custom_ar({asked[number][1]})"
        expect.that(
            len(set(row)) == 1,
            expected="the same on every rank",
            seen=seen,
            call=call,
            where=engines.where(engine, "should_custom_ar"),
        )
    return answers
