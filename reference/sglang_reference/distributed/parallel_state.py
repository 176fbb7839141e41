"""``sglang.srt.distributed.parallel_state``: the groups of this process, and how they come and go.

The state itself is here, under SGLang's names; what works on it lies in the modules beside, which import this one in
turn and go through it for everything, so that a hook on any name takes effect. Facts: SGLang 0.5.11 to 0.5.23,
srt/distributed/parallel_state.py.
"""

from __future__ import annotations

import logging
from datetime import timedelta

import torch.distributed

from .. import platforms
from .. import utils as utils  # SGLang's module imports it too, which from 0.5.23 on resolves the platform
from .._contract import TABLE, distributed_backends, since
from .._released import Lifetime, absent, withdraw
from ..platforms import device_mixin
from ._accessors import (
    DEPRECATED,
    get_attn_context_model_parallel_rank,
    get_attn_context_model_parallel_world_size,
    get_attn_cp_group,
    get_attn_cp_overlap_group,
    get_attn_tensor_model_parallel_rank,
    get_attn_tensor_model_parallel_world_size,
    get_attn_tp_group,
    get_dcp_group,
    get_dcp_group_no_assert,
    get_dcp_rank,
    get_dcp_world_size,
    get_moe_data_parallel_rank,
    get_moe_data_parallel_world_size,
    get_moe_dp_group,
    get_moe_ep_group,
    get_moe_expert_parallel_rank,
    get_moe_expert_parallel_world_size,
    get_moe_tensor_parallel_rank,
    get_moe_tensor_parallel_world_size,
    get_moe_tp_group,
    get_pipeline_model_parallel_group,
    get_pipeline_model_parallel_rank,
    get_pipeline_model_parallel_world_size,
    get_pp_group,
    get_self_pp_group,
    get_shared_experts_tp_group,
    get_tensor_model_parallel_group,
    get_tensor_model_parallel_rank,
    get_tensor_model_parallel_world_size,
    get_tp_group,
    get_world_group,
    get_world_rank,
    get_world_size,
)
from ._devices import _group_coordinator_device as _group_coordinator_device
from ._devices import get_torch_distributed_pg_options
from ._environment import (
    init_distributed_environment,
    init_model_parallel_group,
    init_world_group,
)
from ._gathers import Gathers
from ._group import GraphCaptureContext
from ._model_parallel import (
    destroy_distributed_environment,
    destroy_model_parallel,
    ensure_model_parallel_initialized,
    initialize_model_parallel,
    model_parallel_is_initialized,
)
from ._objects import P2PWork
from ._processes import (
    abort_distributed_environment,
    cleanup_dist_env_and_memory,
    create_custom_parallel_group,
    get_mooncake_transfer_engine,
    in_the_same_node_as,
    monkey_patch_vllm_parallel_state,
)
from ._reductions import Reductions
from ._registry import _get_unique_name as _get_unique_name
from ._registry import _group_name_counter as _group_name_counter
from ._registry import _groups as _groups
from ._registry import _register_group as _register_group
from ._registry import (
    flashinfer_allreduce,
    inplace_all_reduce,
    outplace_all_reduce,
    reg_all_gather_into_tensor,
    reg_all_to_all_single,
    reg_reduce_scatter_tensor,
)
from ._scopes import (
    graph_capture,
    patch_pipeline_parallel_group,
    patch_tensor_parallel_group,
    pdmux_prefill_tp_group,
)
from ._switches import (
    set_custom_all_reduce,
    set_flashinfer_allreduce_only,
    set_mscclpp,
    set_mscclpp_all_reduce,
    set_pdmux_status,
    set_torch_symm_mem_all_reduce,
)
from ._tensor_dicts import TensorDicts, TensorMetadata
from ._tensor_dicts import _split_tensor_dict as _split_tensor_dict

logger = logging.getLogger(__name__)

# The state, under SGLang's own names, which plugins read.
_WORLD: GroupCoordinator | None = None
_TP: GroupCoordinator | None = None
_PP: GroupCoordinator | None = None
_SELF_PP: GroupCoordinator | None = None
_ATTN_TP: GroupCoordinator | None = None
_ATTN_CP: GroupCoordinator | None = None
_ATTN_CP_OVERLAP: GroupCoordinator | None = None
_SHARED_EXPERTS_TP: GroupCoordinator | None = None
_DCP: GroupCoordinator | None = None
_MOE_DP: GroupCoordinator | None = None
_MOE_EP: GroupCoordinator | None = None
_MOE_TP: GroupCoordinator | None = None
_PDMUX_PREFILL_TP_GROUP: GroupCoordinator | None = None
_ENABLE_PDMUX_P_TP = False
_TP_STATE_PATCHED = False
_PP_STATE_PATCHED = False
_MODEL_PARALLEL_GROUP_TIMEOUT: timedelta | None = None
_ENABLE_CUSTOM_ALL_REDUCE = True
_ENABLE_MSCCLPP = False
_ENABLE_TORCH_SYMM_MEM_ALL_REDUCE = False
_ENABLE_FLASHINFER_ALLREDUCE_ONLY = False
vllm_get_pp_group = None
vllm_get_tp_group = None
vllm_get_world_group = None
REDUCE_OP_SUM = int(torch.distributed.ReduceOp.SUM)  # type: ignore[call-overload]


class GroupCoordinator(Reductions, Gathers, TensorDicts):
    """A group of ranks and all that they do together."""


