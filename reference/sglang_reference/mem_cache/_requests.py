"""What a scheduler does with a request's slots, in the words of whatever release: match, hold, keep, give back.

Each step calls what SGLang's scheduler of that release calls, where hooks can replace it. A request is SGLang's Req
with ``kv`` (a ReqKvInfo, as SGLang has it from 0.5.19 on) in every release, ``lock`` and ``last_node``.

Facts: srt/managers/schedule_batch.py and srt/managers/schedule_policy.py of SGLang 0.5.11, 0.5.21 and 0.5.22.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .._contract import since
from . import common
from .base_prefix_cache import BasePrefixCache, MatchPrefixParams
from .cache_init_params import CacheInitParams
from .radix_cache import RadixCache, RadixKey


def tree_cache_of(server_args: Any, rows: Any, allocator: Any) -> BasePrefixCache:
    """The cache of prefixes that the arguments ask for."""
    params = CacheInitParams(
        disable=server_args.disable_radix_cache,
        req_to_token_pool=rows,
        token_to_kv_pool_allocator=allocator,
        page_size=server_args.page_size,
        eviction_policy=server_args.radix_eviction_policy,
    )
    if params.disable and not since("0.5.22"):
        from .chunk_cache import ChunkCache

        return ChunkCache(params)
    return RadixCache(params)


def match(req: Any, tree_cache: Any, token_ids: Sequence[int] | None = None) -> int:
    """Let the request begin with what is kept of its tokens, all but the last of them; how many that is.

    Sets ``prefix_len``, ``last_node`` and ``kv.cache_protected_len``; before 0.5.22 also ``prefix_indices``, the slots.
    """
    tokens = req.origin_input_ids + req.output_ids if token_ids is None else token_ids
    most = max(len(tokens) - 1, 0)
    if since("0.5.22"):
        common.match_kv_cache(req, tree_cache, tokens, max_prefix_len=most)
        return int(req.prefix_len)
    found: Any = tree_cache.match_prefix(MatchPrefixParams(key=RadixKey(tokens[:most], req.extra_key), req=req))
    req.prefix_indices = found.device_indices
    req.prefix_len = req.kv.cache_protected_len = len(found.device_indices)
    req.last_node = found.last_device_node
    return int(req.prefix_len)


def hold(req: Any, tree_cache: Any) -> None:
    """Hold what the request begins with, so that it is not evicted; once, when it is admitted."""
    if since("0.5.22"):
        req.lock = tree_cache.lock(req.last_node)
    else:
        tree_cache.inc_lock_ref(req.last_node)


def keep(req: Any, tree_cache: Any, *, chunked: bool = False) -> None:
    """Keep what a running request has computed so far; after a prompt, or a part of it (``chunked``)."""
    if since("0.5.22"):
        common.checkpoint_kv_cache(req, tree_cache)
    else:
        common.maybe_cache_unfinished_req(req, tree_cache, chunked=chunked)
        req.prefix_len = len(req.prefix_indices)


def give_back(req: Any, tree_cache: Any, *, kept: bool = True) -> None:
    """Give the request's row back, once what it has is kept; without, when it is retracted."""
    common.release_kv_cache(req, tree_cache, **{"checkpoint" if since("0.5.22") else "is_insert": kept})
    req.kv.kv_committed_len = req.kv.cache_protected_len = 0
    req.prefix_len, req.last_node = 0, None
    if not since("0.5.22"):
        req.prefix_indices = torch.empty((0,), dtype=torch.int64)
