"""New weights for a model that is being served.

Facts: SGLang 0.5.11, srt/model_executor/model_runner.py; 0.5.16 and later,
srt/model_executor/model_runner_components/weight_updater.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from sglang_reference._errors import not_covered

from .. import platforms
from .._contract import since
from ..utils.common import get_available_gpu_memory

logger = logging.getLogger("sglang.srt.model_executor.model_runner")

NamedTensors = list[tuple[str, Any]]


def load_tensors(runner: Any, named_tensors: NamedTensors, load_format: str | None, tp_rank: int) -> tuple[bool, str]:
    """Load these weights, which go to the device first; graphs that were captured keep reading the same memory.

    ``direct`` copies them into parameters of the same names. Raises NotImplementedError for a format that there is
    not, NotCovered for the packed one and for a user's own.
    """
    index = torch.get_device_module(runner.device).current_device()
    device = torch.device(runner.device, index) if isinstance(index, int) else torch.device(runner.device)
    tensors = [(name, _unwrapped(tensor, tp_rank).to(device)) for name, tensor in named_tensors]
    if load_format is None:
        runner.model.load_weights(tensors)
    elif load_format == "direct":
        _copy(runner.model, tensors)
    elif load_format == "flattened_bucket" or "." in load_format:
        raise not_covered(f"weights in the format {load_format}")
    else:
        raise NotImplementedError(f"Unknown load_format={load_format}")
    return True, "Success"


def load_from_disk(
    runner: Any,
    model_path: str,
    load_format: str,
    weight_name_filter: Callable[[str], bool] | None,
    recapture: Callable[[], None] | None,
) -> tuple[bool, str]:
    """Load the weights of a folder, and capture graphs anew where that is asked for and the device captures any."""
    from ..configs.load_config import LoadConfig
    from ..model_loader.loader import DefaultModelLoader, get_model_loader

    free = get_available_gpu_memory(runner.device, runner.gpu_id, empty_cache=False)
    logger.info("Update engine weights online from disk begin. avail mem=%.2f GB", free)
    config, device, before = runner.model_config, torch.device(runner.device), runner.model_config.model_path
    loader = get_model_loader(LoadConfig(load_format=load_format), config)
    if not isinstance(loader, DefaultModelLoader):
        return False, f"Failed to get model loader: {loader}."
    config.model_path = model_path
    try:
        weights = loader._get_weights_iterator(DefaultModelLoader.Source.init_new(config, runner.model))
        loader.load_weights_and_postprocess(runner.model, _filtered(weights, weight_name_filter), device)
    except Exception as error:
        config.model_path = before
        weights = loader._get_weights_iterator(DefaultModelLoader.Source.init_new(config, runner.model))
        loader.load_weights_and_postprocess(runner.model, weights, device)
        return False, f"Failed to update weights: {error}.\nRolling back to original weights."
    if recapture is not None and _captures(runner.device):
        recapture()
    logger.info("Update weights end.")
    return True, "Succeeded to update model weights."


def _captures(device: str) -> bool:
    """Whether graphs of the device are captured anew: CUDA's, and those of an out-of-tree platform that has any."""
    platform = platforms.current_platform
    if device in ("cuda", "musa"):
        return True
    if not platform.is_out_of_tree():
        return False
    return bool(platform.capabilities.graph_capture if since("0.5.22") else platform.support_cuda_graph())


def _filtered(
    weights: Iterable[tuple[str, torch.Tensor]], wanted: Callable[[str], bool] | None
) -> Iterator[tuple[str, torch.Tensor]]:
    return ((name, tensor) for name, tensor in weights if wanted is None or wanted(name))


def _unwrapped(tensor: Any, tp_rank: int) -> torch.Tensor:
    """A tensor, or this rank's of those that were sent for all of them."""
    own: torch.Tensor = tensor if isinstance(tensor, torch.Tensor) else tensor.get(tp_rank)
    return own


def _copy(model: Any, tensors: NamedTensors) -> None:
    parameters = dict(model.named_parameters())
    for name, tensor in tensors:
        with torch.no_grad():
            parameters[name].copy_(tensor)
