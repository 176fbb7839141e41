"""``sglang.srt.layers.rotary_embedding.factory``: one rotary embedding for all layers that want the same.

Scaled positions are not covered. Facts: SGLang 0.5.11 and 0.5.23.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sglang_reference._errors import not_covered

from .base import RotaryEmbedding

_ROPE_DICT: dict[tuple[Any, ...], RotaryEmbedding] = {}


def get_rope(
    head_size: int,
    rotary_dim: int,
    max_position: int,
    base: int,
    is_neox_style: bool = True,
    rope_scaling: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    partial_rotary_factor: float = 1.0,
    dual_chunk_attention_config: Mapping[str, Any] | None = None,
) -> RotaryEmbedding:
    """The rotary embedding of these numbers, made once in a process; NotCovered for one that is scaled."""
    kind = "default" if rope_scaling is None else rope_scaling.get("rope_type", rope_scaling.get("type"))
    if kind != "default" or dual_chunk_attention_config is not None:
        raise not_covered(f"rotary embedding with scaling {kind!r}")
    dtype = dtype or torch.get_default_dtype()
    if partial_rotary_factor < 1.0:
        rotary_dim = int(rotary_dim * partial_rotary_factor)
    # Beside SGLang's own key the default device: the tables of another one could not be used here.
    key = (head_size, rotary_dim, max_position, base, is_neox_style, dtype, str(torch.get_default_device()))
    if key not in _ROPE_DICT:
        _ROPE_DICT[key] = RotaryEmbedding(head_size, rotary_dim, max_position, base, is_neox_style, dtype)
    return _ROPE_DICT[key]


def get_rope_wrapper(
    head_size: int,
    rotary_dim: int,
    max_position: int,
    base: int,
    is_neox_style: bool = True,
    rope_scaling: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    partial_rotary_factor: float = 1.0,
    device: str | None = None,
) -> RotaryEmbedding:
    """As :func:`get_rope`; ``device`` makes a difference in SGLang on the CPU alone."""
    return get_rope(
        head_size, rotary_dim, max_position, base, is_neox_style, rope_scaling, dtype, partial_rotary_factor
    )
