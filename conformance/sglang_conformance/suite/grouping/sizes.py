"""Sizes of parallelism that make up a world: all of them for a small one, drawn ones for any, and tables by hand.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

from hypothesis import strategies as st

from ...hosts.groups import SIZES

Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Table:
    """One layout worked out by hand: its sizes (what is not named is 1), and its groups by kind."""

    sizes: Sizes
    groups: Mapping[str, list[list[int]]] = field(default_factory=dict)

    @property
    def world(self) -> int:
        """All ranks."""
        return self.sizes.get("tp", 1) * self.sizes.get("pp", 1)


_SINGLE = {n: [[rank] for rank in range(n)] for n in (1, 2, 4, 8)}
_PAIRS = [[0, 1], [2, 3], [4, 5], [6, 7]]
_HALVES = [[0, 1, 2, 3], [4, 5, 6, 7]]

# From what SGLang's documentation says of its groups (0.5.23, srt/distributed/parallel_state.py), drawn on paper.
TABLES = (
    Table({}, {kind: [[0]] for kind in ("tp", "pp", "attention_tp", "attn_cp", "moe_ep", "moe_dp", "moe_tp")}),
    Table({"tp": 2}, {"tp": [[0, 1]], "pp": [[0], [1]], "attention_tp": [[0, 1]], "moe_tp": [[0, 1]]}),
    Table({"pp": 2}, {"tp": [[0], [1]], "pp": [[0, 1]], "moe_ep": [[0], [1]]}),
    Table({"tp": 2, "attn_dp": 2, "moe_ep": 2}, {"attention_tp": [[0], [1]], "moe_ep": [[0, 1]], "moe_tp": [[0], [1]]}),
    Table({"tp": 2, "attn_cp": 2}, {"attn_cp": [[0, 1]], "moe_dp": [[0, 1]], "attention_tp": [[0], [1]]}),
    Table({"tp": 2, "pp": 2}, {"tp": [[0, 1], [2, 3]], "pp": [[0, 2], [1, 3]], "moe_tp": [[0, 1], [2, 3]]}),
    Table(
        {"tp": 4, "attn_cp": 2, "moe_ep": 2},
        {
            "attn_cp": [[0, 2], [1, 3]],
            "attention_tp": [[0, 1], [2, 3]],
            "moe_dp": [[0, 2], [1, 3]],
            "moe_ep": [[0, 2], [1, 3]],
            "moe_tp": [[0, 1], [2, 3]],
        },
    ),
    Table(
        {"tp": 4, "attn_dp": 2, "moe_dp": 2, "moe_ep": 2},
        {"attn_cp": _SINGLE[4], "moe_dp": [[0, 2], [1, 3]], "moe_ep": [[0, 1], [2, 3]], "moe_tp": _SINGLE[4]},
    ),
    Table({"tp": 2, "pp": 4}, {"tp": _PAIRS, "pp": [[0, 2, 4, 6], [1, 3, 5, 7]]}),
    Table(
        {"tp": 8, "attn_cp": 2, "moe_dp": 2, "moe_ep": 4},
        {
            "attn_cp": [[0, 4], [1, 5], [2, 6], [3, 7]],
            "attention_tp": _HALVES,
            "moe_ep": _HALVES,
            "moe_dp": [[0, 4], [1, 5], [2, 6], [3, 7]],
            "moe_tp": _SINGLE[8],
        },
    ),
    Table(
        {"tp": 8, "attn_dp": 2, "attn_cp": 2, "moe_ep": 2},
        {
            "attn_cp": [[0, 2], [1, 3], [4, 6], [5, 7]],
            "attention_tp": _PAIRS,
            "moe_dp": [[0, 2], [1, 3], [4, 6], [5, 7]],
            "moe_ep": [[0, 4], [1, 5], [2, 6], [3, 7]],
            "moe_tp": _HALVES,
        },
    ),
    Table(
        {"tp": 4, "pp": 2, "attn_cp": 2, "moe_ep": 4},
        {
            "tp": _HALVES,
            "pp": [[0, 4], [1, 5], [2, 6], [3, 7]],
            "attn_cp": [[0, 2], [1, 3], [4, 6], [5, 7]],
            "attention_tp": _PAIRS,
            "moe_ep": _HALVES,
            "moe_tp": _SINGLE[8],
        },
    ),
)


def whole(sizes: Sizes) -> dict[str, int]:
    """The sizes, with 1 for each that is not named."""
    return {**dict.fromkeys(SIZES, 1), **sizes}


def told(sizes: Sizes) -> str:
    """The sizes in words, without those that are 1."""
    return ", ".join(f"{name}={size}" for name, size in sizes.items() if size > 1) or "all sizes 1"


def fitting(world: int) -> Iterator[dict[str, int]]:
    """All sizes that make up a world, without decode context parallelism."""
    for tp in _divisors(world):
        for attn_dp, moe_ep in product(_divisors(tp), repeat=2):
            for attn_cp, moe_dp in product(_divisors(tp // attn_dp), _divisors(tp // moe_ep)):
                yield whole(
                    {
                        "tp": tp,
                        "pp": world // tp,
                        "attn_dp": attn_dp,
                        "attn_cp": attn_cp,
                        "moe_ep": moe_ep,
                        "moe_dp": moe_dp,
                    }
                )


def chosen(world: int, count: int) -> list[dict[str, int]]:
    """So many of all that fit, spread evenly over them, from the first to the last; all, where there are no more."""
    found = list(fitting(world))
    if len(found) <= count:
        return found
    if count == 1:
        return found[:1]
    return [found[round(place * (len(found) - 1) / (count - 1))] for place in range(count)]


def telling(world: int) -> list[dict[str, int]]:
    """Three layouts of a world in which no group looks like another by chance: with two stages, with attention and the
    experts parted across their tensor groups, and parted along them.
    """
    part = 2 if world % 2 == 0 else world
    return [
        whole({"tp": world // part, "pp": part}),
        whole({"tp": world, "attn_cp": part, "moe_ep": part}),
        whole({"tp": world, "attn_dp": part, "moe_dp": part, "moe_ep": world // part}),
    ]


@st.composite
def drawn(draw: st.DrawFn, most: int) -> dict[str, int]:
    """Sizes of a world of at most so many ranks, without decode context parallelism."""

    def part(of: int) -> int:
        return draw(st.sampled_from(_divisors(of)))

    tp = draw(st.integers(1, most))
    pp = draw(st.integers(1, most // tp))
    attn_dp, moe_ep = part(tp), part(tp)
    attn_cp, moe_dp = part(tp // attn_dp), part(tp // moe_ep)
    return whole({"tp": tp, "pp": pp, "attn_dp": attn_dp, "attn_cp": attn_cp, "moe_ep": moe_ep, "moe_dp": moe_dp})


def _divisors(of: int) -> list[int]:
    return [number for number in range(1, of + 1) if of % number == 0]
