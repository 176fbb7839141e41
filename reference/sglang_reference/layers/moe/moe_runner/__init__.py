"""``sglang.srt.layers.moe.moe_runner``: what experts are told of themselves (SGLang 0.5.11 and 0.5.23)."""

from __future__ import annotations

from .base import MoeRunnerConfig

__all__ = ["MoeRunnerConfig"]
