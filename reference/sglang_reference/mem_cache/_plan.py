"""How large the pools of a worker are: what memory is left for them, how many tokens and requests that holds.

Facts: srt/model_executor/model_runner_kv_cache_mixin.py of SGLang 0.5.11 and 0.5.14,
srt/mem_cache/kv_cache_configurator.py of 0.5.16, 0.5.19 and 0.5.23, srt/model_executor/pool_configurator.py of 0.5.11
and 0.5.23.
"""

from __future__ import annotations

import gc
import logging
import math
from dataclasses import dataclass
from typing import Any

import torch

from sglang_reference._errors import not_covered

from .._contract import since
from ..distributed._own_groups import group
from ..layers._partition import tensor_parallel
from ..utils import common

logger = logging.getLogger(__name__)

GIB = 1 << 30
EXTRA_CONTEXT = 4
"""How many positions a request's row has beyond the model's context."""


@dataclass(frozen=True)
class Worker:
    """What the pools of one rank's worker are made by.

    ``start_layer`` up to ``end_layer`` are its layers, ``layers`` of them with a cache; ``latent`` says that the model
    has latent attention. ``server_args``, ``model_config`` are SGLang's objects.
    """

    device: str
    gpu_id: int
    server_args: Any
    model_config: Any
    dtype: torch.dtype
    start_layer: int
    end_layer: int
    layers: int
    latent: bool
    pp_size: int
    dp_size: int

    @property
    def sparse(self) -> bool:
        """Whether the latent attention is sparse, by an index of its own (DeepSeek V3.2)."""
        return self.latent and getattr(self.model_config.hf_config, "index_topk", None) is not None

    @property
    def kv_heads(self) -> int:
        """How many heads of keys and values this rank has."""
        return int(self.model_config.get_num_kv_heads(tensor_parallel().size))


def worker_of(owner: Any, layers: Any, *, pp_size: int, dp_size: int) -> Worker:
    """The worker that a model runner, or its configurator, stands for; NotCovered for pools that are not served."""
    for name in ("is_draft_worker", "is_hybrid_swa", "mambaish_config"):
        if getattr(owner, name, None):
            raise not_covered(f"the pools of a model with {name}")
    return Worker(
        owner.device,
        owner.gpu_id,
        owner.server_args,
        owner.model_config,
        owner.kv_cache_dtype,
        layers.start_layer,
        layers.end_layer,
        layers.num_effective_layers,
        owner.use_mla_backend,
        pp_size,
        dp_size,
    )


def bytes_left(worker: Worker, before_in_gib: float) -> int:
    """What pools may take: free memory, less the part of ``before_in_gib`` that is not for weights and pools.

    ``before_in_gib`` was free before the model was loaded; of several ranks, the least is taken of both. Raises
    ValueError where nothing is left, from 0.5.14 on.
    """
    if since("0.5.19"):
        gc.collect()
    world = group("world")
    free = common.get_available_gpu_memory(
        worker.device, worker.gpu_id, distributed=world.world_size > 1, cpu_group=world.cpu_group
    )
    fraction = worker.server_args.mem_fraction_static
    left = free - before_in_gib * (1 - fraction)
    if left <= 0 and since("0.5.14"):
        least = 1 - free / before_in_gib
        raise ValueError(
            f"the loaded weights leave no memory for keys and values: --mem-fraction-static={fraction} of "
            f"{before_in_gib:.2f} GiB is taken, {free:.2f} GiB are free; raise --mem-fraction-static above "
            f"{math.ceil(least * 1000) / 1000:.3f}"
        )
    return int(left * GIB)


def bytes_of_a_token(worker: Worker) -> int:
    """What one token takes in the pools of this rank."""
    config, size = worker.model_config, worker.dtype.itemsize
    if not worker.latent:
        return int(worker.kv_heads * (config.head_dim + config.v_head_dim) * worker.layers * size)
    cell = (config.kv_lora_rank + config.qk_rope_head_dim) * worker.layers * size
    if worker.sparse:  # a byte a dimension of the index key, and a scale of 4 bytes for each 128 of them
        cell += (config.index_head_dim + config.index_head_dim // 128 * 4) * worker.layers
    return int(cell)


def constrained(worker: Worker, tokens: int) -> int:
    """As many tokens as the user allows, and as every stage of the pipeline can hold."""
    limit = worker.server_args.max_total_tokens
    if limit is not None:
        if limit > tokens:
            logger.warning(
                "max_total_tokens=%d is more than the %d tokens that memory holds, which are taken", limit, tokens
            )
        tokens = min(tokens, limit)
    if worker.pp_size > 1:
        least = torch.tensor(tokens, dtype=torch.int64)
        torch.distributed.all_reduce(least, op=torch.distributed.ReduceOp.MIN, group=group("world").cpu_group)
        tokens = int(least.item())
    return tokens


def requests_for(worker: Worker, tokens: int) -> int:
    """How many requests may run at once, of those that ``tokens`` can hold."""
    estimated = max(min(int(tokens / worker.model_config.context_len * 512), 4096), 2048)
    asked = worker.server_args.max_running_requests
    if asked is None:
        return min(estimated, tokens // 2)
    asked //= worker.dp_size
    if since("0.5.23"):
        asked = max(1, asked)
    if not since("0.5.14"):
        return int(min(asked, estimated))
    if asked > tokens // 2:
        logger.warning(
            "max_running_requests is %d and not the %d asked for, by the memory there is", tokens // 2, asked
        )
    return int(min(asked, tokens // 2))
