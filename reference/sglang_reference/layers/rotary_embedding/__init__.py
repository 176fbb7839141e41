"""``sglang.srt.layers.rotary_embedding``: positions by rotation (SGLang 0.5.11 and 0.5.23)."""

from __future__ import annotations

from .base import RotaryEmbedding
from .factory import get_rope, get_rope_wrapper

__all__ = ["RotaryEmbedding", "get_rope", "get_rope_wrapper"]
