"""``sglang.srt.distributed.utils``: arithmetic of partitions, and the store that ranks share.

Facts: SGLang 0.5.11 and 0.5.23, srt/distributed/utils.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed

from .._released import Lifetime, withdraw
from ._stateless import StatelessProcessGroup

__all__ = [
    "StatelessProcessGroup",
    "all_gather_single",
    "divide",
    "ensure_divisibility",
    "get_global_tcp_store",
    "get_group_rank_size",
    "get_pp_indices",
    "reduce_scatter_single",
    "set_global_tcp_store",
    "split_tensor_along_last_dim",
]

logger = logging.getLogger(__name__)

_global_tcp_store: Any = None


def all_gather_single(output: torch.Tensor, input: torch.Tensor, group: Any = None) -> Any:
    """Gather every rank's input into one tensor, under whichever name torch has for that."""
    return torch.distributed.all_gather_into_tensor(output, input, group=group)


def reduce_scatter_single(output: torch.Tensor, input: torch.Tensor, group: Any = None) -> Any:
    """Reduce the inputs, each rank keeping its own part, under whichever name torch has for that."""
    return torch.distributed.reduce_scatter_tensor(output, input, group=group)


def set_global_tcp_store(store: Any) -> None:
    """Keep the store that all ranks share."""
    global _global_tcp_store
    _global_tcp_store = store


def get_global_tcp_store() -> Any:
    """The store that all ranks share; None, with a warning, where there is none."""
    if _global_tcp_store is None:
        logger.warning("There is no global TCPStore; init_distributed_environment makes one where it is needed")
    return _global_tcp_store


def get_group_rank_size(group: Any) -> tuple[int, int]:
    """The process's rank in a group and the group's size; ``(0, 1)`` for None, which is not divided."""
    return (0, 1) if group is None else (group.rank_in_group, group.world_size)


def ensure_divisibility(numerator: int, denominator: int) -> None:
    """Raise AssertionError where the division leaves a remainder."""
    assert numerator % denominator == 0, f"{numerator} cannot be divided by {denominator}"


def divide(numerator: int, denominator: int) -> int:
    """The quotient; raises AssertionError where the division leaves a remainder."""
    ensure_divisibility(numerator, denominator)
    return numerator // denominator


def split_tensor_along_last_dim(
    tensor: torch.Tensor, num_partitions: int, contiguous_split_chunks: bool = False
) -> Sequence[torch.Tensor]:
    """Equal parts of a tensor along its last dimension, as views or, if wished, each contiguous."""
    parts = torch.split(tensor, divide(tensor.shape[-1], num_partitions), dim=-1)
    return tuple(part.contiguous() for part in parts) if contiguous_split_chunks else parts


def get_pp_indices(num_hidden_layers: int, pp_rank: int, pp_size: int) -> tuple[int, int]:
    """The first layer of a pipeline stage, and the one after its last.

    Stages differ by one layer at most, the later ones being larger; ``SGLANG_PP_LAYER_PARTITION`` (numbers with commas)
    says otherwise. Raises ValueError where it does not fit.
    """
    text = os.environ.get("SGLANG_PP_LAYER_PARTITION")
    if text is None or pp_size == 1:
        larger = num_hidden_layers % pp_size
        sizes = [num_hidden_layers // pp_size + (stage >= pp_size - larger) for stage in range(pp_size)]
    else:
        sizes = _partition(text, num_hidden_layers, pp_size)
    first = sum(sizes[:pp_rank])
    return first, first + sizes[pp_rank]


def _partition(text: str, layers: int, stages: int) -> list[int]:
    try:
        sizes = [int(size) for size in text.split(",")]
    except ValueError:
        raise ValueError(f"SGLANG_PP_LAYER_PARTITION={text!r} is no list of numbers with commas") from None
    if len(sizes) != stages or sum(sizes) != layers:
        raise ValueError(f"SGLANG_PP_LAYER_PARTITION={text!r} does not part {layers} layers in {stages} stages")
    return sizes


_ABSENT = withdraw(
    globals(),
    {
        "all_gather_single": Lifetime("0.5.21"),
        "reduce_scatter_single": Lifetime("0.5.21"),
        "get_group_rank_size": Lifetime("0.5.22"),
    },
)
