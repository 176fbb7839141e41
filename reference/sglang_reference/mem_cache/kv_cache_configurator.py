"""``sglang.srt.mem_cache.kv_cache_configurator``: sizes and makes the pools of a worker, from 0.5.16 on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sglang_reference._errors import not_covered

from .._contract import since
from . import _building, _plan
from ._plan import Worker
from ._sizing import Sizing

__all__ = ["KVCacheConfigResult", "KVCacheConfigurator"]


@dataclass(frozen=True, kw_only=True)
class KVCacheConfigResult:
    """The pools, and how large they are."""

    max_total_num_tokens: int
    max_running_requests: int
    full_max_total_num_tokens: int | None
    swa_max_total_num_tokens: int | None
    req_to_token_pool: Any
    token_to_kv_pool: Any
    token_to_kv_pool_allocator: Any
    memory_pool_config: Any
    unified_memory_pool: Any = None


@dataclass(kw_only=True)
class KVCacheConfigurator(Sizing):
    """Makes the pools of one rank's worker; those of drafts, of windows and of Mamba's states are not covered."""

    device: str
    gpu_id: int
    if since("0.5.21"):
        attn_dp_size: int
        pp_size: int
    else:
        ps: Any
    pp_group: Any
    model: Any
    model_config: Any
    server_args: Any
    kv_cache_dtype: torch.dtype
    model_dtype: torch.dtype
    page_size: int
    sliding_window_size: int | None
    spec_algorithm: Any
    is_draft_worker: bool
    post_capture_kv_active: bool
    spec_aux_config: Any
    is_hybrid_swa: bool
    is_hybrid_swa_compress: bool
    use_mla_backend: bool
    layer_info: Any
    forward_stream: Any
    req_to_token_pool: Any
    token_to_kv_pool_allocator: Any
    memory_pool_config: Any
    if since("0.5.23"):
        draft_parallel_layout: Any = None
    draft_model_idx: int | None = None
    if since("0.5.17"):
        kv_cache_dtype_str: str | None = None

    def __post_init__(self) -> None:
        """Refuse what the reference does not serve, with NotCovered."""
        if self.post_capture_kv_active:
            raise not_covered("pools that are filled after graphs are captured")
        if self.req_to_token_pool is not None or self.token_to_kv_pool_allocator is not None:
            raise not_covered("pools that are shared with another worker")

    def _worker(self) -> Worker:
        if since("0.5.21"):
            pp_size, dp_size = self.pp_size, self.attn_dp_size
        else:
            pp_size, dp_size = self.ps.pp_size, self.ps.attn_dp_size
        return _plan.worker_of(self, self.layer_info, pp_size=pp_size, dp_size=dp_size)

    def resolve_max_num_reqs(self, token_capacity: int) -> int:
        """How many requests may run at once, of those that so many tokens can hold."""
        return self._max_num_reqs(token_capacity)

    def config_from_budget(self, budget_bytes: int, *, cap_tokens: int | None = None) -> Any:
        """The sizes that so many bytes allow, and the user, and no more than ``cap_tokens``."""
        return self._config_of(budget_bytes, cap_tokens)

    def configure(self, *, pre_model_load_memory: float) -> KVCacheConfigResult:
        """Make the pools, by ``pre_model_load_memory``, the GiB that were free before the model was loaded."""
        config = self._resolve_memory_pool_config(pre_model_load_memory)
        rows, pool, allocator = self._make(config)
        self._tell_what_is_left()
        return KVCacheConfigResult(
            max_total_num_tokens=config.max_total_num_tokens,
            max_running_requests=config.max_running_requests,
            full_max_total_num_tokens=None,
            swa_max_total_num_tokens=None,
            req_to_token_pool=rows,
            token_to_kv_pool=pool,
            token_to_kv_pool_allocator=allocator,
            memory_pool_config=config,
        )

    if since("0.5.22"):

        def _resolve_kv_pool_class(self, *, kind: str, default: type) -> type:
            return _building.resolve_kv_pool_class(kind=kind, default=default)
