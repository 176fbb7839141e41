"""``sglang.srt.model_executor.pool_configurator``: how many tokens the pools of a model hold, by their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sglang_reference._errors import not_covered

from .._released import Lifetime, Parameters, Renamed, absent, released
from ..mem_cache import _plan

_OWNER = Parameters(renamed={"kvc": Renamed("mr", "0.5.16")})


@dataclass
class MemoryPoolConfig:
    """How large the pools are; RuntimeError for no token at all."""

    max_total_num_tokens: int
    max_running_requests: int | None = None
    full_max_total_num_tokens: int | None = None
    swa_max_total_num_tokens: int | None = None
    mem_fraction_static: float | None = None

    def __post_init__(self) -> None:
        if self.max_total_num_tokens > 0:
            return
        now = "" if self.mem_fraction_static is None else f" Current value: {self.mem_fraction_static}"
        raise RuntimeError(f"Not enough memory. Please try to increase --mem-fraction-static.{now}")


class MemoryPoolConfigurator:
    """What every way of counting tokens has."""

    def calculate_pool_sizes(self, available_bytes: int, page_size: int) -> MemoryPoolConfig:
        """The tokens that so many bytes hold, in whole pages."""
        raise NotImplementedError

    def calculate_pool_sizes_from_max_tokens(self, max_total_num_tokens: int, page_size: int) -> MemoryPoolConfig:
        """So many tokens, in whole pages."""
        raise NotImplementedError

    def finalize_with_max_running_requests(self, config: MemoryPoolConfig) -> MemoryPoolConfig:
        """The sizes, once the number of requests is known too."""
        return config


class DefaultPoolConfigurator(MemoryPoolConfigurator):
    """Every token takes as much in the pools as any other."""

    @released(_OWNER)
    def __init__(self, kvc: Any) -> None:
        self._cell_size = _plan.bytes_of_a_token(kvc._worker())

    def calculate_pool_sizes(self, available_bytes: int, page_size: int) -> MemoryPoolConfig:
        """The tokens that so many bytes hold, in whole pages."""
        return self.calculate_pool_sizes_from_max_tokens(available_bytes // self._cell_size, page_size)

    def calculate_pool_sizes_from_max_tokens(self, max_total_num_tokens: int, page_size: int) -> MemoryPoolConfig:
        """So many tokens, in whole pages."""
        return MemoryPoolConfig(max_total_num_tokens=max_total_num_tokens // page_size * page_size)


if absent({"finalize_with_max_running_requests": Lifetime("0.5.15")}):
    del MemoryPoolConfigurator.finalize_with_max_running_requests


@released(_OWNER)
def create_memory_pool_configurator(kvc: Any) -> MemoryPoolConfigurator:
    """The way of counting tokens for the model; NotCovered for models with a sliding window."""
    if kvc.is_hybrid_swa:
        raise not_covered("the pools of models with a sliding window")
    return DefaultPoolConfigurator(kvc)
