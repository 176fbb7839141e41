"""``sglang.srt.mem_cache.allocator.token``: slots one by one."""

from __future__ import annotations

from .._allocators import TokenToKVPoolAllocator

__all__ = ["TokenToKVPoolAllocator"]
