"""``sglang.srt.mem_cache.chunk_cache``: keeps nothing for other requests; from 0.5.22 on a disabled tree does.

Facts: srt/mem_cache/chunk_cache.py of SGLang 0.5.11, 0.5.16, 0.5.17 and 0.5.21.
"""

from __future__ import annotations

from typing import Any

import torch

from .._released import Lifetime, Parameters, absent, released
from ._row_segments import free_one
from .base_prefix_cache import (
    BasePrefixCache,
    DecLockRefParams,
    DecLockRefResult,
    EvictParams,
    EvictResult,
    IncLockRefResult,
    InsertParams,
    InsertResult,
    MatchPrefixParams,
    MatchResult,
)
from .cache_init_params import CacheInitParams

__all__ = ["ChunkCache"]


class ChunkCache(BasePrefixCache):
    """What takes a tree's place where prompts are not shared (``--disable-radix-cache``)."""

    def __init__(self, params: CacheInitParams) -> None:
        self.req_to_token_pool = params.req_to_token_pool
        self.token_to_kv_pool_allocator = params.token_to_kv_pool_allocator
        self.page_size = params.page_size

    @property
    def disable(self) -> bool:  # type: ignore[override]
        """Whether nothing is shared: so it is."""
        return True

    def is_chunk_cache(self) -> bool:
        """Whether requests share nothing."""
        return True

    def reset(self) -> None:
        """Keep nothing, as ever."""

    def match_prefix(self, params: MatchPrefixParams) -> MatchResult:
        """Nothing is kept of any key."""
        nothing: Any = torch.empty((0,), dtype=torch.int64)
        return MatchResult(nothing, None, None)  # type: ignore[call-arg]

    def insert(self, params: InsertParams) -> InsertResult:
        """Keep nothing."""
        return InsertResult(prefix_len=0)

    @released(Parameters({"kv_len_to_handle": Lifetime("0.5.16")}))
    def cache_finished_req(  # type: ignore[override]
        self, req: Any, is_insert: bool = True, *, kv_len_to_handle: int
    ) -> None:
        """Give a finished request's row back."""
        end = req.kv.kv_committed_len if kv_len_to_handle is None else kv_len_to_handle
        row = self.req_to_token_pool.req_to_token[req.kv.req_pool_idx]
        free_one(self.token_to_kv_pool_allocator, row, req.kv.cache_protected_len, end)

    def insert_req(self, req: Any, *, up_to: int) -> None:  # type: ignore[override]
        """Keep nothing."""

    def cache_unfinished_req(self, req: Any, chunked: bool = False) -> None:  # type: ignore[override]
        """A request goes on with what it has."""
        row = self.req_to_token_pool.req_to_token[req.kv.req_pool_idx]
        req.prefix_indices = row[: req.kv.kv_committed_len].to(torch.int64, copy=True)

    def evict(self, params: EvictParams) -> EvictResult:
        """There is nothing to evict."""
        return EvictResult()

    def inc_lock_ref(self, node: Any) -> IncLockRefResult:
        """There is nothing to hold."""
        return IncLockRefResult(delta=0)

    def dec_lock_ref(self, node: Any, params: DecLockRefParams | None = None) -> DecLockRefResult:
        """There is nothing to let go of."""
        return DecLockRefResult(delta=0)

    def protected_size(self) -> int:
        """How many slots are kept that somebody holds."""
        return 0

    def pretty_print(self) -> None:
        """Print nothing."""


for _name in absent({"insert_req": Lifetime("0.5.21", "0.5.22"), "cache_finished_req": Lifetime(gone="0.5.21")}):
    delattr(ChunkCache, _name)
