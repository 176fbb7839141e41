"""The groups of every kind of parallelism: made together, and destroyed together.

Which ranks make a group is :mod:`sglang_reference._layouts`' part. Facts: SGLang 0.5.11 to 0.5.23,
srt/distributed/parallel_state.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed

from sglang_reference._layouts import Groups, Layout, Sizes, layouts

from .._contract import since
from .._released import Lifetime, Parameters, released
from . import parallel_state as state
from ._devices import can_part_decode_context
from ._environment import ELASTIC, MODEL_PARALLEL_GROUP, publish
from ._switches import switches

if TYPE_CHECKING:
    from .parallel_state import GroupCoordinator

_SIZES = (
    "tensor_model_parallel_size",
    "expert_model_parallel_size",
    "pipeline_model_parallel_size",
    "attention_data_parallel_size",
    "attention_context_model_parallel_size",
    "moe_data_model_parallel_size",
)
_MODEL = Parameters(
    lifetimes={
        **{name: Lifetime(gone="0.5.21") for name in _SIZES},
        "decode_context_parallel_size": Lifetime("0.5.15", gone="0.5.21"),
        "duplicate_attn_cp_group": Lifetime("0.5.18", gone="0.5.20"),
        **ELASTIC,
    }
)


@dataclass(frozen=True)
class _Kind:
    """A kind of group: parallel_state's variable for it, the context's name, and what its engines are told."""

    variable: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    queue: bool = False


_ALONE = {"use_pynccl": False, "use_custom_allreduce": False}
_KINDS: Mapping[str, _Kind] = {
    "tp": _Kind("_TP", "tp_group", queue=True),
    "dcp": _Kind("_DCP", "dcp_group", queue=True),
    "attn_cp": _Kind("_ATTN_CP", "attn_cp_group", queue=True),
    "attention_tp": _Kind(
        "_ATTN_TP",
        "attn_tp_group",
        {
            **({} if since("0.5.17") else {"use_mscclpp": False}),
            **({} if since("0.5.22") else {"use_custom_allreduce": False}),
            "use_torch_symm_mem_allreduce": False,
        },
        queue=True,
    ),
    "shared_experts_tp": _Kind(
        "_SHARED_EXPERTS_TP",
        "shared_experts_tp_group",
        {"use_custom_allreduce": False, "use_torch_symm_mem_allreduce": False},
    ),
    "moe_dp": _Kind("_MOE_DP", "moe_dp_group"),
    "moe_ep": _Kind("_MOE_EP", "moe_ep_group", _ALONE),
    "moe_tp": _Kind("_MOE_TP", "moe_tp_group", _ALONE),
    "pp": _Kind("_PP", "pp_group", {"use_custom_allreduce": False}),
}


@released(_MODEL)
def initialize_model_parallel(
    tensor_model_parallel_size: int = 1,
    expert_model_parallel_size: int = 1,
    pipeline_model_parallel_size: int = 1,
    attention_data_parallel_size: int = 1,
    attention_context_model_parallel_size: int = 1,
    moe_data_model_parallel_size: int = 1,
    decode_context_parallel_size: int = 1,
    backend: str | None = None,
    duplicate_tp_group: bool = False,
    duplicate_attn_cp_group: bool = False,
    enable_symm_mem: bool = False,
    recovered_rank: bool = False,
    rank_offset: int = 0,
    max_world_size: int | None = None,
) -> None:
    """Make the groups of every kind of parallelism, on every rank and in the same order.

    The sizes are arguments before 0.5.21, and read from ``sglang.srt.runtime_context`` from then on.
    With ``duplicate_tp_group`` PyNCCL is enabled in both groups, for good, as they work at the same time.
    ``duplicate_attn_cp_group`` changes nothing, as in SGLang on all but ROCm. Raises
    AssertionError where torch.distributed is not initialized or the groups are there already, RuntimeError for sizes
    that do not make up the world or do not divide one another, and for decode context parallelism on a device that
    SGLang does not let have it.
    """
    assert torch.distributed.is_initialized(), "torch.distributed is not initialized; init_distributed_environment does"
    backend = backend or torch.distributed.get_backend(state.get_world_group().device_group)
    sizes = (
        _sizes_of_context()
        if since("0.5.21")
        else Sizes(
            tp=tensor_model_parallel_size,
            pp=pipeline_model_parallel_size,
            attn_dp=attention_data_parallel_size,
            attn_cp=attention_context_model_parallel_size,
            moe_ep=expert_model_parallel_size,
            moe_dp=moe_data_model_parallel_size,
            dcp=decode_context_parallel_size,
        )
    )
    _check_world(sizes, joins=recovered_rank or rank_offset > 0)
    elastic = {"recovered_rank": recovered_rank, "rank_offset": rank_offset, "max_world_size": max_world_size}
    made = layouts(sizes)
    for kind, layout in made.items():
        pynccl = {"use_pynccl": enable_symm_mem or _syncs_tokens()} if kind == "attention_tp" else {}
        _make_kind(kind, layout, backend, {**pynccl, **elastic})
        if kind == "tp" and duplicate_tp_group:
            assert state._PDMUX_PREFILL_TP_GROUP is None, "the duplicate tp_group is already initialized"
            duplicated = {"use_message_queue_broadcaster": _queues(), **elastic}
            state._PDMUX_PREFILL_TP_GROUP = _init_group(layout.groups, backend, "pdmux_prefill_tp", duplicated)
            for group in (state._TP, state._PDMUX_PREFILL_TP_GROUP):
                if group is not None and group.available_pynccl is not None:
                    group.available_pynccl.disabled = False
    if since("0.5.19") and state._SELF_PP is None:
        alone = tuple((rank,) for rank in range(sizes.world))
        state._SELF_PP = _init_group(alone, backend, "self_pp", {"use_custom_allreduce": False, **elastic})
    publish(**{of.name: getattr(state, of.variable) for kind, of in _KINDS.items() if kind in made})


def _make_kind(kind: str, layout: Layout, backend: str, wishes: Mapping[str, Any]) -> None:
    """Make the groups of one kind, or let those of another serve, and keep this rank's where parallel_state has it."""
    of = _KINDS[kind]
    assert getattr(state, of.variable) is None, f"the {of.name} is already initialized; destroy_model_parallel first"
    if layout.shares:
        group = getattr(state, _KINDS[layout.shares].variable)
    else:
        queue = {"use_message_queue_broadcaster": _queues()} if of.queue else {}
        group = _init_group(layout.groups, backend, kind, {**of.options, **queue, **wishes})
    setattr(state, of.variable, group)


