"""``sglang.srt.mem_cache.base_prefix_cache``: what every cache of prefixes has, and what it is asked with.

Facts: srt/mem_cache/base_prefix_cache.py of SGLang 0.5.11, 0.5.15, 0.5.19, 0.5.21, 0.5.22 and 0.5.23.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch

from .._contract import since
from .._partial import Partial
from .._released import Lifetime, Parameters, absent, released, withdraw
from ._row_segments import segments_of

__all__ = [
    "BasePrefixCache",
    "DecLockRefParams",
    "DecLockRefResult",
    "EvictParams",
    "EvictResult",
    "IncLockRefResult",
    "InsertParams",
    "InsertResult",
    "MatchPrefixParams",
    "MatchResult",
    "TreeLock",
]


@dataclasses.dataclass
class MatchPrefixParams:
    """What to look for: a key, and the request whose it is."""

    key: Any
    cow_mamba: bool = False
    req: Any = None


@dataclasses.dataclass
class InsertParams:
    """What to keep: a key, and the slots of its tokens."""

    key: Any = None
    value: torch.Tensor | None = None
    priority: int = 0
    if since("0.5.22"):
        inserted_len: int = 0
    else:
        chunked: bool = False


@dataclasses.dataclass
class InsertResult:
    """How much of the key was kept already, and the node that its end is in."""

    prefix_len: int
    mamba_exist: bool = False
    if since("0.5.15"):
        last_device_node: Any = None


@dataclasses.dataclass
class EvictParams:
    """How much to evict: slots of full attention, of the sliding window, and states of Mamba."""

    num_tokens: int = 0
    swa_num_tokens: int = 0
    mamba_num: int = 0


@dataclasses.dataclass
class EvictResult:
    """How much was evicted."""

    num_tokens_evicted: int = 0
    swa_num_tokens_evicted: int = 0
    mamba_num_evicted: int = 0


@dataclasses.dataclass
class DecLockRefParams:
    """How a node was locked; nothing has to be said of full attention."""


@dataclasses.dataclass
class IncLockRefResult:
    """By how many slots locking changed what can be evicted."""

    delta: int | None = None

    def to_dec_params(self) -> DecLockRefParams:
        """What unlocking is called with."""
        return DecLockRefParams()


for _name in absent({"to_dec_params": Lifetime("0.5.12")}):
    delattr(IncLockRefResult, _name)


@dataclasses.dataclass
class TreeLock:
    """A node that somebody holds."""

    node: Any
    receipt: DecLockRefParams


@dataclasses.dataclass
class DecLockRefResult:
    """By how many slots unlocking changed what can be evicted."""

    delta: int | None = None


if since("0.5.22"):

    class MatchResult(NamedTuple):
        """How much of a key is kept, and the node that this ends in; the slots are the cache's to tell."""

        device_prefix_len: int
        last_device_node: Any
        last_host_node: Any
        best_match_node: Any
        host_hit_length: int = 0
        cache_protected_len: int | None = None

else:

    class MatchResult(NamedTuple):  # type: ignore[no-redef]
        """The slots of what is kept of a key, and the node that this ends in."""

        device_indices: torch.Tensor
        last_device_node: Any
        last_host_node: Any
        host_hit_length: int = 0
        cache_protected_len: int | None = None


_BEFORE_SHARING = Lifetime(gone="0.5.22")
_SHARING = Lifetime("0.5.22")
_LIFETIMES = {
    "cache_finished_req": Lifetime(gone="0.5.21"),
    "cache_unfinished_req": _BEFORE_SHARING,
    "is_chunk_cache": _BEFORE_SHARING,
    "is_tree_cache": _BEFORE_SHARING,
    "insert_req": Lifetime("0.5.21", "0.5.22"),
    "unpin": Lifetime("0.5.21", "0.5.22"),
    "claim_kv_row": Lifetime("0.5.21"),
    "on_release": Lifetime("0.5.21"),
    "evict_for_alloc": Lifetime("0.5.19"),
    "free_kv_row": Lifetime("0.5.19"),
    "checkpoint": _SHARING,
    "lock": _SHARING,
    "unlock": _SHARING,
    "path_device_indices": _SHARING,
    "prefix_device_indices": _SHARING,
    "supports_prefix_sharing": _SHARING,
}


