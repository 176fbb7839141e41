"""Numbers that tell which rank they came from, exchanged in a group, and what wrong ones say.

Rank r gives 2^r, twice that, and three times that: a sum names the ranks that are in it, a position its own place.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .. import expect

_POSITIONS = 3
_BITS = 20  # what a float32 adds up exactly, with the positions' factors; the ranks beyond begin anew
POISON = -7.0
"""What stands where nothing was written yet."""


@dataclass(frozen=True)
class Exchange:
    """What an all-reduce and an all-gather in one group gave this rank; ``call`` says which group it was."""

    call: str
    summed: list[float]
    gathered: list[float]


def given(rank: int, factor: int = 1) -> list[float]:
    """What a rank gives."""
    return [float(factor * 2 ** (rank % _BITS) * (place + 1)) for place in range(_POSITIONS)]


def tensor(rank: int, device: Any, factor: int = 1) -> Any:
    """The tensor that a rank gives."""
    import torch

    return torch.tensor(given(rank, factor), dtype=torch.float32, device=device)


def exchange(group: Any, rank: int, size: int, device: Any, call: str, *, factor: int = 1) -> Exchange:
    """Sum in a process group of so many ranks, and gather in it. What torch raises is a violation.

    Nothing is judged: that is for after the last collective, so that all ranks make the same ones.
    """
    import torch
    import torch.distributed as dist

    own = tensor(rank, device, factor)
    summed = own.clone()
    whole = torch.full((size * _POSITIONS,), POISON, dtype=torch.float32, device=device)
    told = f"{call}, of tensors on {device}"
    expect.attempt(f"{told}: all_reduce", partial(dist.all_reduce, summed, group=group))
    expect.attempt(f"{told}: all_gather_into_tensor", partial(dist.all_gather_into_tensor, whole, own, group=group))
    results = expect.attempt(f"{told}: the results", lambda: (summed.cpu().tolist(), whole.cpu().tolist()))
    return Exchange(told, *results.value)


def summed(group: Any, rank: int, device: Any, call: str, *, factor: int = 1) -> expect.Answer:
    """The numbers that an all-reduce in a process group gave this rank. What torch raises is a violation."""
    import torch.distributed as dist

    own = tensor(rank, device, factor)
    told = f"{call}, of tensors on {device}: all_reduce"
    expect.attempt(told, partial(dist.all_reduce, own, group=group))
    return expect.attempt(told, lambda: own.cpu().tolist())


def judge(seen: Exchange, ranks: Sequence[int], *, factor: int = 1, cause: str = "") -> None:
    """Fail unless the sum is that of these ranks, and they were gathered in this order."""
    judge_sum(seen.summed, ranks, call=f"{seen.call}: all_reduce", factor=factor, cause=cause)
    wanted = [number for rank in ranks for number in given(rank, factor)]
    if seen.gathered != wanted:
        parts = [seen.gathered[start : start + _POSITIONS] for start in range(0, len(seen.gathered), _POSITIONS)]
        wrong = sum(got != right for got, right in zip(seen.gathered, wanted, strict=True))
        expect.fail(
            expected=f"what ranks {list(ranks)} give, in this order",
            seen=f"{', '.join(_giver(part, factor) for part in parts)} ({wrong} of {len(wanted)} positions wrong)",
            call=f"{seen.call}: all_gather_into_tensor",
            cause=cause,
        )


def judge_sum(summed: list[float], ranks: Sequence[int], *, call: str, factor: int = 1, cause: str = "") -> None:
    """Fail unless these are the sums of what the ranks give."""
    wanted = [sum(column) for column in zip(*(given(rank, factor) for rank in ranks), strict=True)]
    if summed != wanted:
        expect.fail(
            expected=f"the sum of ranks {list(ranks)}: {wanted}",
            seen=f"{_summands(summed[0] / factor)}: {summed}",
            call=call,
            cause=cause,
        )


def _summands(number: float) -> str:
    """The ranks whose powers of two make up a number."""
    if number != int(number) or not 0 < number < 1 << _BITS:
        return "no sum of what ranks give"
    return f"the sum of ranks {[bit for bit in range(_BITS) if int(number) >> bit & 1]}"


def _giver(part: list[float], factor: int) -> str:
    found = [rank for rank in range(_BITS) if given(rank, factor) == part]
    if found:
        return f"rank {found[0]}'s"
    return "unwritten" if set(part) == {POISON} else str(part)
