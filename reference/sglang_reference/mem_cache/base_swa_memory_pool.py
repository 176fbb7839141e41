"""``sglang.srt.mem_cache.base_swa_memory_pool``: what every pool with a window has, from 0.5.12 on."""

from __future__ import annotations

from ._window_pool import BaseSWAKVPool

__all__ = ["BaseSWAKVPool"]
