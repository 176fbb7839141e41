"""Which ranks make a group: every parallel layout of SGLang as one arithmetic, with no process and no torch in it.

Ranks are counted as in a number of several digits, one digit an axis, the last axis the fastest. A group is the ranks
that differ only in the axes it runs along. Facts: SGLang 0.5.11 and 0.5.23, srt/distributed/parallel_state.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Sizes:
    """How many ranks each kind of parallelism takes. Attention and MoE each divide the ranks of tensor parallelism.

    ``tp`` tensor, ``pp`` pipeline, ``attn_dp`` and ``attn_cp`` attention's data and context, ``moe_ep`` and ``moe_dp``
    the experts' and MoE's data, ``dcp`` decode context (from 0.5.15 on), ``shared_experts_tp`` the shared experts'
    (from 0.5.21 on; None without). Raises RuntimeError where they do not divide one another.
    """

    tp: int = 1
    pp: int = 1
    attn_dp: int = 1
    attn_cp: int = 1
    moe_ep: int = 1
    moe_dp: int = 1
    dcp: int = 1
    shared_experts_tp: int | None = None

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            if size is not None and size < 1:
                raise RuntimeError(f"the size of {name} is {size}, and must be at least 1")
        for parts in (("attn_dp", "attn_cp"), ("moe_ep", "moe_dp"), ("dcp",)):
            of = math.prod(getattr(self, part) for part in parts)
            if self.tp % of:
                raise RuntimeError(f"tp ({self.tp}) cannot be divided by {' x '.join(parts)} ({of})")
        if self.shared_experts_tp is not None and self.attn_tp % self.shared_experts_tp:
            raise RuntimeError(
                f"attention's tp ({self.attn_tp}) cannot be divided by shared_experts_tp ({self.shared_experts_tp})"
            )

    @property
    def world(self) -> int:
        """All ranks."""
        return self.tp * self.pp

    @property
    def attn_tp(self) -> int:
        """What attention's data and context parallelism leave for its tensor parallelism."""
        return self.tp // (self.attn_dp * self.attn_cp)

    @property
    def moe_tp(self) -> int:
        """What the experts' and MoE's data parallelism leave for MoE's tensor parallelism."""
        return self.tp // (self.moe_ep * self.moe_dp)


@dataclass(frozen=True)
class Layout:
    """The groups of one kind, in the order in which they are made. ``shares``: the kind whose groups serve as these."""

    groups: Groups
    shares: str = ""

    def of(self, rank: int) -> tuple[int, ...]:
        """The group that a rank is in; raises ValueError where it is in none."""
        for group in self.groups:
            if rank in group:
                return group
        raise ValueError(f"rank {rank} is in none of the {len(self.groups)} groups")


def groups_along(axes: Mapping[str, int], along: Sequence[str]) -> Groups:
    """The groups of ranks that differ only in the axes named, by their first ranks; ``axes`` from slowest to fastest.

    Takes time linear in the ranks.
    """
    starts, steps = [0], [0]
    stride = math.prod(axes.values())
    for name, size in axes.items():
        stride //= size
        grown = [rank + stride * place for rank in (steps if name in along else starts) for place in range(size)]
        if name in along:
            steps = grown
        else:
            starts = grown
    return tuple(tuple(start + step for step in steps) for start in starts)


def layouts(sizes: Sizes) -> dict[str, Layout]:
    """Every kind of group under SGLang's name for it, in the order in which SGLang makes them."""
    attention = {"pp": sizes.pp, "dp": sizes.attn_dp, "cp": sizes.attn_cp, "tp": sizes.attn_tp}
    experts = {"pp": sizes.pp, "dp": sizes.moe_dp, "ep": sizes.moe_ep, "tp": sizes.moe_tp}
    made = {"tp": Layout(groups_along(attention, ("dp", "cp", "tp")))}
    if sizes.dcp > 1:
        made["dcp"] = _runs(sizes, sizes.dcp)
    made["attn_cp"] = _or_tp(sizes, sizes.attn_cp, groups_along(attention, ("cp",)))
    made["attention_tp"] = _or_tp(sizes, sizes.attn_tp, groups_along(attention, ("tp",)))
    if sizes.shared_experts_tp is not None and sizes.shared_experts_tp > 1:
        same = sizes.shared_experts_tp == sizes.attn_tp
        made["shared_experts_tp"] = Layout(
            _runs(sizes, sizes.shared_experts_tp).groups, shares="attention_tp" if same else ""
        )
    if sizes.attn_cp > sizes.moe_dp:  # those that share a sequence must share its tokens before the experts
        made["moe_dp"] = Layout(made["attn_cp"].groups, shares="attn_cp")
    else:
        made["moe_dp"] = _or_tp(sizes, sizes.moe_dp, groups_along(experts, ("dp",)))
    made["moe_ep"] = _or_tp(sizes, sizes.moe_ep, groups_along(experts, ("ep",)))
    made["moe_tp"] = _or_tp(sizes, sizes.moe_tp, groups_along(experts, ("tp",)))
    made["pp"] = Layout(groups_along({"pp": sizes.pp, "tp": sizes.tp}, ("pp",)))
    return made


def _runs(sizes: Sizes, size: int) -> Layout:
    """Runs of adjacent ranks."""
    return Layout(groups_along({"run": sizes.world // size, "rank": size}, ("rank",)))


def _or_tp(sizes: Sizes, size: int, groups: Groups) -> Layout:
    """The groups, or the tensor-parallel ones themselves where these are as large."""
    return Layout(groups, shares="tp" if size == sizes.tp else "")
