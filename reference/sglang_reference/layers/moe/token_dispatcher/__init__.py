"""``sglang.srt.layers.moe.token_dispatcher``: how tokens reach the experts, and come back (SGLang 0.5.11, 0.5.23)."""

from __future__ import annotations

from .standard import StandardCombineInput, StandardDispatcher, StandardDispatchOutput

__all__ = ["StandardCombineInput", "StandardDispatchOutput", "StandardDispatcher"]
