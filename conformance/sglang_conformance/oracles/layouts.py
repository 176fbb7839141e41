"""Group layouts, told rank by rank: which ranks a rank must find in its group, from the places of both.

A place is worked out by division alone, one rank at a time, where a host builds its groups by ranges and strides. The
rules are those of SGLang's public documentation of its layouts (0.5.23, srt/distributed/parallel_state.py).

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Key = tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """Where a rank stands: its pipeline stage, and its number among that stage's ranks of tensor parallelism."""

    stage: int
    inner: int


def expected(sizes: Mapping[str, int], world: int) -> dict[str, list[list[int]]]:
    """For each kind of group the groups that must exist, each with its ranks ascending, by their first ranks.

    ``sizes`` has tp, pp, attn_dp, attn_cp, moe_ep, moe_dp and dcp. Linear in the ranks.
    """
    keys = _keys(sizes)
    found: dict[str, dict[Key, list[int]]] = {kind: {} for kind in keys}
    for rank in range(world):
        place = Place(rank // sizes["tp"], rank % sizes["tp"])
        for kind, key in keys.items():
            found[kind].setdefault(key(place), []).append(rank)
    return {kind: sorted(groups.values()) for kind, groups in found.items()}


def members(sizes: Mapping[str, int], world: int, rank: int) -> dict[str, list[int]]:
    """For each kind of group, the ranks of the one that a rank is in, ascending; linear in the ranks.

    Besides those of :func:`expected` the kind ``world``, all ranks.
    """
    own = Place(rank // sizes["tp"], rank % sizes["tp"])
    keys = _keys(sizes)
    wanted = {kind: key(own) for kind, key in keys.items()}
    found: dict[str, list[int]] = {kind: [] for kind in keys}
    for other in range(world):
        place = Place(other // sizes["tp"], other % sizes["tp"])
        for kind, key in keys.items():
            if key(place) == wanted[kind]:
                found[kind].append(other)
    return {"world": list(range(world)), **found}


def sharing(sizes: Mapping[str, int]) -> dict[str, str]:
    """The kinds for which SGLang makes no groups of their own, and the kind whose groups serve in their place.

    Expert parallelism is left out: there are devices for which SGLang makes groups for it all the same.
    """
    shared = {}
    if sizes["attn_cp"] == sizes["tp"]:
        shared["attn_cp"] = "tp"
    if sizes["attn_dp"] * sizes["attn_cp"] == 1:
        shared["attention_tp"] = "tp"
    if sizes["attn_cp"] > sizes["moe_dp"]:
        shared["moe_dp"] = "attn_cp"
    elif sizes["moe_dp"] == sizes["tp"]:
        shared["moe_dp"] = "tp"
    if sizes["moe_ep"] * sizes["moe_dp"] == 1:
        shared["moe_tp"] = "tp"
    return shared


def _keys(sizes: Mapping[str, int]) -> dict[str, Callable[[Place], Key]]:
    """For each kind, what the ranks of one group have in common, and no two groups do."""
    attn_tp = sizes["tp"] // sizes["attn_dp"] // sizes["attn_cp"]
    replica = attn_tp * sizes["attn_cp"]  # the ranks that work on one batch of attention
    moe_tp = sizes["tp"] // sizes["moe_ep"] // sizes["moe_dp"]
    experts = moe_tp * sizes["moe_ep"]  # the ranks that hold every expert once

    def attn_cp(p: Place) -> Key:
        return p.stage, p.inner // replica, p.inner % attn_tp

    def moe_dp(p: Place) -> Key:
        return p.stage, p.inner % experts

    keys: dict[str, Callable[[Place], Key]] = {
        "tp": lambda p: (p.stage,),
        "pp": lambda p: (p.inner,),
        "attn_cp": attn_cp,
        "attention_tp": lambda p: (p.stage, p.inner // attn_tp),
        "moe_dp": attn_cp if sizes["attn_cp"] > sizes["moe_dp"] else moe_dp,
        "moe_ep": lambda p: (p.stage, p.inner // experts, p.inner % moe_tp),
        "moe_tp": lambda p: (p.stage, p.inner // moe_tp),
    }
    if sizes["dcp"] > 1:
        keys["dcp"] = lambda p: (p.stage, p.inner // sizes["dcp"])
    return keys
