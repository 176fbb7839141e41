"""Loading a runner's model, and what it is told of it: where its layers begin and end, the type of its keys and values.

Facts: SGLang 0.5.11 and 0.5.23, srt/model_executor/model_runner.py; 0.5.16 and later,
srt/model_executor/model_runner_components.
"""

from __future__ import annotations

import datetime
import logging
import time
from dataclasses import dataclass
from typing import Any

import torch

from sglang_reference._errors import not_covered

from .. import platforms
from .._arguments.resolving import settled
from .._contract import since
from ..distributed._own_groups import group
from ..utils.common import get_available_gpu_memory

logger = logging.getLogger("sglang.srt.model_executor.model_runner")

_OTHER_RANKS_SECONDS = 480
_KV_TYPES = {"bf16": torch.bfloat16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Loaded:
    """A model, what loaded it, and the GiB that it took."""

    model: Any
    loader: Any
    load_config: Any
    memory: float


@dataclass(frozen=True)
class LayerInfo:
    """The layers that a runner has: SGLang's ModelLayerInfo (0.5.16 and later)."""

    start_layer: int
    end_layer: int
    num_effective_layers: int
    swa_attention_layer_ids: list[int] | None = None
    full_attention_layer_ids: list[int] | None = None
    is_hybrid_swa_mtp_draft: bool = False


@dataclass(frozen=True)
class AuxHiddenStates:
    """Which hidden states are kept for a draft model: none (0.5.16 and later, SpecAuxHiddenStateConfig)."""

    eagle_use_aux_hidden_state: bool = False
    dflash_use_aux_hidden_state: bool = False
    draft_model_config: Any = None
    dflash_draft_num_layers: int | None = None
    is_dspark: bool = False


def load(runner: Any, tp_rank: int) -> Loaded:
    """Load the weights on the runner's device, and tell the platform of the model (from 0.5.22 on).

    Raises ValueError where other ranks do not finish.
    """
    from ..configs.device_config import DeviceConfig
    from ..configs.load_config import LoadConfig
    from ..model_loader.loader import get_model_loader

    began = time.perf_counter()
    before = get_available_gpu_memory(runner.device, runner.gpu_id)
    logger.info("Load weight begin. avail mem=%.2f GB", get_available_gpu_memory(runner.device, runner.gpu_id))
    if runner.device != "cpu":
        torch.set_num_threads(1)
    config = LoadConfig(load_format=settled(runner.server_args).load_format)
    loader = get_model_loader(load_config=config, model_config=runner.model_config)
    model = loader.load_model(
        model_config=runner.model_config, device_config=DeviceConfig(runner.device, runner.gpu_id)
    )
    if since("0.5.22"):
        platforms.current_platform.post_load_model(model)
    after = get_available_gpu_memory(runner.device, runner.gpu_id)
    logger.info(
        "Load weight end. elapsed=%.2f s, type=%s, avail mem=%.2f GB, mem usage=%.2f GB.",
        time.perf_counter() - began,
        type(model).__name__,
        after,
        before - after,
    )
    _await_others(tp_rank)
    return Loaded(model, loader, config, before - after)


def layers_of(model: Any, model_config: Any) -> LayerInfo:
    """The layers that this rank has of the model."""
    start = getattr(model, "start_layer", 0)
    end = getattr(model, "end_layer", model_config.num_hidden_layers)
    return LayerInfo(start, end, end - start)


def kv_cache_type(server_args: Any, model_type: torch.dtype) -> torch.dtype:
    """The type of keys and values: the model's own where the user leaves it open. NotCovered for quantized ones."""
    wanted = settled(server_args).kv_cache_dtype
    if wanted == "auto":
        return model_type
    if wanted not in _KV_TYPES:
        raise not_covered(f"keys and values of type {wanted}")
    return _KV_TYPES[wanted]


def sliding_window(model: Any, model_config: Any) -> int | None:
    """How far back attention reaches; None where it reaches back to the beginning."""
    ask = getattr(model, "get_attention_sliding_window_size", None)
    if ask is not None:
        window: int | None = ask()
        return window
    if getattr(model_config, "is_hybrid_swa", False):
        return getattr(model_config, "sliding_window_size", None)
    return getattr(model_config, "attention_chunk_size", None)


def _await_others(tp_rank: int) -> None:
    try:
        torch.distributed.monitored_barrier(
            group=group("tp").cpu_group,
            timeout=datetime.timedelta(seconds=_OTHER_RANKS_SECONDS),
            wait_all_ranks=True,
        )
    except RuntimeError as error:
        raise ValueError(f"TP rank {tp_rank} has loaded the model, and other ranks have not: {error}") from None
