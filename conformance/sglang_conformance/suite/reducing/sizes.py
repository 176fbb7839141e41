"""Which sizes a custom all-reduce accepts, found by asking it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import expect
from ..collecting import drawn
from ..member import Member
from . import calls, engines

_LEAST, _MOST = 4, 27  # powers of two, in bytes: 16 B, 128 MiB
_FEW = (1 << 8, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 4, 1 << 18, 1 << 20, 1 << 22)
FALLBACK: Mapping[str, int] = dict.fromkeys(drawn.FLOATS, 64)
"""Elements of each type that models are served in, for whichever engine takes them."""
_STEP = 16  # bytes: what SGLang's kernels read at once


def asked(member: Member, engine: Any, dtype: str, length: int) -> bool:
    """Whether it accepts a contiguous tensor of so many bytes."""
    import torch

    item = calls.ITEM[dtype]
    tensor = torch.empty(length // item, dtype=getattr(torch, dtype), device=member.device)
    return engines.accepts(engine, tensor, f"{dtype}, {length} bytes")


def served(member: Member) -> Mapping[str, int]:
    """A number of elements that it accepts, of each type that models are served in. Declined where there is none.

    All ranks ask: where they do not say the same, no two of them would go on alike.
    """
    engine = engines.group_s(member)
    found = {}
    for dtype in drawn.FLOATS:
        lengths = member.side.to_all([length for length in _FEW if asked(member, engine, dtype, length)])
        common = [length for length in lengths[0] if all(length in each for each in lengths)]
        if common:
            found[dtype] = common[0] // calls.ITEM[dtype]
    if not found:
        raise expect.Declined(f"it accepts no tensor of {', '.join(drawn.FLOATS)}, of {_FEW[5]} bytes to 4 MiB")
    return found


@dataclass(frozen=True)
class Edge:
    """A size in bytes up to which one answer is given, and another from the next multiple of 16 on."""

    last: int
    accepted: bool

    @property
    def about(self) -> tuple[int, ...]:
        """The sizes on both sides."""
        return tuple(each for each in (self.last - _STEP, self.last, self.last + _STEP) if each > 0)


def edges(member: Member, engine: Any, dtype: str) -> list[Edge]:
    """Where its answers change with the size, as far as that shows at powers of two."""
    lengths = [1 << power for power in range(_LEAST, _MOST + 1)]
    answers = []
    for length in lengths:
        try:
            answers.append(asked(member, engine, dtype, length))
        except RuntimeError:  # the device has no room for it
            break
    return [
        _between(member, engine, dtype, here, there)
        for (here, now), (there, then) in itertools.pairwise(zip(lengths, answers, strict=False))
        if now != then
    ]


def _between(member: Member, engine: Any, dtype: str, here: int, there: int) -> Edge:
    """The edge between two sizes of which it says different things."""
    answer = asked(member, engine, dtype, here)
    low, high = here // _STEP, there // _STEP
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if asked(member, engine, dtype, middle * _STEP) == answer else (low, middle)
    return Edge(low * _STEP, answer)


def through(first: int, last: int) -> list[int]:
    """Powers of two with their neighbours, in bytes, of what is read at once; from the first to the last."""
    powers = [1 << power for power in range(first.bit_length() - 1, last.bit_length())]
    return sorted({length + step for length in powers for step in (-_STEP, 0, _STEP) if first <= length + step <= last})
