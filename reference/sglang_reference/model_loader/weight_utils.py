"""``sglang.srt.model_loader.weight_utils``: weights from files and from a generator, into parameters.

Facts: SGLang 0.5.11 to 0.5.23, srt/model_loader/weight_utils.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

__all__ = ["default_weight_loader", "initialize_dummy_weights", "pt_weights_iterator"]


def default_weight_loader(param: torch.Tensor, loaded_weight: torch.Tensor) -> None:
    """Copy a weight into a parameter of its shape; AssertionError where it has another."""
    if param.numel() == 1 and loaded_weight.numel() == 1:
        param.data.fill_(loaded_weight.item())
        return
    assert param.size() == loaded_weight.size(), (
        f"a weight of shape {tuple(loaded_weight.shape)} does not fit a parameter of {tuple(param.shape)}"
    )
    param.data.copy_(loaded_weight)


def pt_weights_iterator(hf_weights_files: list[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights that torch saved in files, one file after another."""
    for file in hf_weights_files:
        yield from torch.load(file, map_location="cpu", weights_only=True).items()


def initialize_dummy_weights(model: nn.Module, low: float = -1e-3, high: float = 1e-3, seed: int = 1234) -> None:
    """Fill a model with random numbers, the same for a seed on any device: each parameter draws anew on the host."""
    for weight in model.state_dict().values():
        if torch.is_floating_point(weight):
            drawn = torch.empty(weight.shape, dtype=torch.float32, device="cpu")
            drawn.uniform_(low, high, generator=torch.Generator("cpu").manual_seed(seed))
            weight.copy_(drawn)
