"""A rank's share of a model: among how many ranks a layer is divided, and which have the layers before and after."""

from __future__ import annotations

from typing import Any

from sglang_reference._errors import not_covered

from .._contract import since
from ..distributed import parallel_state


def tensor_parallel_size() -> int:
    """Among how many ranks a layer is divided; read from the context of the process from 0.5.21 on."""
    size: int = _context().tp_size if since("0.5.21") else parallel_state.get_tensor_model_parallel_world_size()
    return size


def pipeline_group() -> Any:
    """The ranks that have the layers one after another."""
    return _context().pp_group if since("0.5.21") else parallel_state.get_pp_group()


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


def _context() -> Any:
    from ..runtime_context import get_parallel

    return get_parallel()
