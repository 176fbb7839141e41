"""``sglang.srt.mem_cache.radix_cache``: keeps what requests begin with in a tree of tokens.

Facts: srt/mem_cache/radix_cache.py of SGLang 0.5.11, 0.5.16, 0.5.17, 0.5.20, 0.5.21, 0.5.22 and 0.5.23.
"""

from __future__ import annotations

from typing import Any

import torch

from sglang_reference._errors import not_covered

from .._contract import since
from .._released import Lifetime, Parameters, absent, released
from ._radix_key import RadixKey
from ._radix_tree import ORDERS, RadixTree, TreeNode
from ._row_segments import free_one, free_several
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

__all__ = ["RadixCache", "RadixKey", "TreeNode"]


class RadixCache(BasePrefixCache):
    """Keeps slots by the tokens in them and before them, in whole pages; with ``disable`` nothing."""

    def __init__(self, params: CacheInitParams) -> None:
        if params.is_eagle or params.enable_kv_cache_events:
            raise not_covered("a radix cache for EAGLE, or that tells its events")
        policy = params.eviction_policy.lower()
        if policy not in ORDERS:
            raise not_covered(f"the eviction policy {policy!r}")
        self.disable = params.disable
        self.req_to_token_pool = params.req_to_token_pool
        self.token_to_kv_pool_allocator = params.token_to_kv_pool_allocator
        self.page_size = params.page_size
        self.eviction_policy = policy
        allocator = params.token_to_kv_pool_allocator
        self.device = torch.device("cpu" if allocator is None else allocator.device)
        self._tree = RadixTree(self.page_size, self.device, policy)

    @property
    def root_node(self) -> TreeNode:
        """The node that everything begins at."""
        return self._tree.root

    def reset(self) -> None:
        """Keep nothing."""
        self._tree.reset()

    def match_prefix(self, params: MatchPrefixParams) -> MatchResult:
        """How much of a key is kept, in whole pages."""
        length, node = (0, self.root_node) if self.disable else self._tree.match(params.key)
        if since("0.5.22"):
            return MatchResult(length, node, node, node)
        told: Any = self._tree.slots(node)
        return MatchResult(told, node, node)  # type: ignore[call-arg]

    def insert(self, params: InsertParams) -> InsertResult:
        """Keep a key's whole pages, in the slots given, or in as many as its tokens say where none are."""
        if self.disable:
            return InsertResult(prefix_len=0)
        key = params.key.page_aligned(self.page_size)
        value = torch.tensor(list(key), dtype=torch.int64) if params.value is None else params.value[: len(key)]
        length, node = self._tree.insert(key, value, params.priority or 0, hit=not vars(params).get("chunked"))
        result = InsertResult(prefix_len=length)
        if since("0.5.15"):
            result.last_device_node = node
        return result

    def evict(self, params: EvictParams) -> EvictResult:
        """Give slots back that nobody holds, whole leaves of the tree."""
        if self.disable:
            return EvictResult()
        return EvictResult(num_tokens_evicted=self._tree.evict(params.num_tokens, self._free))

    def _free(self, value: torch.Tensor) -> None:
        free_one(self.token_to_kv_pool_allocator, value, 0, len(value))

    def inc_lock_ref(self, node: TreeNode) -> IncLockRefResult:
        """Hold a node and all before it."""
        return IncLockRefResult(delta=0 if self.disable else self._tree.lock(node))

    def dec_lock_ref(self, node: TreeNode, params: DecLockRefParams | None = None) -> DecLockRefResult:
        """Let go of a node and all before it."""
        return DecLockRefResult(delta=0 if self.disable else self._tree.unlock(node))

    def supports_prefix_sharing(self) -> bool:
        """Whether requests share what they begin with."""
        return not self.disable

    def evictable_size(self) -> int:
        """How many slots are kept that nobody holds."""
        return self._tree.evictable

    def protected_size(self) -> int:
        """How many slots are kept that somebody holds."""
        return self._tree.protected

    def total_size(self) -> int:
        """How many slots are kept."""
        return sum(len(node.key) for node in self._tree.nodes())

    def all_values_flatten(self) -> torch.Tensor:
        """Every slot that is kept."""
        return torch.cat([self._tree.nothing, *(node.value for node in self._tree.nodes() if node.value is not None)])

    def pretty_print(self) -> None:
        """Print the nodes, each with its length, its first tokens and who holds it."""
        for node in self._tree.nodes():
            print(len(node.key), list(node.key.token_ids[:10]), f"r={node.lock_ref}")
        print(f"#tokens: {self.total_size()}")

    def path_device_indices(self, node: TreeNode) -> torch.Tensor:
        """The slots of all tokens up to the end of a node."""
        return self._tree.slots(node)

    # What requests have, kept and given back.

    def _insert_row(self, req: Any, up_to: int) -> tuple[RadixKey, int]:
        """Keep a request's whole pages up to a position; their key, and how much of it was kept before."""
        tokens = (req.origin_input_ids + req.output_ids)[:up_to]
        key = RadixKey(tokens, req.extra_key).page_aligned(self.page_size)
        slots = self._row(req)[: len(key)].to(torch.int64, copy=True)
        result = self.insert(InsertParams(key=key, value=slots, priority=getattr(req, "priority", None) or 0))
        return key, result.prefix_len

    def _row(self, req: Any) -> torch.Tensor:
        row: torch.Tensor = self.req_to_token_pool.req_to_token[req.kv.req_pool_idx]
        return row

    def _keep(self, req: Any, up_to: int) -> None:
        """Keep what a request has; the slots that others had kept before take the place of its own."""
        key, before = self._insert_row(req, up_to)
        protected = req.kv.cache_protected_len
        free_one(self.token_to_kv_pool_allocator, self._row(req), protected, before)
        length, node = self._tree.match(key)
        assert length == len(key), f"{length} of {len(key)} tokens are kept, just after they were inserted"
        self.req_to_token_pool.write(
            (req.kv.req_pool_idx, slice(protected, length)), self._tree.slots(node)[protected:].to(torch.int32)
        )
        req.kv.cache_protected_len = length
        self._hold_instead(req, node)

    def _hold_instead(self, req: Any, node: TreeNode) -> None:
        """Let the request hold this node, and no longer the one it did."""
        if since("0.5.22"):
            self.unlock(req.lock)
            req.lock = self.lock(node)
        else:
            self.dec_lock_ref(req.last_node)
            self.inc_lock_ref(node)
        req.last_node = node

    def checkpoint(self, req: Any, *, up_to: int) -> None:  # type: ignore[override]
        """Keep what a request has, up to a position; it goes on with what is kept."""
        if not self.disable:
            self._keep(req, up_to)

    def cache_unfinished_req(self, req: Any, chunked: bool = False) -> None:  # type: ignore[override]
        """Keep what a request has so far; it goes on with what is kept."""
        if self.disable:
            return
        up_to = req.kv.kv_committed_len
        self._keep(req, up_to)
        req.prefix_indices = self._row(req)[:up_to].to(torch.int64, copy=True)

    def insert_req(self, req: Any, *, up_to: int) -> None:  # type: ignore[override]
        """Keep what a finished request has, up to a position."""
        if self.disable:
            return
        key, before = self._insert_row(req, up_to)
        free_one(self.token_to_kv_pool_allocator, self._row(req), req.kv.cache_protected_len, before)
        req.kv.cache_protected_len = len(key)

    @released(Parameters({"kv_len_to_handle": Lifetime("0.5.16")}))
    def cache_finished_req(  # type: ignore[override]
        self, req: Any, is_insert: bool = True, *, kv_len_to_handle: int
    ) -> None:
        """Keep what a finished request has, if ``is_insert``, and give the rest of its row back."""
        end = req.kv.kv_committed_len if kv_len_to_handle is None else kv_len_to_handle
        row, protected = self._row(req), req.kv.cache_protected_len
        allocator = self.token_to_kv_pool_allocator
        if self.disable:
            free_one(allocator, row, protected, end)
            return
        if is_insert:
            key, before = self._insert_row(req, end)
            free_several(allocator, row, [(protected, before), (len(key), end)])
        else:
            whole = end // self.page_size * self.page_size
            free_several(allocator, row, [(protected, whole), (whole, end)])
        if req.last_node is not None:
            self.dec_lock_ref(req.last_node)


for _name in absent(
    {
        "supports_prefix_sharing": Lifetime("0.5.22"),
        "path_device_indices": Lifetime("0.5.22"),
        "checkpoint": Lifetime("0.5.22"),
        "cache_unfinished_req": Lifetime(gone="0.5.22"),
        "insert_req": Lifetime("0.5.21", "0.5.22"),
        "cache_finished_req": Lifetime(gone="0.5.21"),
    }
):
    delattr(RadixCache, _name)
