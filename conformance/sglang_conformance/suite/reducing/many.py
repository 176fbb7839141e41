"""Very many reductions in a row, of ranks that come to them at different times.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import random
import time
from typing import Any

from ..collecting import drawn
from ..collecting.judging import Verdict, attempt
from ..member import Member
from . import calls, engines, forms

_POOL = 40
_BATCH = 100
_SMALL, _LARGE = 1 << 13, 1 << 18  # bytes
_OFTEN, _LONGEST = 0.05, 0.001  # of the calls; seconds


def back_to_back(member: Member, verdict: Verdict, engine: Any, count: int) -> None:
    """Reduce so many times, of sizes and types at random, and judge each result a while later.

    What waits for a result would keep the ranks in step.
    """
    import torch

    some = _pool(member, engine)
    order, pauses, made = random.Random(11), random.Random(member.number), list[tuple[int, Any]]()
    for number in range(count):
        index = order.randrange(len(some))
        brought, tensor, _ = some[index]
        if pauses.random() < _OFTEN:
            time.sleep(pauses.random() * _LONGEST)
        call = f"{calls.spelt(brought)}, call {number + 1} of {count} back to back"
        made.append((index, attempt(call, engine.custom_all_reduce, tensor)))
        if len(made) == _BATCH or number == count - 1:
            for index, got in made:
                brought, _, wanted = some[index]
                if not (isinstance(got, torch.Tensor) and torch.equal(got.cpu(), wanted)):
                    calls.judge(verdict, got, brought, f"{calls.spelt(brought)}, one of {count} back to back")
            made.clear()


def _pool(member: Member, engine: Any) -> list[tuple[forms.Brought, Any, Any]]:
    """What is brought, the rank's tensor of it, and the sum on the host: of those that all ranks accept."""
    import torch

    sizes, found = random.Random(12), list[tuple[forms.Brought, Any, Any]]()
    for number in range(_POOL):
        dtype = drawn.FLOATS[number % 3]
        most = _LARGE if number % 8 == 7 else _SMALL
        length = 16 * sizes.randint(1, most // 16)
        brought = forms.flat(dtype, member.size, length // calls.ITEM[dtype], number)
        tensor, _ = calls.given(member, brought)
        found.append((brought, tensor, torch.from_numpy(brought.reduced()).to(getattr(torch, dtype))))
    answers = calls.alike(member, engine, [(tensor, brought.words()) for brought, tensor, _ in found])
    kept = [each for each, answer in zip(found, answers, strict=True) if answer]
    if not kept:
        from .. import expect

        raise expect.Declined(f"it accepts none of {_POOL} tensors of 16 bytes to 256 KiB ({engines.OWNER})")
    return kept
