"""``sglang.srt.model_loader.utils``: which class is a model's, and the dtype that it is made in.

Facts: SGLang 0.5.11 and 0.5.23, srt/model_loader/utils.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

__all__ = ["get_architecture_class_name", "get_model_architecture", "set_default_torch_dtype"]


@contextlib.contextmanager
def set_default_torch_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Have tensors made in ``dtype`` for a while, where none is named."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def get_model_architecture(model_config: Any) -> tuple[type[nn.Module], str]:
    """The class of the first architecture that the model names and the registry has, and its name."""
    from ..models.registry import ModelRegistry

    return ModelRegistry.resolve_model_cls(model_config.hf_config.architectures)


def get_architecture_class_name(model_config: Any) -> str:
    """The name alone."""
    return get_model_architecture(model_config)[1]
