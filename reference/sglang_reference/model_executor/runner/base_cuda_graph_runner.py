"""``sglang.srt.model_executor.runner.base_cuda_graph_runner``: which batch sizes are captured (0.5.14 and later)."""

from __future__ import annotations

from typing import Any

from ..._released import Lifetime, Parameters, Renamed, released
from .._decode_steps import sizes_to_capture

__all__ = ["get_batch_sizes_to_capture"]


@released(
    Parameters(
        {"gathered_buffer_required": Lifetime("0.5.22")},
        renamed={"captured_req_width": Renamed("num_tokens_per_bs", "0.5.16")},
    )
)
def get_batch_sizes_to_capture(
    model_runner: Any, captured_req_width: int = 1, *, gathered_buffer_required: bool | None = None
) -> tuple[list[int], list[int]]:
    """The batch sizes of the arguments, none above what requests there can be; and those to compile, which are none."""
    return sizes_to_capture(model_runner), []
