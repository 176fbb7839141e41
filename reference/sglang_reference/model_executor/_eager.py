"""A forward pass without graphs: the attention backend is told of the batch, then the model runs.

Facts: SGLang 0.5.11, srt/model_executor/model_runner.py; 0.5.14 and later, srt/model_executor/runner/eager_runner.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sglang_reference._errors import not_covered

from .._contract import since


@contextmanager
def context(attn_backend: Any, forward_batch: Any) -> Iterator[None]:
    """What layers find while the pass runs; nothing up to 0.5.12, where the batch itself has it."""
    if not since("0.5.13"):
        yield
        return
    from . import forward_context as contexts

    told = {"forward_batch": forward_batch} if since("0.5.23") else {}
    has = contexts.has_forward_context()
    with contexts.forward_context(
        contexts.get_forward_context() if has else contexts.ForwardContext(attn_backend=attn_backend), **told
    ):
        yield


def forward(runner: Any, forward_batch: Any, pp_proxy_tensors: Any = None, *, planned: bool = False) -> Any:
    """Run the model on a batch that decodes, extends or is idle. Raises ValueError for another kind of batch.

    ``planned``: the attention backend has been told of it already.
    """
    mode = forward_batch.forward_mode
    if mode.is_split_prefill():
        raise not_covered("prefill some layers at a time")
    if not (mode.is_decode() or mode.is_idle() or mode.is_extend()):
        raise ValueError(f"Invalid forward mode: {mode}")
    if mode.is_idle() and forward_batch.batch_size == 0:
        planned = True
    if not planned:
        runner.attn_backend.init_forward_metadata(forward_batch)
    return runner.model.forward(
        forward_batch.input_ids, forward_batch.positions, forward_batch, **arguments(runner, pp_proxy_tensors)
    )


def arguments(runner: Any, pp_proxy_tensors: Any) -> dict[str, Any]:
    """What the model is called with beside the batch: what came from the stage before, where the model takes it."""
    return {"pp_proxy_tensors": pp_proxy_tensors} if runner.support_pp else {}
