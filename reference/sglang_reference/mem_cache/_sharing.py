"""Slots that the tree cache keeps and can do without: evicted when the allocator has too few.

Facts: srt/mem_cache/common.py of SGLang 0.5.11, 0.5.17, 0.5.19 and 0.5.22, srt/mem_cache/allocator/base.py of 0.5.19.
"""

from __future__ import annotations

from typing import Any

from .._contract import since


def shares_prefixes(tree_cache: Any) -> bool:
    """Whether requests share what they begin with, so that there can be something to evict."""
    if tree_cache is None:
        return False
    told = tree_cache.supports_prefix_sharing() if since("0.5.22") else not tree_cache.is_chunk_cache()
    return bool(told)


def evict_what_lacks(tree_cache: Any, allocator: Any, num_tokens: int) -> None:
    """Have the tree cache evict where fewer than ``num_tokens`` slots are free.

    As many as lack; before 0.5.17 as many as are wanted in all.
    """
    from .base_prefix_cache import EvictParams

    lacking = num_tokens - allocator.available_size()
    if not shares_prefixes(tree_cache) or lacking <= 0:
        return
    evict = tree_cache.evict_for_alloc if since("0.5.19") else tree_cache.evict
    evict(EvictParams(num_tokens=lacking if since("0.5.17") else num_tokens))
