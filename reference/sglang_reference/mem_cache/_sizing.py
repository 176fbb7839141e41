"""From memory to the sizes of pools: the steps that a model runner takes before 0.5.16, and its configurator since."""

from __future__ import annotations

import logging
from typing import Any

from sglang_reference._errors import not_covered

from .._partial import Partial
from ..utils import common
from . import _building, _plan
from ._plan import Worker

logger = logging.getLogger(__name__)


class Sizing(Partial):
    """The steps, by SGLang's names; what has them knows its ``_worker``."""

    spec_algorithm: Any
    device: str
    gpu_id: int
    server_args: Any

    def _worker(self) -> Worker:
        raise NotImplementedError

    def _profile_available_bytes(self, pre_model_load_memory: float) -> int:
        return _plan.bytes_left(self._worker(), pre_model_load_memory)

    def _apply_token_constraints(self, token_capacity: int) -> int:
        return _plan.constrained(self._worker(), token_capacity)

    def _max_num_reqs(self, token_capacity: int) -> int:
        return _plan.requests_for(self._worker(), token_capacity)

    def _config_of(self, budget_bytes: int, cap_tokens: int | None = None) -> Any:
        """The sizes that so many bytes allow, and the user, and no more than ``cap_tokens``."""
        from ..model_executor.pool_configurator import create_memory_pool_configurator

        configurator, page_size = create_memory_pool_configurator(self), self.server_args.page_size
        config = configurator.calculate_pool_sizes(budget_bytes, page_size)
        tokens = self._apply_token_constraints(config.max_total_num_tokens)
        if cap_tokens is not None:
            tokens = min(tokens, cap_tokens)
        if tokens != config.max_total_num_tokens:
            config = configurator.calculate_pool_sizes_from_max_tokens(tokens, page_size)
        return config

    def _resolve_memory_pool_config(self, pre_model_load_memory: float) -> Any:
        """The sizes, by what memory was free before the model was loaded and is now."""
        algorithm = self.spec_algorithm
        if algorithm is not None and not algorithm.is_none():
            raise not_covered("the pools of speculative decoding")
        config = self._config_of(self._profile_available_bytes(pre_model_load_memory))
        config.max_running_requests = self._max_num_reqs(config.max_total_num_tokens)
        config.mem_fraction_static = self.server_args.mem_fraction_static
        return config

    def _make(self, config: Any) -> tuple[Any, Any, Any]:
        """Rows, pool and allocator of these sizes, and what is left of memory then, in the log."""
        worker = self._worker()
        rows = _building.rows_of(worker, config.max_running_requests)
        pool = _building.pool_of(worker, config.max_total_num_tokens, rows)
        return rows, pool, _building.allocator_of(worker, config.max_total_num_tokens, pool)

    def _tell_what_is_left(self) -> None:
        left = common.get_available_gpu_memory(self.device, self.gpu_id)
        logger.info("Memory pool end. avail mem=%.2f GB", left)
