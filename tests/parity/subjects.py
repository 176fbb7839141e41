"""The subjects, and how the worlds of a run are dealt out to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SHARES: Mapping[str, int] = {
    "environment": 1,
    "names": 1,
    "selection": 5,
    "hooking": 5,
    "members": 5,
    "backends": 3,
    "layouts": 5,
    "collectives": 2,
}
"""Each subject's share of the worlds."""


def shares(worlds: int, subjects: Sequence[str]) -> dict[str, int]:
    """How many worlds each of these subjects gets, at least one."""
    whole = sum(SHARES[subject] for subject in subjects)
    return {subject: max(1, round(worlds * SHARES[subject] / whole)) for subject in subjects}
