"""The groups of this process by kind, and this process's rank and the number of ranks in each.

Before 0.5.21 a group that is not there is an AssertionError; from then on the context of
``sglang.srt.runtime_context`` answers, with a RuntimeError, and calls from outside of SGLang's own groups warn once
(SGLang 0.5.20 and 0.5.23, srt/distributed/parallel_state.py).
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .._contract import since
from . import parallel_state as state

if TYPE_CHECKING:
    from .parallel_state import GroupCoordinator

F = TypeVar("F", bound=Callable[..., Any])

_IN_CONTEXT = since("0.5.21")
_OWN = "sglang.srt.distributed."
_warned: set[str] = set()


def answered_by_context(name: str) -> Callable[[F], F]:
    """Decorator: from 0.5.21 on, warn once that ``get_parallel().<name>`` is the way to ask."""

    def decorate(function: F) -> F:
        if not _IN_CONTEXT:
            return function

        @functools.wraps(function)
        def call() -> Any:
            caller = str(sys._getframe(1).f_globals.get("__name__", ""))
            if function.__name__ not in _warned and not caller.startswith(_OWN):
                _warned.add(function.__name__)
                message = f"{function.__name__}() is deprecated; ask get_parallel().{name} instead"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
            return function()

        return cast(F, call)

    return decorate


def _group(variable: str, name: str) -> GroupCoordinator:
    if _IN_CONTEXT:
        from ..runtime_context import get_parallel

        found: GroupCoordinator = getattr(get_parallel(), name)
        return found
    group: GroupCoordinator | None = getattr(state, variable)
    assert group is not None, f"the {name} is not initialized; call initialize_model_parallel first"
    return group


@answered_by_context("world_group")
def get_world_group() -> GroupCoordinator:
    """All ranks."""
    return _group("_WORLD", "world_group")


@answered_by_context("tp_group")
def get_tp_group() -> GroupCoordinator:
    """Tensor parallelism, or its duplicate for prefill where that is switched on (before 0.5.21)."""
    if not _IN_CONTEXT and state._ENABLE_PDMUX_P_TP:
        return _group("_PDMUX_PREFILL_TP_GROUP", "duplicate tp_group for prefill")
    return _group("_TP", "tp_group")


@answered_by_context("pp_group")
def get_pp_group() -> GroupCoordinator:
    """Pipeline parallelism."""
    return _group("_PP", "pp_group")


@answered_by_context("attn_tp_group")
def get_attn_tp_group() -> GroupCoordinator:
    """Attention's tensor parallelism."""
    return _group("_ATTN_TP", "attn_tp_group")


@answered_by_context("attn_cp_group")
def get_attn_cp_group() -> GroupCoordinator:
    """Attention's context parallelism."""
    return _group("_ATTN_CP", "attn_cp_group")


@answered_by_context("shared_experts_tp_group")
def get_shared_experts_tp_group() -> GroupCoordinator:
    """The shared experts' tensor parallelism."""
    return _group("_SHARED_EXPERTS_TP", "shared_experts_tp_group")


@answered_by_context("dcp_group")
def get_dcp_group() -> GroupCoordinator:
    """Decode context parallelism."""
    return _group("_DCP", "dcp_group")


def get_dcp_group_no_assert() -> GroupCoordinator | None:
    """Decode context parallelism; None where there is none."""
    return state._DCP


@answered_by_context("moe_dp_group")
def get_moe_dp_group() -> GroupCoordinator:
    """MoE's data parallelism."""
    return _group("_MOE_DP", "moe_dp_group")


@answered_by_context("moe_ep_group")
def get_moe_ep_group() -> GroupCoordinator:
    """Expert parallelism."""
    return _group("_MOE_EP", "moe_ep_group")


@answered_by_context("moe_tp_group")
def get_moe_tp_group() -> GroupCoordinator:
    """MoE's tensor parallelism."""
    return _group("_MOE_TP", "moe_tp_group")


