"""``sglang.srt.layers.moe.fused_moe_triton``: the layer of experts (SGLang 0.5.11 and 0.5.23)."""

from __future__ import annotations

from .layer import FusedMoE

__all__ = ["FusedMoE"]
