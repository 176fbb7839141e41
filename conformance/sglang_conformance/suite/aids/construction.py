"""What SGLang makes from the platform's factories, and how: the arguments, and what it asks of the objects.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import Any

from ...contract.model import Contract
from .. import expect
from .offered import must_offer
from .pools import POOL_METHODS
from .resolution import overrides
from .uncovered import maker_of

PHASES = ("draft_decode", "draft_extend")

# "raise an error if not supported" (SGLang 0.5.23, srt/platforms/interface.py): errors that speak of what was asked.
REFUSALS = (ValueError, NotImplementedError, RuntimeError)

# What SGLang makes a piecewise backend from, by position (0.5.11 and 0.5.23, srt/compilation/backend.py).
PIECEWISE = (
    "graph",
    "compile_config",
    "inductor_config",
    "graph_pool",
    "piecewise_compile_index",
    "total_piecewise_compiles",
    "sym_shape_indices",
    "compiled_graph_for_general_shape",
    "sglang_backend",
)

# What it makes an allocator from: by name for the KV cache, by position for sliding windows (0.5.23,
# srt/mem_cache/kv_cache_configurator.py:2926 and srt/mem_cache/allocator/swa.py:85).
ALLOCATOR = ("size", "page_size", "dtype", "device", "kvcache", "need_sort")

# What an allocator is asked for when a request comes, grows and ends (0.5.11 and 0.5.23, srt/mem_cache).
ALLOCATIONS = ("alloc", "alloc_extend", "alloc_decode", "free")

# What SGLang's own runners call on a full-graph backend (0.5.23, srt/model_executor/runner).
CAPTURES = ("capture_session", "capture_one", "can_run", "replay_session", "replay")

# What a speculative worker is made with, by name (0.5.23, srt/managers/scheduler.py:1056).
WORKER = ("server_args", "gpu_id", "nccl_port", "target_worker")

# What the function for cache locations is called with, by name (0.5.23, kernels/ops/speculative/cache_locs.py:690).
CACHE_LOCATIONS = (
    "req_pool_indices",
    "req_to_token",
    "start_offset",
    "end_offset",
    "batch_size",
    "draft_token_num",
    "device",
)

# The dispatch keys of SGLang's own devices, and the device types that run their kernels (0.5.23, kernels/fused_op.py).
DISPATCH = {"cuda": "cuda", "hip": "cuda", "musa": "musa", "npu": "npu", "xpu": "xpu", "cpu": "cpu"}


def declares_graphs(platform: Any, contract: Contract) -> bool:
    """Whether the platform says that it captures graphs: by its flag up to 0.5.21, by its capabilities since."""
    if contract.has("support_cuda_graph"):
        return bool(expect.ask(platform, "support_cuda_graph").value)
    return bool(platform.capabilities.graph_capture)


def graph_runner(platform: Any, contract: Contract) -> expect.Answer | None:
    """What makes the graph runner; None where there is nothing to look at."""
    member = "get_graph_runner_cls"
    if contract.has("support_cuda_graph") and not overrides(platform, member):
        raise expect.Declined(f"{member} is SGLang's own default, which refuses")
    return maker_of(platform, member, or_none=not contract.has("support_cuda_graph"))


def runner_must_offer(platform: Any, contract: Contract, name: str) -> None:
    """Fail where graph capture is declared, and the runner cannot have a member of that name."""
    if not declares_graphs(platform, contract):
        raise expect.Declined("the platform declares no graph capture")
    must_offer(graph_runner(platform, contract), name, cause="SGLang reads it off the runner that it has made")


def allocator(platform: Any, contract: Contract) -> expect.Answer | None:
    """What makes the paged allocator; None where there is nothing to look at."""
    return maker_of(platform, "get_paged_allocator_cls", or_none=not contract.has(POOL_METHODS[0]))
