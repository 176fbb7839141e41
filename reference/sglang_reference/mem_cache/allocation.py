"""``sglang.srt.mem_cache.allocation``: slots for the tokens of a batch, from 0.5.16 on."""

from __future__ import annotations

from ._allocation import (
    alloc_for_decode,
    alloc_for_extend,
    alloc_paged_token_slots_decode,
    alloc_paged_token_slots_extend,
    alloc_req_slots,
    alloc_token_slots,
    get_last_loc,
    write_cache_indices,
)
from .common import available_and_evictable_str, evict_from_tree_cache

__all__ = [
    "alloc_for_decode",
    "alloc_for_extend",
    "alloc_paged_token_slots_decode",
    "alloc_paged_token_slots_extend",
    "alloc_req_slots",
    "alloc_token_slots",
    "available_and_evictable_str",
    "evict_from_tree_cache",
    "get_last_loc",
    "write_cache_indices",
]
