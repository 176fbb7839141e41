"""What a request holds of the pools. Facts: SGLang 0.5.19 and 0.5.23, srt/managers/schedule_batch.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .._partial import Partial
from .._released import Lifetime
from ._placing import placed


@placed("schedule_batch", mark_kv_released=Lifetime("0.5.19"))
@dataclass
class ReqKvInfo(Partial):
    """What a request holds of the pools: its row, and slots from ``cache_protected_len`` to ``kv_allocated_len``.

    Slots before ``cache_protected_len`` are the tree cache's. Keys and values are there up to ``kv_committed_len``.
    """

    req_pool_idx: int | None = None
    cache_protected_len: int = 0
    cache_inserted_len: int = 0
    kv_committed_len: int = 0
    kv_allocated_len: int = 0
    swa_evict_floor: int = 0
    swa_evicted_seqlen: int = 0
    component_evicted_seqlens: dict[Any, int] = field(default_factory=dict)
    mamba_pool_idx: Any = None

    @property
    def holds_kv(self) -> bool:
        """Whether the request has a row."""
        return self.req_pool_idx is not None

    @property
    def holds_mamba(self) -> bool:
        """Whether the request has a state of Mamba."""
        return self.mamba_pool_idx is not None

    @property
    def is_kv_released(self) -> bool:
        """Whether nothing is left of it."""
        return self.kv_allocated_len == 0

    def mark_kv_released(self) -> None:
        """What is held has been given back."""
        self._forget()

    def _forget(self) -> None:
        self.kv_allocated_len = self.swa_evicted_seqlen = 0
        self.component_evicted_seqlens.clear()
