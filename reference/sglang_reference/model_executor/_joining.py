"""Joining the other ranks, and what memory there is before the model is loaded.

The order of calls to the platform is SGLang's: up to 0.5.20 the device is made current, memory is asked for, the groups
are made, and memory is asked for twice more, the first time for the least of all ranks (0.5.11,
srt/model_executor/model_runner.py; 0.5.16, srt/distributed/bootstrap.py). From 0.5.21 on the scheduler's process makes
the groups before there is a model runner, which asks for memory three times.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import torch

from .. import distributed
from .._arguments.resolving import settled
from .._contract import since
from ..distributed import parallel_state
from ..distributed._own_groups import group
from ..environ import EnvBool, EnvStr
from ..utils.common import get_available_gpu_memory
from ._layout import Layout

logger = logging.getLogger("sglang.srt.model_executor.model_runner")

_SHARE = 0.9  # of its own memory that a rank's peers must have, too


class _Switches:
    """Variables of SGLang's that count here (0.5.11 and 0.5.23, srt/environ.py)."""

    SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK = EnvBool(True)
    SGLANG_DISTRIBUTED_INIT_METHOD_OVERRIDE = EnvStr(None)


def make_current(device: str, gpu_id: int, layout: Layout) -> None:
    """Make the rank's device current, by torch's module of it."""
    try:
        torch.get_device_module(device).set_device(gpu_id)
    except Exception:
        logger.warning(
            "Context: device=%r gpu_id=%s CUDA_VISIBLE_DEVICES=%s tp_rank=%s tp_size=%s",
            device,
            gpu_id,
            os.environ.get("CUDA_VISIBLE_DEVICES"),
            layout.tp_rank,
            layout.tp_size,
        )
        raise


def join(
    server_args: Any, device: str, gpu_id: int, dist_port: int, layout: Layout, backend: str | None = None
) -> None:
    """Open the world's group and make those of every kind of parallelism, over the platform's backend."""
    values = settled(server_args)
    backend = backend or parallel_state.get_default_distributed_backend(device)
    distributed.set_custom_all_reduce(not values.disable_custom_all_reduce)
    (distributed.set_mscclpp if since("0.5.21") else distributed.set_mscclpp_all_reduce)(values.enable_mscclpp)
    distributed.set_torch_symm_mem_all_reduce(values.enable_torch_symm_mem)
    distributed.init_distributed_environment(
        backend=backend,
        world_size=layout.world_size,
        rank=layout.world_rank,
        local_rank=gpu_id,
        distributed_init_method=init_method(values, dist_port),
        timeout=values.dist_timeout,
        moe_a2a_backend=values.moe_a2a_backend,
    )
    sizes: dict[str, Any] = (
        {}
        if since("0.5.21")
        else {
            "tensor_model_parallel_size": layout.tp_size,
            "pipeline_model_parallel_size": layout.pp_size,
            "expert_model_parallel_size": layout.moe_ep_size,
            "attention_data_parallel_size": layout.dp_size,
            "attention_context_model_parallel_size": layout.attn_cp_size,
            "moe_data_model_parallel_size": layout.moe_dp_size,
        }
    )
    distributed.initialize_model_parallel(
        **sizes, duplicate_tp_group=values.enable_pdmux, enable_symm_mem=values.enable_symm_mem
    )


def init_method(values: Any, dist_port: int) -> str:
    """Where ranks meet: what the environment says, the user's address, or a port of this machine."""
    override = _SWITCHES.SGLANG_DISTRIBUTED_INIT_METHOD_OVERRIDE.get()
    if override:
        return str(override)
    if values.dist_init_addr:
        return f"tcp://{values.dist_init_addr}"
    return f"tcp://{values.host or '127.0.0.1'}:{dist_port}"


def join_and_measure(
    server_args: Any, device: str, gpu_id: int, dist_port: int, layout: Layout, *, is_draft_worker: bool
) -> float:
    """What ``init_torch_distributed`` does up to 0.5.20; the least free memory of all ranks, in GiB."""
    began = time.perf_counter()
    logger.info("Init torch distributed begin.")
    make_current(device, gpu_id, layout)
    before = get_available_gpu_memory(device, gpu_id)
    if not is_draft_worker:
        join(server_args, device, gpu_id, dist_port, layout)
    least, own = _least_and_own(device, gpu_id, layout, is_draft_worker=is_draft_worker)
    logger.info(
        "Init torch distributed ends. elapsed=%.2f s, mem usage=%.2f GB", time.perf_counter() - began, before - own
    )
    return least


def measure(device: str, gpu_id: int, layout: Layout, *, is_draft_worker: bool) -> float:
    """The least free memory of all ranks before the model is loaded, in GiB, as taken from 0.5.21 on."""
    before = get_available_gpu_memory(device, gpu_id)
    least, own = _least_and_own(device, gpu_id, layout, is_draft_worker=is_draft_worker)
    logger.info("Memory baseline taken. mem usage=%.2f GB", before - own)
    return least


def _least_and_own(device: str, gpu_id: int, layout: Layout, *, is_draft_worker: bool) -> tuple[float, float]:
    world = group("world")
    least = get_available_gpu_memory(
        device, gpu_id, distributed=world.world_size > 1 and not is_draft_worker, cpu_group=world.cpu_group
    )
    own = get_available_gpu_memory(device, gpu_id)
    if layout.tp_size > 1 and not is_draft_worker:
        _check_balance(least, own)
    return least, own


def _check_balance(least: float, own: float) -> None:
    """Refuse, with RuntimeError, a rank whose peer has far less memory; a warning where the check is switched off."""
    if least >= own * _SHARE:
        return
    text = (
        "The memory capacity is unbalanced. Some GPUs may be occupied by other processes. "
        f"pre_model_load_memory={least}, local_gpu_memory={own}, local_gpu_memory * 0.9={own * _SHARE}"
    )
    if _SWITCHES.SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK.get():
        raise RuntimeError(text)
    logger.warning(text)


_SWITCHES = _Switches()
