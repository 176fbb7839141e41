"""Topologies for tests of custom all-reduce: a right one, and one that differs in one thing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sglang_reference._custom_all_reduce.topology import Device, Rank, Settings, Topology, View


def joined(
    size: int,
    *,
    lanes: int = 18,
    nodes: int = 1,
    settings: Settings | None = None,
    unlinked: Iterable[tuple[int, int]] = (),
    apart: Iterable[tuple[int, int]] = (),
    **device: Any,
) -> Topology:
    """Ranks in equal runs on so many nodes, lanes between every pair but ``unlinked``, access but for ``apart``."""
    cut, closed = ({frozenset(pair) for pair in pairs} for pairs in (unlinked, apart))
    return Topology(
        tuple(
            Rank(
                Device(node=f"node{at * nodes // size}", device=f"GPU-{at}", **device),
                tuple(
                    View(0 if {at, peer} in cut or at == peer else lanes, {at, peer} not in closed)
                    for peer in range(size)
                ),
                settings or Settings(),
            )
            for at in range(size)
        )
    )


def changed(topology: Topology, at: int, **fields: Any) -> Topology:
    """The topology with other fields of one rank; ``device``, ``settings`` and ``views`` may be given in part."""
    rank = topology.ranks[at]
    given = {
        name: replace(getattr(rank, name), **value) if isinstance(value, dict) else value
        for name, value in fields.items()
    }
    ranks = list(topology.ranks)
    ranks[at] = replace(rank, **given)
    return Topology(tuple(ranks))
