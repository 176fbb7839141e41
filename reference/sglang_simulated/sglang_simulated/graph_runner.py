"""How SGLang is offered the device's graphs: a backend that captures and replays, and a runner that uses it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sglang_simulated import decoding
from sglang_simulated.graphs import PoolHandle, SimGraph, graph, graph_pool_handle
from sglang_simulated.streams import Stream, current_stream

WARM_UPS = 2  # runs before a capture, so that what a first run sets up is not recorded


class SimGraphBackend:
    """One graph a shape. ``get_full_graph_backend_cls()`` gives it to SGLang's own runners.

    SGLang calls ``cls(runner, enable_memory_saver=...)`` and then the methods below (0.5.23,
    srt/model_executor/runner_backend/base_cuda_graph_backend.py). ``enable_memory_saver`` is taken and not used:
    there is no memory saver for this device.
    """

    def __init__(self, runner: Any, *, enable_memory_saver: bool = False) -> None:
        self.runner = runner
        self._captured: dict[Hashable, tuple[SimGraph, Any, Any]] = {}
        self._pool: PoolHandle | None = None
        self._stream: Stream | None = None

    @contextmanager
    def capture_session(self, stream: Stream) -> Iterator[None]:
        """Inside it, captures run on ``stream`` and share one pool."""
        self._pool = self._pool or graph_pool_handle()
        self._stream = stream
        try:
            yield
        finally:
            self._stream = None

    def capture_one(
        self,
        shape_key: Hashable,
        forward_fn: Callable[[], Any],
        capture_inputs: Any = None,
        post_warmup_hook: Callable[[], None] | None = None,
    ) -> None:
        """Capture what ``forward_fn`` does, as the graph of ``shape_key``.

        ``capture_inputs`` are kept alive with it: the graph reads their memory at each replay.
        """
        for _ in range(WARM_UPS):
            current_stream().synchronize()
            forward_fn()
            if post_warmup_hook is not None:
                post_warmup_hook()
        captured = SimGraph()
        with graph(captured, pool=self._pool, stream=self._stream):
            output = forward_fn()
        self._captured[shape_key] = (captured, output, capture_inputs)

    def can_run(self, forward_batch: Any, shape_key: Hashable) -> bool:
        """Whether a graph of that shape was captured."""
        return shape_key in self._captured

    @contextmanager
    def replay_session(self) -> Iterator[None]:
        """Around replays; nothing to prepare."""
        yield

    def replay(self, shape_key: Hashable, static_forward_batch: Any, **kwargs: Any) -> Any:
        """Replay the graph of ``shape_key``; its output, in the memory the capture used. KeyError without one."""
        captured, output, _ = self._captured[shape_key]
        captured.replay()
        return output

    def cleanup(self) -> None:
        """Let go of all graphs and their memory."""
        for captured, _, _ in self._captured.values():
            captured.reset()
        self._captured.clear()
        self._pool = None


class SimGraphRunner:
    """Runs decode steps of a model from graphs, one for each batch size. ``get_graph_runner_cls()`` gives it to SGLang.

    SGLang makes it from a model runner that is ready but for this, and again when graphs are to be captured anew; it
    reads ``capture_bs``, the batch sizes that have a graph, asks for each decode step whether it can be run, and hands
    over the batch (0.5.23, srt/model_executor/model_runner_components/cuda_graph_setup.py and
    srt/model_executor/model_runner.py). A batch of another size is filled up to the next one that has a graph.
    """

    def __init__(
        self,
        model_runner: Any,
        *,
        attn_backend: Any = None,
        speculative_num_steps: int | None = None,
        speculative_num_draft_tokens: int | None = None,
    ) -> None:
        self.model_runner = model_runner
        self.attn_backend = attn_backend or getattr(model_runner, "attn_backend", None)
        self.speculative_num_steps = speculative_num_steps
        self.speculative_num_draft_tokens = speculative_num_draft_tokens
        self.capture_bs: list[int] = []
        self._backend = SimGraphBackend(self)
        self._inputs: dict[int, tuple[torch.Tensor, ...]] = {}
        if self.attn_backend is not None:  # a model to serve; without, whoever made this calls capture()
            decoding.capture(self)

    def capture(self, step: Callable[..., Any], *inputs: torch.Tensor, stream: Stream | None = None) -> None:
        """Capture ``step(*inputs)`` for the batch size that is the inputs' first dimension."""
        size = inputs[0].shape[0]
        buffers = tuple(tensor.clone() for tensor in inputs)
        with self._backend.capture_session(stream or Stream(inputs[0].device)):
            self._backend.capture_one(size, lambda: step(*buffers), capture_inputs=buffers)
        self._inputs[size] = buffers
        self.capture_bs = sorted(self._inputs)

    def can_run(self, forward_batch: Any) -> bool:
        """Whether there is a graph for ``forward_batch.batch_size`` requests, or for more."""
        return any(forward_batch.batch_size <= size for size in self._inputs)

    can_run_graph = can_run  # what 0.5.23 calls; 0.5.11 calls can_run

    def run(self, *inputs: torch.Tensor) -> Any:
        """Replay the step on new inputs of a captured batch size; the outputs live until the next run."""
        size = inputs[0].shape[0]
        for buffer, tensor in zip(self._inputs[size], inputs, strict=True):
            buffer.copy_(tensor)
        return self._backend.replay(size, None)

    def execute(self, forward_batch: Any, pp_proxy_tensors: Any = None) -> Any:
        """The decode step's output for a batch; it lives until the next one. What SGLang calls since 0.5.14."""
        size = min(size for size in self._inputs if size >= forward_batch.batch_size)
        inputs = decoding.filled_up(forward_batch, size, self.attn_backend)
        return decoding.cut(self.run(*inputs), forward_batch.batch_size)

    def replay(self, forward_batch: Any, skip_attn_backend_init: bool = False, pp_proxy_tensors: Any = None) -> Any:
        """The same; what SGLang calls up to 0.5.13."""
        return self.execute(forward_batch, pp_proxy_tensors)
