"""``sglang.srt.model_loader``: weights read from a folder, into a model on the device.

Facts: SGLang 0.5.11 and 0.5.23, srt/model_loader/__init__.py.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from .loader import BaseModelLoader, get_model_loader
from .utils import get_architecture_class_name, get_model_architecture

__all__ = [
    "BaseModelLoader",
    "get_architecture_class_name",
    "get_model",
    "get_model_architecture",
    "get_model_loader",
]


def get_model(*, model_config: Any, load_config: Any, device_config: Any) -> nn.Module:
    """The model, with its weights, on the device."""
    return get_model_loader(load_config, model_config).load_model(
        model_config=model_config, device_config=device_config
    )