def get_self_pp_group() -> GroupCoordinator:
    """The rank alone, as a pipeline of one stage."""
    assert state._SELF_PP is not None, "the group of this rank alone is not initialized"
    return state._SELF_PP


def get_attn_cp_overlap_group() -> GroupCoordinator:
    """A second group for attention's context parallelism, which SGLang has on ROCm alone."""
    assert state._ATTN_CP_OVERLAP is not None, "the second attn_cp_group is not initialized"
    return state._ATTN_CP_OVERLAP


# The earlier names of two of them.
get_tensor_model_parallel_group = get_tp_group
get_pipeline_model_parallel_group = get_pp_group


@answered_by_context("launch_world_size")
def get_world_size() -> int:
    """How many ranks there are."""
    return state.get_world_group().world_size


@answered_by_context("launch_world_rank")
def get_world_rank() -> int:
    """The process among all ranks."""
    return state.get_world_group().rank_in_group


@answered_by_context("tp_size")
def get_tensor_model_parallel_world_size() -> int:
    """How many ranks a group of tensor parallelism has."""
    return state.get_tp_group().world_size


@answered_by_context("tp_rank")
def get_tensor_model_parallel_rank() -> int:
    """The process's place in tensor parallelism."""
    return state.get_tp_group().rank_in_group


@answered_by_context("pp_size")
def get_pipeline_model_parallel_world_size() -> int:
    """How many pipeline stages there are."""
    return state.get_pp_group().world_size


@answered_by_context("pp_rank")
def get_pipeline_model_parallel_rank() -> int:
    """The process's pipeline stage."""
    return state.get_pp_group().rank_in_group


@answered_by_context("attn_tp_size")
def get_attn_tensor_model_parallel_world_size() -> int:
    """How many ranks a group of attention's tensor parallelism has."""
    return state.get_attn_tp_group().world_size


@answered_by_context("attn_tp_rank")
def get_attn_tensor_model_parallel_rank() -> int:
    """The process's place in attention's tensor parallelism."""
    return state.get_attn_tp_group().rank_in_group


@answered_by_context("attn_cp_size")
def get_attn_context_model_parallel_world_size() -> int:
    """How many ranks a group of attention's context parallelism has."""
    return state.get_attn_cp_group().world_size


@answered_by_context("attn_cp_rank")
def get_attn_context_model_parallel_rank() -> int:
    """The process's place in attention's context parallelism."""
    return state.get_attn_cp_group().rank_in_group


def get_dcp_world_size() -> int:
    """How many ranks a group of decode context parallelism has."""
    return state.get_dcp_group().world_size


@answered_by_context("dcp_rank")
def get_dcp_rank() -> int:
    """The process's place in decode context parallelism."""
    return state.get_dcp_group().rank_in_group


def get_moe_data_parallel_world_size() -> int:
    """How many ranks a group of MoE's data parallelism has."""
    return state.get_moe_dp_group().world_size


@answered_by_context("moe_dp_rank")
def get_moe_data_parallel_rank() -> int:
    """The process's place in MoE's data parallelism."""
    return state.get_moe_dp_group().rank_in_group


@answered_by_context("moe_ep_size")
def get_moe_expert_parallel_world_size() -> int:
    """How many ranks a group of expert parallelism has."""
    return state.get_moe_ep_group().world_size


@answered_by_context("moe_ep_rank")
def get_moe_expert_parallel_rank() -> int:
    """The process's place in expert parallelism."""
    return state.get_moe_ep_group().rank_in_group


def get_moe_tensor_parallel_world_size() -> int:
    """How many ranks a group of MoE's tensor parallelism has."""
    return state.get_moe_tp_group().world_size


@answered_by_context("moe_tp_rank")
def get_moe_tensor_parallel_rank() -> int:
    """The process's place in MoE's tensor parallelism."""
    return state.get_moe_tp_group().rank_in_group


DEPRECATED = frozenset(name for name, value in list(globals().items()) if hasattr(value, "__wrapped__"))
"""The names that the context answers instead, which ``sglang.srt.distributed`` then does not offer."""
