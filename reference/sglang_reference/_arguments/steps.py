"""The steps by which SGLang resolves server arguments, in its order: those in which the platform counts.

Facts: 0.5.11 to 0.5.18, ``ServerArgs.__post_init__`` in srt/server_args.py; 0.5.19 and later,
srt/arg_groups/pipeline.py.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

from .. import platforms
from .._contract import since
from . import capture, fields
from .memory import handle_memory
from .resolving import declare, record_foreign, settled
from .speculative import handle_speculation

logger = logging.getLogger("sglang.srt.server_args")

_DUMMY = ("none", "dummy")


def resolve(arguments: Any) -> None:
    """Run the release's steps on arguments that nothing was decided of yet."""
    if not fields.RESOLVED_WHEN_MADE:
        arguments._raw_input = {name: getattr(arguments, name) for name in fields.NAMES}
        arguments._resolved_overrides = list(getattr(arguments, "_resolved_overrides", None) or ())
    if arguments.model_path.lower() in _DUMMY:
        return
    for step in STEPS:
        step(arguments)


def handle_missing_values(arguments: Any) -> None:
    """What follows from the model's path and the machine: names, device, seed."""
    from ..utils.common import get_device

    values = settled(arguments)
    for name in ("tokenizer_path", "served_model_name"):
        if getattr(values, name) is None:
            declare(arguments, "missing values", **{name: values.model_path})
    device = values.device if values.device is not None else get_device()
    declare(arguments, "missing values", device=device.split(":")[0])
    if values.random_seed is None:
        declare(arguments, "missing values", random_seed=random.randint(0, 1 << 30))
    if "mm_process_config" in fields.NAMES and values.mm_process_config is None:
        declare(arguments, "missing values", mm_process_config={})


def handle_cpu(arguments: Any) -> None:
    """The CPU's backends, before any platform's defaults."""
    values = settled(arguments)
    if values.device != "cpu":
        return
    if values.attention_backend is None:
        declare(arguments, "cpu backends", attention_backend="intel_amx")
    declare(arguments, "cpu backends", sampling_backend="pytorch")


def handle_platform_defaults(arguments: Any) -> None:
    """The platform's defaults: any platform's, and a built-in one has none."""
    platform = platforms.current_platform
    record_foreign(arguments, f"platform:{platform.device_name}", platform.apply_server_args_defaults)


def handle_sampling(arguments: Any) -> None:
    """Sampling in torch where nobody has chosen: there is no flashinfer here."""
    if settled(arguments).sampling_backend is None:
        declare(arguments, "sampling backend", sampling_backend="pytorch")


def handle_attention(arguments: Any) -> None:
    """The attention backend where nobody has chosen, which an out-of-tree platform names; and what follows from it."""
    values = settled(arguments)
    if values.prefill_attention_backend is not None and (
        values.prefill_attention_backend == values.decode_attention_backend
    ):
        declare(arguments, "attention backend", attention_backend=values.prefill_attention_backend)
    if values.attention_backend is None:
        platform = platforms.current_platform
        chosen = platform.get_default_attention_backend() if platform.is_out_of_tree() else "torch_native"
        logger.info("Attention backend not specified. Use %s backend by default.", chosen)
        declare(arguments, "attention backend", attention_backend=chosen)
    if values.attention_backend in ("torch_native", "flex_attention"):
        logger.warning("Graphs are not captured with the attention backend %s", values.attention_backend)
        if capture.BY_PHASE:
            capture.disable(arguments, "decode", "prefill")
        else:
            declare(arguments, "attention backend", disable_cuda_graph=True)
    if values.attention_backend == "intel_amx":
        # SGLang asks whether the CPU has AMX. Its kernels are not here, whatever the CPU has.
        logger.warning("The intel_amx attention backend is not available, falling back to torch_native")
        declare(arguments, "attention backend", attention_backend="torch_native")


def handle_page_size(arguments: Any) -> None:
    """One token a page where nobody has chosen; 64 on MUSA's own platform."""
    if settled(arguments).page_size is None:
        platform = platforms.current_platform
        declare(arguments, "page size", page_size=64 if platform.is_musa() and not platform.is_out_of_tree() else 1)


def handle_pre_warming(arguments: Any) -> None:
    """Collectives are warmed up on CUDA and ROCm alone."""
    platform = platforms.current_platform
    if settled(arguments).pre_warm_nccl and not (platform.is_cuda() or platform.is_rocm() or platform.is_npu()):
        logger.warning("pre_warm_nccl is for CUDA, ROCm and NPU, and is ignored here")
        declare(arguments, "nccl pre-warming", pre_warm_nccl=False)


def handle_data_parallelism(arguments: Any) -> None:
    """Nothing of data-parallel attention is on without several ranks of it."""
    values = settled(arguments)
    if since("0.5.20"):
        return
    if values.dp_size == 1:
        declare(arguments, "data parallelism", enable_dp_attention=False, enable_dp_lm_head=False)


def handle_pipeline(arguments: Any) -> None:
    """Stages are not overlapped with scheduling."""
    if settled(arguments).pp_size > 1:
        declare(arguments, "pipeline parallelism", disable_overlap_schedule=True)


_GRAPHS_FIRST: tuple[Callable[[Any], None], ...] = (capture.handle_graph_settings,) if capture.BY_PHASE else ()
_PIECES_AFTER: tuple[Callable[[Any], None], ...] = () if capture.BY_PHASE else (capture.handle_pieces,)

STEPS: tuple[Callable[[Any], None], ...] = (
    handle_missing_values,
    *_GRAPHS_FIRST,
    handle_cpu,
    handle_platform_defaults,
    *_PIECES_AFTER,
    handle_memory,
    handle_sampling,
    handle_attention,
    handle_page_size,
    handle_pre_warming,
    handle_data_parallelism,
    handle_pipeline,
    handle_speculation,
)
"""In the release's order."""
