"""How weights of a checkpoint find their place: which part is this rank's, and what a parameter tells of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sglang_reference._errors import not_covered

from .utils.common import pad_or_narrow_weight

# What SGLang's loaders treat in a way of its own, for weights that are quantised.
_QUANTISED = ("is_gguf_weight", "is_gguf_weight_type", "use_bitsandbytes_4bit", "needs_scalar_to_array", "packed_dim")


def tell(weight: torch.Tensor, attributes: Mapping[str, Any] | None) -> None:
    """Give a parameter attributes; raises AssertionError where it has one of them already."""
    for name, value in (attributes or {}).items():
        assert not hasattr(weight, name), f"the parameter has {name} already"
        setattr(weight, name, value)


def plain(param: torch.Tensor) -> torch.Tensor:
    """The parameter's data; NotCovered for one that is loaded as only quantised weights are."""
    found = [name for name in _QUANTISED if getattr(param, name, None)]
    if found:
        raise not_covered(f"loading a weight with {found[0]}")
    return param.data


def part(weight: torch.Tensor, dim: int, start: int, size: int) -> torch.Tensor:
    """``size`` rows or columns of a checkpoint's weight; zeros for those beyond its end."""
    if start + size > weight.shape[dim]:
        return pad_or_narrow_weight(weight, dim, start, size)
    return weight.narrow(dim, start, size)


def fill(data: torch.Tensor, weight: torch.Tensor) -> None:
    """Copy a weight into its place. Raises AssertionError where the shapes differ."""
    if weight.ndim == 0:
        weight = weight.reshape(1)
    assert data.shape == weight.shape, f"the parameter is {tuple(data.shape)}, the weight {tuple(weight.shape)}"
    data.copy_(weight)
