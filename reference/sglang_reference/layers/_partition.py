"""Among how many ranks a layer is divided, and which of them this one is, asked as each release asks."""

from __future__ import annotations

from typing import Any, NamedTuple

from sglang_reference._errors import not_covered

from .._contract import since
from ..distributed import parallel_state
from ..distributed._own_groups import group


class Partition(NamedTuple):
    """A rank, and the number of ranks, among which weights are divided."""

    rank: int
    size: int


ALONE = Partition(0, 1)


def tensor_parallel() -> Partition:
    """Tensor parallelism."""
    return _asked("tp", "tensor_model_parallel")


def tensor_parallel_group() -> Any:
    """The coordinator of tensor parallelism; raises where there is none."""
    return group("tp")


def experts_parallel() -> Partition:
    """Expert parallelism."""
    return _asked("moe_ep", "moe_expert_parallel")


def experts_tensor_parallel() -> Partition:
    """Tensor parallelism within the ranks that have the same experts."""
    return _asked("moe_tp", "moe_tensor_parallel")


def attention_tensor_parallel() -> Partition:
    """Attention's tensor parallelism."""
    return _asked("attn_tp", "attn_tensor_model_parallel")


def of_group(parallel_group: Any, rank: int | None, size: int | None) -> Partition:
    """What a linear layer is told: a group by name (from 0.5.22 on), or rank and size; tensor parallelism otherwise."""
    if parallel_group in (None, "tp"):
        if rank is not None and size is not None:
            return Partition(rank, size)
        whole = tensor_parallel()
        return Partition(whole.rank if rank is None else rank, whole.size if size is None else size)
    if parallel_group == "replicated":
        return ALONE
    if parallel_group == "attn_tp":
        return attention_tensor_parallel()
    raise not_covered(f"a linear layer's parallel_group {parallel_group!r}")


def _asked(field: str, name: str) -> Partition:
    if not since("0.5.21"):
        asked = (getattr(parallel_state, f"get_{name}_{what}") for what in ("rank", "world_size"))
        return Partition(*(each() for each in asked))
    from ..runtime_context import get_parallel

    parallel = get_parallel()
    size = getattr(parallel, f"{field}_size")
    # A rank that nobody wrote is the only one there is.
    return ALONE if size == 1 else Partition(getattr(parallel, f"{field}_rank"), size)
