"""``sglang.srt.mem_cache.allocator``: who hands out the slots of pools; a single module before 0.5.13."""

from __future__ import annotations

from .._allocators import BaseTokenToKVPoolAllocator, TokenToKVPoolAllocator
from .._page_slots import alloc_extend_naive
from .._paged_allocator import PagedTokenToKVPoolAllocator

__all__ = ["BaseTokenToKVPoolAllocator", "PagedTokenToKVPoolAllocator", "TokenToKVPoolAllocator", "alloc_extend_naive"]
