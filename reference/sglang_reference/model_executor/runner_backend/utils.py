"""``sglang.srt.model_executor.runner_backend.utils``: which backend captures decode steps.

From 0.5.21 on an out-of-tree platform is asked for one of its own. Facts: SGLang 0.5.14, 0.5.21 and 0.5.23,
srt/model_executor/runner_backend/utils.py.
"""

from __future__ import annotations

from typing import Any

from sglang_reference._errors import not_covered

from ... import platforms
from ..._arguments.resolving import settled
from ..._contract import since
from .full_cuda_graph_backend import FullCudaGraphBackend

__all__ = ["resolve_decode_backend"]


def resolve_decode_backend(cuda_graph_runner: Any) -> Any:
    """The backend of a runner: the platform's own, else SGLang's. NotCovered where the settings name another kind."""
    values = settled(cuda_graph_runner.model_runner.server_args)
    kind = values.cuda_graph_config.decode.backend
    if kind == "breakable":
        raise not_covered("graphs in pieces, of decode steps")
    platform = platforms.current_platform
    made = platform.get_full_graph_backend_cls() if since("0.5.21") and platform.is_out_of_tree() else None
    return (made or FullCudaGraphBackend)(cuda_graph_runner, enable_memory_saver=values.enable_memory_saver)
