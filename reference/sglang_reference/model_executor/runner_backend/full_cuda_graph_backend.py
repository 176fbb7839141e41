"""``sglang.srt.model_executor.runner_backend.full_cuda_graph_backend``: whole forward passes as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sglang_reference._errors import not_covered

from ..._released import Lifetime, Parameters, released
from ...distributed._own_groups import group
from .._decode_steps import WARM_UPS
from .base_cuda_graph_backend import CAPTURE, BaseCudaGraphBackend

__all__ = ["FullCudaGraphBackend"]


class FullCudaGraphBackend(BaseCudaGraphBackend):
    """One CUDA graph a key, all of them sharing one pool of memory."""

    @released(Parameters({"reuse_output_buffer": Lifetime("0.5.20")}))
    def __init__(
        self, cuda_graph_runner: Any, *, enable_memory_saver: bool = False, reuse_output_buffer: bool = False
    ) -> None:
        if enable_memory_saver or reuse_output_buffer:
            raise not_covered("graphs with a memory saver, or with an output buffer of their own")
        self._device_module = cuda_graph_runner.device_module
        self._graphs: dict[Any, Any] = {}
        self._outputs: dict[Any, Any] = {}
        self._pool: Any = None
        self._stream: Any = None

    @contextmanager
    def capture_session(self, stream: Any) -> Iterator[None]:
        """Around all captures."""
        self._pool = self._pool or self._device_module.graph_pool_handle()
        self._stream = stream
        try:
            yield
        finally:
            self._stream = None

    @released(CAPTURE)
    def capture_one(
        self,
        shape_key: Any,
        forward_fn: Callable[[], Any],
        capture_inputs: Any = None,
        post_warmup_hook: Callable[[], None] | None = None,
    ) -> None:
        """Capture one pass, after two that warm up, which all ranks begin together."""
        for _ in range(WARM_UPS):
            self._device_module.synchronize()
            group("tp").barrier()
            forward_fn()
            if post_warmup_hook is not None:
                post_warmup_hook()
        graph = torch.cuda.CUDAGraph()
        with self._device_module.graph(cuda_graph=graph, pool=self._pool, stream=self._stream):
            output = forward_fn()
        self._graphs[shape_key], self._outputs[shape_key] = graph, output

    def can_run(self, forward_batch: Any, shape_key: Any) -> bool:
        """Whether that key was captured."""
        return shape_key in self._graphs

    @contextmanager
    def replay_session(self) -> Iterator[None]:
        """Nothing to prepare."""
        yield

    def replay(self, shape_key: Any, static_forward_batch: Any, **kwargs: Any) -> Any:
        """Replay the graph of that key."""
        self._graphs[shape_key].replay()
        return self._outputs[shape_key]

    def cleanup(self) -> None:
        """Let go of all graphs."""
        for graph in self._graphs.values():
            graph.reset()
        self._graphs.clear()
        self._outputs.clear()
        self._pool = None