def _sizes_of_context() -> Sizes:
    from ..runtime_context import get_parallel

    parallel = get_parallel()
    return Sizes(
        tp=parallel.tp_size,
        pp=parallel.pp_size,
        attn_dp=parallel.attn_dp_size,
        attn_cp=parallel.attn_cp_size,
        moe_ep=parallel.moe_ep_size,
        moe_dp=parallel.moe_dp_size,
        dcp=parallel.attn_dcp_size,
        shared_experts_tp=parallel.shared_experts_tp_size,
    )


def _check_world(sizes: Sizes, *, joins: bool) -> None:
    world = sizes.world if joins else torch.distributed.get_world_size()
    if world != sizes.world:
        raise RuntimeError(f"the world has {world} ranks, and tp ({sizes.tp}) x pp ({sizes.pp}) is {sizes.world}")
    if sizes.dcp > 1 and not can_part_decode_context():
        raise RuntimeError(f"SGLang lets this device have no decode context parallelism (of size {sizes.dcp})")


def _queues() -> bool:
    return bool(switches.SGLANG_USE_MESSAGE_QUEUE_BROADCASTER.get())


def _syncs_tokens() -> bool:
    return bool(switches.SGLANG_SYNC_TOKEN_IDS_ACROSS_TP.get())


def _init_group(groups: Groups, backend: str, name: str, options: Mapping[str, Any]) -> GroupCoordinator:
    ranks = [list(group) for group in groups]
    local_rank = state.get_world_group().local_rank
    wanted = MODEL_PARALLEL_GROUP.named({**options, "group_name": name})
    return state.init_model_parallel_group(ranks, local_rank, backend, **wanted)


@released(Parameters(lifetimes={"decode_context_parallel_size": Lifetime("0.5.15")}))
def ensure_model_parallel_initialized(
    tensor_model_parallel_size: int,
    expert_model_parallel_size: int,
    pipeline_model_parallel_size: int,
    decode_context_parallel_size: int = 1,
    backend: str | None = None,
) -> None:
    """Make the groups where they are not there; else raise AssertionError where they have other sizes."""
    if not state.model_parallel_is_initialized():
        dcp = _MODEL.named({"decode_context_parallel_size": decode_context_parallel_size})
        state.initialize_model_parallel(
            tensor_model_parallel_size, expert_model_parallel_size, pipeline_model_parallel_size, backend=backend, **dcp
        )
        return
    wanted = [("tp", tensor_model_parallel_size), ("pp", pipeline_model_parallel_size)]
    wanted += [("dcp", decode_context_parallel_size)] if decode_context_parallel_size > 1 else []
    for kind, size in wanted:
        group = getattr(state, _KINDS[kind].variable)
        assert group is not None, f"the {kind} group is not initialized"
        assert group.world_size == size, f"the {kind} group is initialized with size {group.world_size}, not {size}"


def model_parallel_is_initialized() -> bool:
    """Whether the groups of tensor and pipeline parallelism are there."""
    return state._TP is not None and state._PP is not None


def destroy_model_parallel() -> None:
    """Destroy the groups of every kind; the group of this rank alone stays, as in SGLang."""
    if since("0.5.21"):
        from ..runtime_context import get_parallel

        get_parallel().clear_stamp()
    variables = [*(of.variable for of in _KINDS.values()), "_PDMUX_PREFILL_TP_GROUP"]
    groups = [getattr(state, variable) for variable in variables]
    for variable in variables:
        setattr(state, variable, None)
    for group in dict.fromkeys(group for group in groups if group is not None):
        group.destroy()


def destroy_distributed_environment() -> None:
    """Destroy the world's group, that of this rank alone (which SGLang forgets), and torch.distributed's own."""
    for variable in ("_SELF_PP", "_WORLD"):
        group = getattr(state, variable)
        setattr(state, variable, None)
        if group is not None:
            group.destroy()
    state._MODEL_PARALLEL_GROUP_TIMEOUT = None
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
