"""Up to which size the second generation takes which algorithm: SGLang's tuned tables, by release and architecture.

Facts: 0.5.11 to 0.5.15, custom_all_reduce_v2.py (one table for graphs and for what is launched at once, with no upper
end but the buffer's); from 0.5.16 on, configs/custom_all_reduce_v2.py. All sizes here are in KiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .._releases import within

_MIB = 1024
_UNBOUNDED = 1 << 50  # "as long as the buffer lasts"
_WHOLE = 128 * _MIB


@dataclass(frozen=True)
class Row:
    """Where algorithms end, in KiB: one-shot push, two-shot push (0: never), one-shot pull, two-shot pull.

    ``multicast``: between these sizes the two-shot pull goes by multicast, where the devices have it.
    """

    push: float
    pull: float
    two_shot: float
    multicast: tuple[float, float] | None = None
    two_shot_push: float = 0


@dataclass(frozen=True)
class Tuned:
    """The two rows of one size of group: for inputs that a graph holds, and for all others."""

    graph: Row
    eager: Row


def _both(row: Row) -> Tuned:
    return Tuned(row, row)


def _early(rows: Mapping[int, tuple[float, float]]) -> Mapping[int, Tuned]:
    return {size: _both(Row(push, pull, _UNBOUNDED)) for size, (push, pull) in rows.items()}


# The tables have capabilities as (major, least minor); the one that fits best holds, then that of ``_ANY``.
_ANY = (0, 0)
Architecture = tuple[int, int]

_FROM_11: Mapping[Architecture, Mapping[int, Tuned]] = {
    (10, 0): _early(
        {
            2: (4 * _MIB, _UNBOUNDED),
            3: (4 * _MIB, 4 * _MIB),
            4: (2 * _MIB, 2 * _MIB),
            5: (2 * _MIB, 2 * _MIB),
            6: (_MIB, _MIB),
            7: (896, 896),
            8: (720, 720),
        }
    ),
    _ANY: _early(
        {
            2: (2 * _MIB, _UNBOUNDED),
            3: (512, 512),
            4: (384, 256),
            5: (256, 256),
            6: (192, 192),
            7: (192, 192),
            8: (160, 160),
        }
    ),
}

_HOPPER: Mapping[int, Tuned] = {
    2: Tuned(Row(16 * _MIB, _WHOLE, _WHOLE), Row(32 * _MIB, _WHOLE, _WHOLE)),
    3: Tuned(Row(1280, 1280, _WHOLE), Row(3 * _MIB, 3 * _MIB, 16 * _MIB)),
    4: Tuned(Row(384, 384, _WHOLE), Row(896, 896, 32 * _MIB, (0, 32 * _MIB))),
    5: Tuned(Row(192, 192, 32 * _MIB), Row(384, 384, 32 * _MIB, (0, 32 * _MIB))),
    6: Tuned(Row(128, 128, 32 * _MIB, (8 * _MIB, 32 * _MIB)), Row(192, 192, 32 * _MIB, (0, 32 * _MIB))),
    7: Tuned(Row(128, 128, 32 * _MIB, (_MIB, 32 * _MIB)), Row(128, 128, 32 * _MIB, (0, 32 * _MIB))),
    8: Tuned(Row(128, 128, 32 * _MIB, (512, _WHOLE)), Row(128, 128, _WHOLE, (0, _WHOLE))),
}

_BLACKWELL: Mapping[int, Tuned] = {
    2: Tuned(Row(8 * _MIB, 32 * _MIB, _WHOLE), Row(16 * _MIB, _WHOLE, _WHOLE)),
    3: Tuned(Row(4 * _MIB, 4 * _MIB, _WHOLE), Row(8 * _MIB, 8 * _MIB, 32 * _MIB)),
    4: Tuned(Row(2304, 2304, _WHOLE), Row(3 * _MIB, 3 * _MIB, 32 * _MIB)),
    5: Tuned(Row(1536, 1536, _WHOLE), Row(2 * _MIB, 2 * _MIB, 32 * _MIB, (0, 32 * _MIB))),
    6: Tuned(Row(_MIB, _MIB, _WHOLE), Row(1280, 1280, 64 * _MIB, (0, 64 * _MIB))),
    7: Tuned(Row(640, 640, _WHOLE), Row(_MIB, _MIB, 64 * _MIB, (0, 64 * _MIB))),
    8: Tuned(Row(512, 512, _WHOLE, (8 * _MIB, _WHOLE)), Row(768, 768, _WHOLE, (0, _WHOLE))),
}
_SIXTEEN: Mapping[int, Tuned] = {16: _both(Row(256, 256, _WHOLE, (256, _WHOLE)))}
_BLACKWELL_FROM_23: Mapping[int, Tuned] = {
    **_BLACKWELL,
    4: Tuned(Row(640, 640, _WHOLE, None, 8 * _MIB), Row(640, 640, 32 * _MIB, None, 8 * _MIB)),
    8: Tuned(
        Row(256, 256, _WHOLE, (8 * _MIB, _WHOLE), 8 * _MIB),
        Row(256, 256, _WHOLE, (0, _WHOLE), 8 * _MIB),
    ),
    **_SIXTEEN,
}


def _from(kib: float) -> Row:
    return Row(kib, kib, _WHOLE, (kib, _WHOLE))


# These thresholds are given as decimal fractions of a MiB.
_RUBIN: Mapping[int, Tuned] = {
    2: _both(Row(_WHOLE, _WHOLE, _WHOLE)),
    3: Tuned(Row(19.625 * _MIB, 19.625 * _MIB, _WHOLE), Row(39.188 * _MIB, 39.188 * _MIB, _WHOLE)),
    4: Tuned(Row(6.938 * _MIB, 6.938 * _MIB, _WHOLE), _from(9.812 * _MIB)),
    5: _both(_from(6.938 * _MIB)),
    6: _both(_from(4.875 * _MIB)),
    7: _both(_from(3.438 * _MIB)),
    8: _both(_from(2.438 * _MIB)),
    16: _both(_from(832)),
}


def _untuned(sizes: range) -> Mapping[int, Tuned]:
    return {size: _both(Row(_MIB, _MIB, 16 * _MIB)) for size in sizes}


_TABLES: tuple[tuple[str, Mapping[Architecture, Mapping[int, Tuned]]], ...] = (
    ("0.5.23", {(9, 0): _HOPPER, (10, 0): _BLACKWELL_FROM_23, (10, 7): _RUBIN, _ANY: _untuned(range(2, 17))}),
    ("0.5.19", {(9, 0): _HOPPER, (10, 0): {**_BLACKWELL, **_SIXTEEN}, (10, 7): _RUBIN, _ANY: _untuned(range(2, 17))}),
    ("0.5.17", {(9, 0): _HOPPER, (10, 0): {**_BLACKWELL, **_SIXTEEN}, _ANY: _untuned(range(2, 17))}),
    ("0.5.16", {(9, 0): _HOPPER, (10, 0): _BLACKWELL, _ANY: _untuned(range(2, 9))}),
    ("0.5.11", _FROM_11),
)
"""By the first release that has them, the latest first."""


def tuned(release: str, capability: tuple[int, int]) -> Mapping[int, Tuned]:
    """The rows of an architecture, by the size of the group: the sizes that it has no row for are not served."""
    tables = next(tables for first, tables in _TABLES if within(release, first))
    major, minor = capability
    fits = [known for known in tables if known[0] == major and known[1] <= minor]
    return tables[max(fits, default=_ANY)]
