"""``sglang.srt.mem_cache.common``: what requests begin with, what of them is kept, and how their rows come back.

Up to 0.5.15.post1 also the slots for the tokens of a batch, which mem_cache.allocation gives out since.

Facts: srt/mem_cache/common.py of SGLang 0.5.11, 0.5.17, 0.5.20, 0.5.21, 0.5.22 and 0.5.23. Where SGLang asks a request
for the part of its row that it owns, the reference takes ``req.kv.kv_committed_len``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._contract import since
from .._released import Lifetime, withdraw
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
from ._row_segments import free_one
from ._sharing import evict_what_lacks, shares_prefixes
from .base_prefix_cache import MatchPrefixParams
from .radix_cache import RadixKey

__all__ = [
    "alloc_for_decode",
    "alloc_for_extend",
    "alloc_paged_token_slots_decode",
    "alloc_paged_token_slots_extend",
    "alloc_req_slots",
    "alloc_token_slots",
    "available_and_evictable_str",
    "checkpoint_kv_cache",
    "evict_from_tree_cache",
    "get_last_loc",
    "match_kv_cache",
    "maybe_cache_unfinished_req",
    "release_kv_cache",
    "write_cache_indices",
]


def available_and_evictable_str(tree_cache: Any) -> str:
    """How many slots there are to be had, in words, for an error."""
    text: str = tree_cache.available_and_evictable_str()
    return text


def evict_from_tree_cache(tree_cache: Any, num_tokens: int) -> bool | None:
    """Have so many slots free, if the tree cache can do without some; from 0.5.21 on the allocator sees to it."""
    if not shares_prefixes(tree_cache):
        return None
    allocator = tree_cache.token_to_kv_pool_allocator
    if since("0.5.21"):
        done: bool | None = allocator.evict_to_free_tokens(tree_cache, num_tokens)
        return done
    evict_what_lacks(tree_cache, allocator, num_tokens)
    return None


def match_kv_cache(
    req: Any,
    tree_cache: Any,
    token_ids: Sequence[int] | None = None,
    *,
    cow_mamba: bool = False,
    max_prefix_len: int | None = None,
) -> Any:
    """Let the request begin with what is kept of its tokens."""
    tokens = req.origin_input_ids + req.output_ids if token_ids is None else token_ids
    key = RadixKey(tokens, req.extra_key, limit=max_prefix_len)
    found = tree_cache.match_prefix(MatchPrefixParams(key=key, cow_mamba=cow_mamba, req=req))
    req.prefix_len = found.device_prefix_len
    req.last_node, req.last_host_node, req.best_match_node = (
        found.last_device_node,
        found.last_host_node,
        found.best_match_node,
    )
    req.kv.cache_protected_len = found.device_prefix_len
    return found


def checkpoint_kv_cache(req: Any, tree_cache: Any) -> None:
    """Keep what a running request has computed so far."""
    if not _left_out(req):
        tree_cache.checkpoint(req, up_to=req.kv.kv_committed_len)
    req.prefix_len = req.kv.kv_committed_len


def maybe_cache_unfinished_req(req: Any, tree_cache: Any, **kwargs: Any) -> None:
    """Keep what a running request has computed so far."""
    if not _left_out(req):
        tree_cache.cache_unfinished_req(req, **kwargs)


def _left_out(req: Any) -> bool:
    return bool(getattr(req, "skip_radix_cache_insert", False))


if since("0.5.22"):

    def release_kv_cache(req: Any, tree_cache: Any, *, checkpoint: bool) -> None:
        """Give a request's row back, once what it has is kept, if ``checkpoint``."""
        _release(req, tree_cache, checkpoint and not _left_out(req))

else:

    def release_kv_cache(req: Any, tree_cache: Any, is_insert: bool = True) -> None:  # type: ignore[misc]
        """Give a request's row back, once what it has is kept, if ``is_insert``."""
        _release(req, tree_cache, is_insert and not _left_out(req))


def _release(req: Any, tree_cache: Any, keep: bool) -> None:
    assert req.kv.req_pool_idx is not None, f"request {req.rid} has nothing to give back"
    owned = req.kv.kv_committed_len
    if since("0.5.21"):
        if tree_cache.claim_kv_row(req):
            return
        _keep_and_let_go(req, tree_cache, owned, keep)
    else:
        told = {"kv_len_to_handle": owned} if since("0.5.16") else {}
        tree_cache.cache_finished_req(req, is_insert=keep, **told)
        _free_rest(req, tree_cache, owned)
    tree_cache.req_to_token_pool.free(req)
    req.kv.kv_allocated_len = 0


def _keep_and_let_go(req: Any, tree_cache: Any, owned: int, keep: bool) -> None:
    """As from 0.5.21 on: kept, the rest given back, let go of, and the cache told."""
    if keep and since("0.5.22"):
        tree_cache.checkpoint(req, up_to=owned)
    elif keep:
        tree_cache.insert_req(req, up_to=owned)
    tree_cache.free_kv_row(req.kv, [(req.kv.cache_protected_len, owned)])
    if since("0.5.22"):
        tree_cache.unlock(req.lock)
        req.lock = None
    else:
        tree_cache.unpin(req)
    _free_rest(req, tree_cache, owned)
    tree_cache.on_release(req, **{"checkpointed" if since("0.5.22") else "inserted": keep})


def _free_rest(req: Any, tree_cache: Any, owned: int) -> None:
    """Give back whole pages that the row has beyond what the request owns."""
    allocator = tree_cache.token_to_kv_pool_allocator
    start, end = -(-owned // allocator.page_size) * allocator.page_size, req.kv.kv_allocated_len
    if start >= end:
        return
    if since("0.5.19"):
        tree_cache.free_kv_row(req.kv, [(start, end)])
    else:
        free_one(allocator, tree_cache.req_to_token_pool.req_to_token[req.kv.req_pool_idx], start, end)


_SHARING, _ALLOCATING = Lifetime("0.5.22"), Lifetime(gone="0.5.16")
_ABSENT = withdraw(
    globals(),
    {
        "checkpoint_kv_cache": _SHARING,
        "match_kv_cache": _SHARING,
        "maybe_cache_unfinished_req": Lifetime(gone="0.5.22"),
        **dict.fromkeys([name for name in __all__ if name.startswith(("alloc_", "write_", "get_last"))], _ALLOCATING),
    },
)
