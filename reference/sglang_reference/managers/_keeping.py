"""The keys and values of requests: room for them, and keeping them from being evicted.

Matching, keeping and giving back is in :mod:`.mem_cache._requests`. Facts: SGLang 0.5.11 and 0.5.23,
srt/managers/schedule_policy.py and schedule_batch.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from .._contract import since
from ..mem_cache import common
from ..mem_cache._sharing import shares_prefixes

allocation: Any = common
if since("0.5.16"):
    from ..mem_cache import allocation

if TYPE_CHECKING:
    from ._request import Req

__all__ = ["alloc_for_decode", "alloc_for_extend", "has_room", "locked", "make_room", "shares_prefixes"]


def alloc_for_extend(batch: Any) -> tuple[Any, Any, Any]:
    """Rows and slots for a prefill: the slots, the rows on the device, the rows on the host."""
    out_cache_loc, rows, rows_cpu = allocation.alloc_for_extend(batch)
    for req in batch.reqs:
        req.kv.kv_committed_len = req.kv.kv_allocated_len = req.extend_end
    return out_cache_loc, rows, torch.as_tensor(rows_cpu, dtype=torch.int64)  # a list in early releases


def alloc_for_decode(batch: Any) -> Any:
    """A slot for the next token of each request."""
    before = [req.kv.kv_committed_len for req in batch.reqs]
    out_cache_loc = allocation.alloc_for_decode(batch, token_per_req=1)
    for req, length in zip(batch.reqs, before, strict=True):
        req.kv.kv_committed_len = req.kv.kv_allocated_len = length + 1
    return out_cache_loc


def make_room(tree_cache: Any, num_tokens: int) -> None:
    """Have the tree cache give up what so many tokens want."""
    common.evict_from_tree_cache(tree_cache, num_tokens)


@contextlib.contextmanager
def locked(tree_cache: Any, node: Any) -> Iterator[None]:
    """Keep a node of the tree cache, and those above it, for a while: it does not count as what can be evicted."""
    if since("0.5.22"):
        lock = tree_cache.lock(node)
        try:
            yield
        finally:
            tree_cache.unlock(lock)
        return
    tree_cache.inc_lock_ref(node)
    try:
        yield
    finally:
        tree_cache.dec_lock_ref(node)


def has_room(batch: Any, num_tokens: int, requests: list[Req]) -> bool:
    """Whether so many slots can be had for the next tokens, also by evicting."""
    allocator = batch.token_to_kv_pool_allocator
    if not since("0.5.19"):
        make_room(batch.tree_cache, num_tokens)
        return bool(allocator.available_size() >= num_tokens)
    more = {"requests": requests, "spec_algorithm": batch.spec_algorithm} if since("0.5.20") else {}
    return bool(allocator.check_decode_capacity(num_tokens=num_tokens, tree_cache=batch.tree_cache, **more))
