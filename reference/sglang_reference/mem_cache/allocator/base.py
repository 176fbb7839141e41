"""``sglang.srt.mem_cache.allocator.base``: what every allocator has."""

from __future__ import annotations

from .._allocators import BaseTokenToKVPoolAllocator

__all__ = ["BaseTokenToKVPoolAllocator"]