_DEVICE_TO_DISTRIBUTED_BACKEND: dict[str, str] = (
    device_mixin._DEVICE_TO_DISTRIBUTED_BACKEND if TABLE["backends"]["asks_platform"] else distributed_backends()
)


def get_default_distributed_backend(device: str) -> str:
    """The backend for groups on ``device``: the active platform's own answer, the table's, or the fallback.

    The platform is asked, in releases that ask it, when ``device`` is its ``device_type`` or, from 0.5.22 on, its
    ``device_name``; what it raises is not caught.
    """
    backends = TABLE["backends"]
    platform = platforms.current_platform if backends["asks_platform"] else None
    names = () if platform is None else (platform.device_type, *([platform.device_name] if since("0.5.22") else []))
    if platform is not None and device in names:
        answer: str = platform.get_torch_distributed_backend_str()
        return answer
    fallback: str = backends["fallback"]
    return _DEVICE_TO_DISTRIBUTED_BACKEND.get(device, fallback)


__all__ = [
    "REDUCE_OP_SUM",
    "GraphCaptureContext",
    "GroupCoordinator",
    "P2PWork",
    "TensorMetadata",
    "abort_distributed_environment",
    "cleanup_dist_env_and_memory",
    "create_custom_parallel_group",
    "destroy_distributed_environment",
    "destroy_model_parallel",
    "ensure_model_parallel_initialized",
    "flashinfer_allreduce",
    "get_attn_context_model_parallel_rank",
    "get_attn_context_model_parallel_world_size",
    "get_attn_cp_group",
    "get_attn_cp_overlap_group",
    "get_attn_tensor_model_parallel_rank",
    "get_attn_tensor_model_parallel_world_size",
    "get_attn_tp_group",
    "get_dcp_group",
    "get_dcp_group_no_assert",
    "get_dcp_rank",
    "get_dcp_world_size",
    "get_default_distributed_backend",
    "get_moe_data_parallel_rank",
    "get_moe_data_parallel_world_size",
    "get_moe_dp_group",
    "get_moe_ep_group",
    "get_moe_expert_parallel_rank",
    "get_moe_expert_parallel_world_size",
    "get_moe_tensor_parallel_rank",
    "get_moe_tensor_parallel_world_size",
    "get_moe_tp_group",
    "get_mooncake_transfer_engine",
    "get_pipeline_model_parallel_group",
    "get_pipeline_model_parallel_rank",
    "get_pipeline_model_parallel_world_size",
    "get_pp_group",
    "get_self_pp_group",
    "get_shared_experts_tp_group",
    "get_tensor_model_parallel_group",
    "get_tensor_model_parallel_rank",
    "get_tensor_model_parallel_world_size",
    "get_torch_distributed_pg_options",
    "get_tp_group",
    "get_world_group",
    "get_world_rank",
    "get_world_size",
    "graph_capture",
    "in_the_same_node_as",
    "init_distributed_environment",
    "init_model_parallel_group",
    "init_world_group",
    "initialize_model_parallel",
    "inplace_all_reduce",
    "model_parallel_is_initialized",
    "monkey_patch_vllm_parallel_state",
    "outplace_all_reduce",
    "patch_pipeline_parallel_group",
    "patch_tensor_parallel_group",
    "pdmux_prefill_tp_group",
    "reg_all_gather_into_tensor",
    "reg_all_to_all_single",
    "reg_reduce_scatter_tensor",
    "set_custom_all_reduce",
    "set_flashinfer_allreduce_only",
    "set_mscclpp",
    "set_mscclpp_all_reduce",
    "set_pdmux_status",
    "set_torch_symm_mem_all_reduce",
]

_ABSENT = withdraw(
    globals(),
    {
        "_group_coordinator_device": Lifetime("0.5.23"),
        "abort_distributed_environment": Lifetime("0.5.20"),
        "ensure_model_parallel_initialized": Lifetime(gone="0.5.20"),
        "flashinfer_allreduce": Lifetime("0.5.18"),
        "get_attn_cp_overlap_group": Lifetime("0.5.18", gone="0.5.20"),
        "get_dcp_group": Lifetime("0.5.15"),
        "get_dcp_group_no_assert": Lifetime("0.5.15"),
        "get_dcp_rank": Lifetime("0.5.15"),
        "get_dcp_world_size": Lifetime("0.5.15"),
        "get_self_pp_group": Lifetime("0.5.19"),
        "get_shared_experts_tp_group": Lifetime("0.5.21"),
        "patch_pipeline_parallel_group": Lifetime("0.5.19"),
        "pdmux_prefill_tp_group": Lifetime("0.5.21"),
        "reg_all_to_all_single": Lifetime("0.5.13"),
        "set_flashinfer_allreduce_only": Lifetime("0.5.18"),
        "set_mscclpp": Lifetime("0.5.21"),
        "set_mscclpp_all_reduce": Lifetime(gone="0.5.21"),
        "set_pdmux_status": Lifetime(gone="0.5.21"),
    },
)

_NOT_OFFERED = DEPRECATED
__all__ = [name for name in __all__ if name not in _NOT_OFFERED]

for _method in absent(
    {
        "all_to_all_single": Lifetime("0.5.13"),
        "cp_all_gather_into_tensor_async": Lifetime(gone="0.5.16"),
        "fused_allreduce_rmsnorm_quant_per_group": Lifetime("0.5.17"),
        "reduce_scatter_along_dim": Lifetime("0.5.15"),
        "send_recv_tensor_dict": Lifetime("0.5.20"),
    }
):
    for _part in GroupCoordinator.__bases__:
        if _method in vars(_part):
            delattr(_part, _method)
