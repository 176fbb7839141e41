"""``sglang.srt.layers.utils``: small helpers of the layers (SGLang 0.5.11 and 0.5.23, srt/layers/utils)."""

from __future__ import annotations

from .common import *  # noqa: F403
