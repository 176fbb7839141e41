"""A rank's share of a model: its heads, and the ranks that have the layers before and after."""

from __future__ import annotations

from typing import Any

from sglang_reference._errors import not_covered

from ..distributed._own_groups import group


def pipeline_group() -> Any:
    """The ranks that have the layers one after another."""
    return group("pp")


def heads_of(total: int, kept: int, size: int) -> tuple[int, int]:
    """How many heads of queries and of keys a rank has; where there are fewer of keys than ranks, they share one.

    Raises ValueError where they cannot be divided.
    """
    if total % size or (kept % size if kept >= size else size % kept):
        raise ValueError(f"{total} heads, with {kept} of keys, cannot be divided among {size} ranks")
    return total // size, max(1, kept // size)


def refuse(what: str, **given: object) -> None:
    """NotCovered for the first argument that asks for something the reference's models do not have."""
    for name, value in given.items():
        if value not in (None, False, 0):
            raise not_covered(f"{what} with {name}={value!r}")
