"""Very many reductions in a row, of ranks that come to them at different times.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

from ..collecting import drawn
from ..collecting.judging import Verdict, attempt
from ..member import Member
from . import calls, engines, forms

_POOL = 40
_BATCH = 100
_SMALL, _LARGE = 1 << 13, 1 << 18  # bytes
_OFTEN, _LONGEST = 0.05, 0.001  # of the calls; seconds
_SELDOM = 0.1  # seconds
_SHARE = 0.5  # of a check's time

_Given = tuple[forms.Brought, Any, Any]
"""What is brought, the rank's tensor of it, and the sum on the host."""


def back_to_back(member: Member, verdict: Verdict, engine: Any, count: int) -> int:
    """Reduce so many times, of sizes and types at random, or as often as there is time for; gives how often.

    Each result is judged a while later: what waits for it would keep the ranks in step.
    """
    some, order, until = _pool(member, engine), random.Random(11), time.monotonic() + _SHARE * member.seconds
    pauses = random.Random(member.number)
    with _hindered(member.number):
        for done in range(0, count, _BATCH):
            batch = [some[order.randrange(len(some))] for _ in range(_BATCH)]
            _reduce(verdict, engine, batch, pauses, f"one of {count} back to back")
            if any(member.side.to_all(time.monotonic() > until)):
                return done + _BATCH
    return count


def _reduce(verdict: Verdict, engine: Any, batch: list[_Given], pauses: random.Random, words: str) -> None:
    import torch

    made = []
    for brought, tensor, _ in batch:
        if pauses.random() < _OFTEN:
            time.sleep(pauses.random() * _LONGEST)
        made.append(attempt(f"{calls.spelt(brought)}, {words}", engine.custom_all_reduce, tensor))
    for (brought, _, wanted), got in zip(batch, made, strict=True):
        if not (isinstance(got, torch.Tensor) and torch.equal(got.cpu(), wanted)):
            calls.judge(verdict, got, brought, f"{calls.spelt(brought)}, {words}")


@contextlib.contextmanager
def _hindered(number: int) -> Iterator[None]:
    """A scope in which another thread takes the processor, and the interpreter, now and then: in the midst of calls."""
    done, moments = threading.Event(), random.Random(number)

    def hinder() -> None:
        while not done.wait(moments.random() * _SELDOM):
            until = time.monotonic() + moments.random() * _LONGEST
            while time.monotonic() < until:
                pass

    thread = threading.Thread(target=hinder)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _pool(member: Member, engine: Any) -> list[_Given]:
    """Of what all ranks accept."""
    import torch

    sizes, found = random.Random(12), list[_Given]()
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