class BasePrefixCache(Partial, ABC):
    """What keeps the slots of tokens that requests begin with, for those to come."""

    req_to_token_pool: Any
    token_to_kv_pool_allocator: Any
    page_size: int
    disable: bool

    @abstractmethod
    def reset(self) -> None:
        """Keep nothing."""

    @abstractmethod
    def match_prefix(self, params: MatchPrefixParams) -> MatchResult:
        """How much of a key is kept."""

    @abstractmethod
    def evict(self, params: EvictParams) -> EvictResult:
        """Give slots back that nobody holds."""

    @abstractmethod
    def inc_lock_ref(self, node: Any) -> IncLockRefResult:
        """Hold a node and all before it."""

    @abstractmethod
    def dec_lock_ref(self, node: Any, params: DecLockRefParams | None = None) -> DecLockRefResult:
        """Let go of a node and all before it."""

    def cache_finished_req(self, req: Any, is_insert: bool = True, **kwargs: Any) -> None:
        """Keep what a finished request has, if ``is_insert``, and give the rest of its row back."""
        raise NotImplementedError

    def cache_unfinished_req(self, req: Any, **kwargs: Any) -> None:
        """Keep what a request has so far; it goes on with what is kept."""
        raise NotImplementedError

    def insert_req(self, req: Any, *, up_to: int, **kwargs: Any) -> None:
        """Keep what a finished request has, up to a position."""
        raise NotImplementedError

    def checkpoint(self, req: Any, *, up_to: int, **kwargs: Any) -> None:
        """Keep what a request has, up to a position; it goes on with what is kept."""
        raise NotImplementedError

    def unpin(self, req: Any) -> None:
        """Let go of the node that a request holds."""
        if req.last_node is not None:
            self.dec_lock_ref(req.last_node)

    def claim_kv_row(self, req: Any) -> bool:
        """Whether the cache takes a request's row over as it is; none does."""
        return False

    if since("0.5.22"):

        def on_release(self, req: Any, *, checkpointed: bool) -> None:
            """A request's row is given back."""

    else:

        def on_release(self, req: Any, *, inserted: bool) -> None:  # type: ignore[misc]
            """A request's row is given back."""

    def lock(self, node: Any) -> TreeLock | None:
        """Hold a node and all before it, for one holder."""
        self.inc_lock_ref(node)
        return TreeLock(node, DecLockRefParams())

    def unlock(self, lock: TreeLock | None) -> None:
        """Let go of what was held."""
        if lock is not None:
            self.dec_lock_ref(lock.node, lock.receipt)

    def path_device_indices(self, node: Any) -> torch.Tensor:
        """The slots of all tokens up to the end of a node."""
        raise NotImplementedError

    def prefix_device_indices(self, req: Any) -> torch.Tensor:
        """The slots of what the request was found to begin with."""
        return self.path_device_indices(req.last_node)[: req.prefix_len]

    def free_kv_row(self, kv: Any, ranges: list[tuple[int, int]]) -> None:
        """Give positions of a request's row back, from and up to, in order."""
        row = self.req_to_token_pool.req_to_token[kv.req_pool_idx]
        self.token_to_kv_pool_allocator.free_segments(segments_of(row, ranges))

    @released(Parameters({"allocation_reclaim_satisfied": Lifetime("0.5.23")}))
    def evict_for_alloc(self, params: EvictParams, *, allocation_reclaim_satisfied: Any = None) -> EvictResult:
        """Evict so that an allocator has enough."""
        return self.evict(params)

    def supports_prefix_sharing(self) -> bool:
        """Whether requests share what they begin with."""
        return True

    def is_chunk_cache(self) -> bool:
        """Whether requests share nothing."""
        return False

    def is_tree_cache(self) -> bool:
        """Whether requests share what they begin with."""
        return not self.is_chunk_cache()

    def supports_swa(self) -> bool:
        """Whether sliding windows are kept too."""
        return False

    def supports_mamba(self) -> bool:
        """Whether states of Mamba are kept too."""
        return False

    def evictable_size(self) -> int:
        """How many slots are kept that nobody holds."""
        return 0

    def protected_size(self) -> int:
        """How many slots are kept that somebody holds."""
        return 0

    def total_size(self) -> int:
        """How many slots are kept."""
        raise NotImplementedError

    def pretty_print(self) -> None:
        """Print what is kept."""
        raise NotImplementedError

    def available_and_evictable_str(self) -> str:
        """How many slots there are to be had, in words, for an error."""
        free, kept = self.token_to_kv_pool_allocator.available_size(), self.evictable_size()
        return f"Available tokens: {free + kept} (available_size={free} + evictable_size={kept})\n"


for _name in absent(_LIFETIMES):
    delattr(BasePrefixCache, _name)

_ABSENT = withdraw(globals(), {"TreeLock": Lifetime("0.5.22")})
