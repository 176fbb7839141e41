"""``sglang.srt.mem_cache.allocator.paged``: slots page by page."""

from __future__ import annotations

from .._page_slots import alloc_extend_naive
from .._paged_allocator import PagedTokenToKVPoolAllocator

__all__ = ["PagedTokenToKVPoolAllocator", "alloc_extend_naive"]
