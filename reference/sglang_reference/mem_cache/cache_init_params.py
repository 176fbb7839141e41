"""``sglang.srt.mem_cache.cache_init_params``: what a cache of prefixes is made with."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass
class CacheInitParams:
    """The pools that the cache keeps slots of, and how."""

    disable: bool
    req_to_token_pool: Any
    token_to_kv_pool_allocator: Any
    page_size: int
    is_eagle: bool = False
    tp_cache_group: Any = None
    attn_cp_cache_group: Any = None
    attn_tp_cache_group: Any = None
    eviction_policy: str = "lru"
    disable_finished_insert: bool = False
    enable_metrics: bool = False
    enable_kv_cache_events: bool = False
    sliding_window_size: int | None = None
    chunked_prefill_size: int | None = None
    pp_rank: int = 0
    pp_size: int = 1
