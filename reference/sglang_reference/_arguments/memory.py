"""What of the device's memory the server takes: prefill's chunks, the largest captured batch, and the static share.

SGLang goes by the size of the device and leaves the rest to the user. Facts: 0.5.11 to 0.5.18, srt/server_args.py;
0.5.19 and later, srt/arg_groups/memory_hook.py. What it reserves for DP attention, vision and DeepEP is not here.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from .._contract import since
from . import capture
from .model import uses_mla
from .resolving import declare, settled

_STEP = "gpu memory settings"
_FEW = (24, 80) if not since("0.5.20") else (48, 160)


class Tier(NamedTuple):
    """What a device has up to ``below`` GiB; the largest batch depends on whether there are four ranks or more."""

    below: float
    chunked_prefill_size: int
    max_bs: tuple[int, int]


_TIERS = (
    Tier(20, 2048, (8, 8)),
    Tier(35, 4096 if since("0.5.20") else 2048, _FEW),
    Tier(60, 4096, (32, 160)),
    Tier(90, 8192, (256, 512)),
    Tier(160, 8192, (256, 512)),
    Tier(float("inf"), 16384, (512, 512)),
)
_UNKNOWN = Tier(float("inf"), 4096, (160, 160))
_SHARE_OF_UNKNOWN = 0.95 if since("0.5.20") else 0.88
_MOST_TOKENS_MLA = 8192 if since("0.5.23") else 2048


def handle_memory(arguments: Any) -> None:
    """Fill in what the user and the platform have left open of these settings."""
    from ..utils.common import get_device_memory_capacity

    capacity = get_device_memory_capacity(settled(arguments).device)
    tier = _UNKNOWN if capacity is None else next(each for each in _TIERS if capacity < each.below * 1024)
    if settled(arguments).chunked_prefill_size is None:
        declare(arguments, _STEP, chunked_prefill_size=tier.chunked_prefill_size)
    most = tier.max_bs[settled(arguments).tp_size >= 4]
    if capture.BY_PHASE:
        _handle_phases(arguments, most)
    else:
        _handle_flags(arguments, most)
    if settled(arguments).mem_fraction_static is None:
        share = (
            _SHARE_OF_UNKNOWN if capacity is None else round((capacity - _reserved(arguments, capacity)) / capacity, 3)
        )
        declare(arguments, _STEP, mem_fraction_static=share)


def _handle_phases(arguments: Any, most: int) -> None:
    config = copy.deepcopy(settled(arguments).cuda_graph_config)
    decode, prefill = config.decode, config.prefill
    if decode.max_bs is None:
        running = settled(arguments).max_running_requests
        decode.max_bs = most if running is None or not since("0.5.22") else min(most, running)
    decode.bs, decode.max_bs = _sizes(arguments, decode.bs, decode.max_bs)
    if prefill.max_bs is None:
        prefill.max_bs = _most_tokens(arguments)
    if prefill.bs is None:
        prefill.bs = capture.tokens_up_to(prefill.max_bs)
    declare(arguments, _STEP, cuda_graph_config=config)


def _handle_flags(arguments: Any, most: int) -> None:
    sizes, most = _sizes(arguments, arguments.cuda_graph_bs, arguments.cuda_graph_max_bs or most)
    declare(arguments, _STEP, cuda_graph_bs=sizes, cuda_graph_max_bs=most)
    if arguments.piecewise_cuda_graph_max_tokens is None:
        declare(arguments, _STEP, piecewise_cuda_graph_max_tokens=_most_tokens(arguments))
    if arguments.piecewise_cuda_graph_tokens is None:
        tokens = capture.tokens_up_to(arguments.piecewise_cuda_graph_max_tokens)
        declare(arguments, _STEP, piecewise_cuda_graph_tokens=tokens)


def _sizes(arguments: Any, given: list[int] | None, most: int) -> tuple[list[int], int]:
    """The batch sizes to capture, and the largest; on the CPU torch.compile's limit is the largest."""
    values = settled(arguments)
    if values.device != "cpu":
        return (given, max(given)) if given is not None else (capture.sizes_up_to(values, most), most)
    limit = max(given) if given is not None else values.torch_compile_max_bs or most
    declare(arguments, _STEP, torch_compile_max_bs=limit)
    return given if given is not None else capture.sizes_on_cpu(values, limit), limit


def _most_tokens(arguments: Any) -> int:
    values = settled(arguments)
    most: int = values.chunked_prefill_size
    if uses_mla(arguments):
        most = min(_MOST_TOKENS_MLA, most) if since("0.5.23") else _MOST_TOKENS_MLA
    return most if values.max_total_tokens is None else min(most, values.max_total_tokens)


def _reserved(arguments: Any, capacity: float) -> float:
    """MiB for what is neither weights nor KV cache: a constant, activations, graphs, and more for many ranks."""
    values = settled(arguments)
    chunk = values.chunked_prefill_size if values.chunked_prefill_size > 0 else values.max_prefill_tokens
    reserved = 512 + max(chunk, 2048) * 1.5 + values.tp_size * values.pp_size / 8 * 1024
    if capture.captures_decode(arguments) or not since("0.5.16"):
        reserved += (values.cuda_graph_config.decode.max_bs if capture.BY_PHASE else values.cuda_graph_max_bs) * 2
    if capture.captures_prefill(arguments):
        tokens = values.cuda_graph_config.prefill.bs if capture.BY_PHASE else values.piecewise_cuda_graph_tokens
        reserved += 1.5 * 1024 if uses_mla(arguments) else len(tokens) * 8
    if capacity > 60 * 1024:
        reserved = max(reserved, 10 * 1024)
    return float(reserved)
