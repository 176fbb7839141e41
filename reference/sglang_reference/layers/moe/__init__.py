"""``sglang.srt.layers.moe``: mixtures of experts (SGLang 0.5.11 and 0.5.23)."""

from __future__ import annotations

from .moe_runner import MoeRunnerConfig

__all__ = ["MoeRunnerConfig"]
