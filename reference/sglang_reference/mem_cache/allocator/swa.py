"""``sglang.srt.mem_cache.allocator.swa``: slots in a pool for full attention and one for a window."""

from __future__ import annotations

from .._window_allocator import SWATokenToKVPoolAllocator

__all__ = ["SWATokenToKVPoolAllocator"]
