"""``sglang.srt.layers.attention.attention_registry``: attention backends by name, to which platforms add theirs.

Facts: SGLang 0.5.11 to 0.5.23, srt/layers/attention/attention_registry.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["ATTENTION_BACKENDS", "attn_backend_wrapper", "create_torch_native_backend", "register_attention_backend"]

Factory = Callable[[Any], Any]

ATTENTION_BACKENDS: dict[str, Factory] = {}


def register_attention_backend(name: str) -> Callable[[Factory], Factory]:
    """Decorator: a function that makes the backend ``name`` of a model runner. The last of a name serves."""

    def decorator(fn: Factory) -> Factory:
        ATTENTION_BACKENDS[name] = fn
        return fn

    return decorator


@register_attention_backend("torch_native")
def create_torch_native_backend(runner: Any) -> Any:
    """Attention in torch's own operators."""
    from .torch_native_backend import TorchNativeAttnBackend

    return TorchNativeAttnBackend(runner)


def attn_backend_wrapper(runner: Any, full_attn_backend: Any) -> Any:
    """The backend in what a model of several kinds of attention needs around it: as it is, for those served here."""
    return full_attn_backend
