"""``sglang.srt.utils``: the helpers of :mod:`.common`, as SGLang offers them."""

from __future__ import annotations

from .common import *  # noqa: F403
