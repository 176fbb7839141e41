"""A rank's share of a model: which layers it has, and among how many ranks each of them is divided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from sglang_reference._errors import not_covered

from .._contract import since
from ..distributed import parallel_state
from ..distributed.utils import get_pp_indices
from ..layers.utils.common import PPMissingLayer


def tensor_parallel_size() -> int:
    """Among how many ranks a layer is divided; read from the context of the process from 0.5.21 on."""
    size: int = _context().tp_size if since("0.5.21") else parallel_state.get_tensor_model_parallel_world_size()
    return size


def pipeline_group() -> Any:
    """The ranks that have the layers one after another."""
    return _context().pp_group if since("0.5.21") else parallel_state.get_pp_group()


def stage(
    count: int, group: Any, layer: Callable[[int, str], nn.Module], prefix: str
) -> tuple[nn.ModuleList, int, int]:
    """The rank's layers of ``count``, placeholders for those of others; the first, and the one after the last."""
    first, last = get_pp_indices(count, group.rank_in_group, group.world_size)
    own = range(first, last)
    layers = [layer(index, f"{prefix}.{index}") if index in own else PPMissingLayer() for index in range(count)]
    return nn.ModuleList(layers), first, last


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
