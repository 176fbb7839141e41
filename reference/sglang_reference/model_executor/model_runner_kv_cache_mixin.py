"""``sglang.srt.model_executor.model_runner_kv_cache_mixin``: the part of a model runner that makes its pools.

SGLang has it up to 0.5.15.post1; from 0.5.16 on, mem_cache.kv_cache_configurator does this.
"""

from __future__ import annotations

from typing import Any

from ..mem_cache import _plan
from ..mem_cache._plan import Worker
from ..mem_cache._sizing import Sizing


class ModelRunnerKVCacheMixin(Sizing):
    """What the runner brings: ``start_layer``, ``end_layer``, ``num_effective_layers``, ``pp_size`` and ``dp_size``."""

    pp_size: int
    dp_size: int

    def _worker(self) -> Worker:
        return _plan.worker_of(self, self, pp_size=self.pp_size, dp_size=self.dp_size)

    def _resolve_max_num_reqs(self, token_capacity: int) -> int:
        return self._max_num_reqs(token_capacity)

    def init_memory_pool(self, pre_model_load_memory: float) -> None:
        """Make the pools, by ``pre_model_load_memory``, the GiB that were free before the model was loaded."""
        self.memory_pool_config = self._resolve_memory_pool_config(pre_model_load_memory)
        self._apply_memory_pool_config(self.memory_pool_config)
        self._tell_what_is_left()

    def _apply_memory_pool_config(self, config: Any) -> None:
        self.max_total_num_tokens = config.max_total_num_tokens
        self.max_running_requests = config.max_running_requests
        self._init_pools()

    def _init_pools(self) -> None:
        self.req_to_token_pool, self.token_to_kv_pool, self.token_to_kv_pool_allocator = self._make(
            self.memory_pool_config
        )
