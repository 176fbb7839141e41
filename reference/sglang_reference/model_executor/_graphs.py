"""Whether a runner's decode steps are captured, and by whose class.

SGLang goes by the device, the settings and what the platform declares: by its flag up to 0.5.21, which it asks an
out-of-tree platform alone, and by its capabilities from 0.5.22 on. Facts: 0.5.11 and 0.5.14,
srt/model_executor/model_runner.py; 0.5.16, 0.5.21, 0.5.22 and 0.5.23,
srt/model_executor/model_runner_components/cuda_graph_setup.py.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from sglang_reference._errors import not_covered

from .. import platforms
from .._arguments import capture
from .._arguments.resolving import settled
from .._contract import since
from ..utils.common import get_available_gpu_memory

logger = logging.getLogger("sglang.srt.model_executor.model_runner")

_BUILT_IN = ("cuda", "musa", "npu", "cpu", *(["xpu"] if since("0.5.21") else []))
_WORDS = {"cuda": "cuda graph", "musa": "cuda graph", "cpu": "cpu graph", "npu": "npu graph", "xpu": "xpu graph"}


@dataclass(frozen=True)
class Captured:
    """A runner of captured steps, if there is one, and the GiB that its graphs took."""

    runner: Any = None
    memory: float = 0.0


def platform_captures(device: str) -> bool:
    """Whether the device has graphs, as far as it and the platform are concerned."""
    platform = platforms.current_platform
    if since("0.5.22"):
        return bool(platform.capabilities.graph_capture)
    if device in _BUILT_IN:
        return True
    return bool(platform.is_out_of_tree() and platform.support_cuda_graph())


def decode_graphs(runner: Any, tp_rank: int) -> Captured:
    """Capture the runner's decode steps, where the settings let them be captured."""
    if not runner.is_generation:
        return Captured()
    if runner.device != "cpu" and not capture.captures_decode(runner.server_args):
        return Captured()
    if runner.device == "cpu" and not settled(runner.server_args).enable_torch_compile:
        return Captured()
    words = _WORDS.get(runner.device, f"{platforms.current_platform.device_name} graph")
    began, before = time.perf_counter(), get_available_gpu_memory(runner.device, runner.gpu_id)
    logger.info("Capture %s begin. This can take up to several minutes. avail mem=%.2f GB", words, before)
    made = _class_of(runner.device)(runner)
    after = get_available_gpu_memory(runner.device, runner.gpu_id)
    # SGLang reads the sizes off the runner, from 0.5.22 on without asking whether there are any.
    sizes = made.capture_bs if since("0.5.22") else getattr(made, "capture_bs", None)
    logger.info(
        "Capture %s end. bs=%s, elapsed=%.2f s, mem usage=%.2f GB. avail mem=%.2f GB.",
        words,
        sizes,
        time.perf_counter() - began,
        before - after,
        after,
    )
    return Captured(made, before - after)


def refuse_prefill(runner: Any) -> None:
    """Refuse, with NotCovered, to capture prefill: the reference does so in no way."""
    if runner.device != "cpu" and capture.captures_prefill(runner.server_args):
        raise not_covered("graphs of prefill; switch them off by cuda_graph_backend_prefill, or disable_cuda_graph")


def _class_of(device: str) -> Any:
    """The runner's class: the platform's, else SGLang's own of the device.

    Only an out-of-tree platform is asked up to 0.5.21, and must have one. Later every platform is, and
    NotImplementedError meets the out-of-tree one that has none.
    """
    platform = platforms.current_platform
    if since("0.5.22"):
        from ..platforms.interface import require_out_of_tree_impl

        made = platform.get_graph_runner_cls()
        if made is not None:
            return made
        require_out_of_tree_impl(platform, hook="get_graph_runner_cls()", subsystem="CUDA graph runner")
    elif platform.is_out_of_tree():
        return platform.get_graph_runner_cls()
    if device == "cpu":
        raise not_covered("graphs of the CPU, which are torch.compile's")
    if device != "cuda":
        raise not_covered(f"SGLang's own graphs of {device}")
    if since("0.5.14"):
        from .runner.decode_cuda_graph_runner import DecodeCudaGraphRunner

        return DecodeCudaGraphRunner
    from .cuda_graph_runner import CudaGraphRunner

    return CudaGraphRunner
