"""``sglang.srt.distributed.communication_op``: collectives over the groups of tensor, attention and expert parallelism.

Facts: SGLang 0.5.11 and 0.5.23, srt/distributed/communication_op.py.
"""

from __future__ import annotations

import pickle
from typing import Any

import torch
import torch.distributed

from .._released import Lifetime, Parameters, released, withdraw
from .parallel_state import get_attn_cp_group, get_attn_tp_group, get_moe_ep_group, get_moe_tp_group, get_tp_group

__all__ = [
    "attention_tensor_model_parallel_all_reduce",
    "attention_tensor_model_parallel_quant_all_reduce",
    "attn_cp_tp_broadcast_pyobj",
    "broadcast_tensor_dict",
    "get_attn_cp_group",
    "get_attn_tp_group",
    "get_moe_ep_group",
    "get_moe_tp_group",
    "get_tp_group",
    "moe_expert_parallel_all_reduce",
    "moe_tensor_model_parallel_all_reduce",
    "tensor_model_parallel_all_gather",
    "tensor_model_parallel_all_reduce",
    "tensor_model_parallel_fused_allreduce_rmsnorm",
    "tensor_model_parallel_fused_allreduce_rmsnorm_quant_per_group",
    "tensor_model_parallel_gather",
    "tensor_model_parallel_quant_all_reduce",
]


_QUANTISED = Parameters({"transpose_scale": Lifetime("0.5.19")})


def tensor_model_parallel_all_reduce(input_: torch.Tensor) -> torch.Tensor:
    """Sum over tensor parallelism."""
    return get_tp_group().all_reduce(input_)


def tensor_model_parallel_quant_all_reduce(input_: torch.Tensor) -> torch.Tensor:
    """Sum over tensor parallelism, quantised on the way where the device can."""
    return get_tp_group().quant_all_reduce(input_)


def tensor_model_parallel_fused_allreduce_rmsnorm(
    input_: torch.Tensor, residual_inp_: torch.Tensor, weight_: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Sum and normalise at once; None where no engine does, and the caller takes both steps."""
    return get_tp_group().fused_allreduce_rmsnorm(input_, residual_inp_, weight_, eps)


@released(_QUANTISED)
def tensor_model_parallel_fused_allreduce_rmsnorm_quant_per_group(
    input_: torch.Tensor,
    residual_inp_: torch.Tensor,
    weight_: torch.Tensor,
    eps: float,
    group_size: int = 128,
    emit_bf16: bool = False,
    transpose_scale: bool = False,
) -> tuple[torch.Tensor, ...] | None:
    """Sum, normalise and quantise at once; None where no engine does."""
    more = _QUANTISED.named({"transpose_scale": transpose_scale})
    return get_tp_group().fused_allreduce_rmsnorm_quant_per_group(
        input_, residual_inp_, weight_, eps, group_size, emit_bf16=emit_bf16, **more
    )


def tensor_model_parallel_all_gather(input_: torch.Tensor, dim: int = -1) -> torch.Tensor | None:
    """Every rank's tensor of tensor parallelism, joined along a dimension."""
    return get_tp_group().all_gather(input_, dim)


def tensor_model_parallel_gather(input_: torch.Tensor, dst: int = 0, dim: int = -1) -> torch.Tensor | None:
    """Every rank's tensor of tensor parallelism, joined along a dimension on one rank; None on the others."""
    return get_tp_group().gather(input_, dst, dim)


def broadcast_tensor_dict(tensor_dict: dict[Any, Any] | None = None, src: int = 0) -> dict[Any, Any] | None:
    """One rank's dictionary of tensors and other values, on every rank of tensor parallelism."""
    if not torch.distributed.is_initialized():
        return tensor_dict
    return get_tp_group().broadcast_tensor_dict(tensor_dict, src)


def attn_cp_tp_broadcast_pyobj(data: list[Any]) -> list[Any]:
    """The objects of the first rank of attention's tensor and context parallelism, on every rank that shares them."""
    tensor, context = get_attn_tp_group(), get_attn_cp_group()
    if context.world_size > 1 and tensor.rank_in_group == 0:
        data = broadcast_pyobj(data, context.rank, context.cpu_group, src=context.ranks[0])
    if tensor.world_size > 1:
        data = broadcast_pyobj(data, tensor.rank, tensor.cpu_group, src=tensor.ranks[0])
    return data


def broadcast_pyobj(
    data: list[Any],
    rank: int,
    dist_group: torch.distributed.ProcessGroup | None = None,
    src: int = 0,
    force_cpu_device: bool = True,
) -> list[Any]:
    """A list of objects of one global rank, on every rank of a group.

    They go by way of host memory; where that is not forced, by a CUDA device's if there is one.
    """
    device = "cuda" if torch.cuda.is_available() and not force_cpu_device else "cpu"
    parcel = torch.frombuffer(bytearray(pickle.dumps(data)), dtype=torch.uint8).to(device)
    size = torch.tensor([parcel.numel()], dtype=torch.long, device=device)
    torch.distributed.broadcast(size, src=src, group=dist_group)
    if rank != src:
        parcel = torch.empty(int(size), dtype=torch.uint8, device=device)
    torch.distributed.broadcast(parcel, src=src, group=dist_group)
    if rank == src:
        return data
    received: list[Any] = pickle.loads(bytes(parcel.tolist()))
    return received


def attention_tensor_model_parallel_all_reduce(input_: torch.Tensor) -> torch.Tensor:
    """Sum over attention's tensor parallelism."""
    return get_attn_tp_group().all_reduce(input_)


def attention_tensor_model_parallel_quant_all_reduce(input_: torch.Tensor) -> torch.Tensor:
    """Sum over attention's tensor parallelism, quantised on the way where the device can."""
    return get_attn_tp_group().quant_all_reduce(input_)


def moe_tensor_model_parallel_all_reduce(input_: torch.Tensor) -> torch.Tensor:
    """Sum over MoE's tensor parallelism."""
    return get_moe_tp_group().all_reduce(input_)


def moe_expert_parallel_all_reduce(input_: torch.Tensor) -> torch.Tensor:
    """Sum over expert parallelism."""
    return get_moe_ep_group().all_reduce(input_)


_ABSENT = withdraw(
    globals(),
    {
        "attn_cp_tp_broadcast_pyobj": Lifetime("0.5.20"),
        "broadcast_pyobj": Lifetime("0.5.20"),
        "tensor_model_parallel_fused_allreduce_rmsnorm_quant_per_group": Lifetime("0.5.17"),
    },
)
