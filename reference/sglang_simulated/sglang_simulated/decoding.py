"""The decode step of a served model, for its graphs: what it reads, how it is captured, and what it gives.

A graph reads the memory that it was captured on. So each batch size has inputs of its own (:data:`INPUTS`), into which
every batch is copied; :func:`step` makes SGLang's batch of them again.
"""
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch

from sglang_simulated.streams import Stream

INPUTS = ("input_ids", "positions", "req_pool_indices", "seq_lens", "out_cache_loc")
"""What of a batch a decode step reads: a number for each request."""


def capture(runner: Any) -> None:
    """Capture the runner's model for each batch size that SGLang wants, the largest first, all ranks together.

    Nothing on a pipeline of several stages: their models take more than a batch, and run without graphs.
    """
    from sglang.srt.distributed.parallel_state import graph_capture

    model_runner, attention = runner.model_runner, runner.attn_backend
    if model_runner.pp_group.world_size > 1:
        return
    sizes = _sizes(model_runner)
    attention.init_cuda_graph_state(max(sizes), max(sizes))
    with graph_capture() as context:  # makes the groups' collectives ready
        # Its stream is one of the groups' device, which is the CPU up to 0.5.22.
        stream = context.stream if isinstance(context.stream, Stream) else Stream(torch.device(model_runner.device))
        for size in reversed(sizes):
            idle = _idle(size, model_runner.device, attention)
            _plan(attention, batch_of(model_runner, attention, *idle), capturing=True)

            def decode(*inputs: torch.Tensor) -> Any:
                return step(model_runner, attention, *inputs)

            runner.capture(decode, *idle, stream=stream)


def step(model_runner: Any, attention: Any, *inputs: torch.Tensor) -> Any:
    """One forward pass of the model: this is what a graph holds."""
    batch = batch_of(model_runner, attention, *inputs)
    with _forward_context(attention):
        if hasattr(attention, "init_forward_metadata_in_graph"):  # since 0.5.13
            attention.init_forward_metadata_in_graph(batch)
        return model_runner.model.forward(batch.input_ids, batch.positions, batch)


def batch_of(model_runner: Any, attention: Any, *inputs: torch.Tensor) -> Any:
    """SGLang's batch of these inputs."""
    from sglang.srt.model_executor.forward_batch_info import CaptureHiddenMode, ForwardBatch, ForwardMode

    known = {field.name for field in dataclasses.fields(ForwardBatch)}
    more = {
        "seq_lens_cpu": None,
        "capture_hidden_mode": CaptureHiddenMode.NULL,
        "spec_algorithm": model_runner.spec_algorithm,
        # Up to 0.5.12 a batch carries what layers find in the forward context since.
        "req_to_token_pool": model_runner.req_to_token_pool,
        "token_to_kv_pool": model_runner.token_to_kv_pool,
        "attn_backend": attention,
    }
    given = dict(zip(INPUTS, inputs, strict=True))
    return ForwardBatch(
        forward_mode=ForwardMode.DECODE,
        batch_size=inputs[0].shape[0],
        seq_lens_sum=0,
        **given,
        **{name: value for name, value in more.items() if name in known},
    )


def filled_up(forward_batch: Any, size: int, attention: Any) -> tuple[torch.Tensor, ...]:
    """The inputs of a batch, with idle requests up to ``size``; the attention backend is told of all of them."""
    count = forward_batch.batch_size
    idle = _idle(size, forward_batch.input_ids.device, attention)
    for tensor, name in zip(idle, INPUTS, strict=True):
        tensor[:count].copy_(getattr(forward_batch, name))
    whole = dataclasses.replace(forward_batch, batch_size=size, **dict(zip(INPUTS, idle, strict=True)))
    _plan(attention, whole, capturing=False)
    return idle


def cut(output: Any, count: int) -> Any:
    """The step's output without those of idle requests."""
    return dataclasses.replace(output, next_token_logits=output.next_token_logits[:count])


def _sizes(model_runner: Any) -> list[int]:
    """The batch sizes to capture, as SGLang computes them from its arguments, smallest first."""
    try:
        from sglang.srt.model_executor.runner.base_cuda_graph_runner import get_batch_sizes_to_capture
    except ImportError:  # up to 0.5.13
        from sglang.srt.model_executor.cuda_graph_runner import get_batch_sizes_to_capture

    sizes: list[int] = get_batch_sizes_to_capture(model_runner)[0]
    return sizes


def _idle(size: int, device: Any, attention: Any) -> tuple[torch.Tensor, ...]:
    """Requests that only fill up a batch: their tokens' keys and values go to slot 0, which belongs to nobody."""
    fill = {"seq_lens": attention.get_cuda_graph_seq_len_fill_value()}
    return tuple(torch.full((size,), fill.get(name, 0), dtype=torch.int64, device=device) for name in INPUTS)


def _plan(attention: Any, batch: Any, *, capturing: bool) -> None:
    """Tell the attention backend what batch comes: in one way up to 0.5.12, in another since."""
    if hasattr(attention, "init_forward_metadata_out_graph"):
        attention.init_forward_metadata_out_graph(batch, in_capture=capturing)
        return
    mode = batch.forward_mode
    if capturing:
        size = batch.batch_size
        attention.init_forward_metadata_capture_cuda_graph(
            size, size, batch.req_pool_indices, batch.seq_lens, None, mode, None
        )
    else:
        attention.init_forward_metadata_replay_cuda_graph(
            batch.batch_size, batch.req_pool_indices, batch.seq_lens, batch.seq_lens_sum, None, mode, None, None
        )


@contextlib.contextmanager
def _forward_context(attention: Any) -> Iterator[None]:
    """What layers ask for their attention backend since 0.5.13."""
    try:
        from sglang.srt.model_executor.forward_context import ForwardContext, forward_context
    except ImportError:
        yield
        return
    with forward_context(ForwardContext(attn_backend=attention)):
        yield
