"""``sglang.srt.layers.utils.common``: parts that layers and models share (SGLang 0.5.11 and 0.5.23)."""

from __future__ import annotations

import re
from typing import Any

import torch

__all__ = ["PPMissingLayer", "get_layer_id", "pad_or_narrow_weight"]


class PPMissingLayer(torch.nn.Identity):
    """In place of a layer that another rank of the pipeline has: hands on what it is given."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.return_tuple = kwargs.get("return_tuple", False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The first argument, in a tuple where the layer would return one."""
        found = args[0] if args else next(iter(kwargs.values()))
        return (found,) if self.return_tuple else found


def get_layer_id(weight_name: str) -> int | None:
    """The number of the layer that a weight belongs to; None where its name has none."""
    found = re.search(r"layers\.(\d+)\.", weight_name)
    return int(found[1]) if found else None


def pad_or_narrow_weight(loaded_weight: torch.Tensor, input_dim: int, start_idx: int, shard_size: int) -> torch.Tensor:
    """The part of a weight that begins at ``start_idx``, with zeros for what it has not got of it."""
    start = min(start_idx, loaded_weight.shape[input_dim])
    there = min(loaded_weight.shape[input_dim] - start, shard_size)
    shape = list(loaded_weight.shape)
    shape[input_dim] = shard_size - there
    return torch.cat([loaded_weight.narrow(input_dim, start, there), loaded_weight.new_zeros(shape)], dim=input_dim)
