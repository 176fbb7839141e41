"""``sglang.srt.model_executor.cuda_graph_runner``: decode steps from graphs of the device, up to 0.5.13.

Facts: SGLang 0.5.11 and 0.5.13, srt/model_executor/cuda_graph_runner.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .._contract import since
from .._released import Lifetime, Parameters, released
from ..distributed import parallel_state
from ..distributed._own_groups import group
from ._decode_steps import WARM_UPS, Steps, sizes_to_capture
from .forward_batch_info import ForwardBatch, PPProxyTensors

__all__ = [
    "CudaGraphRunner",
    "get_batch_sizes_to_capture",
    "get_global_graph_memory_pool",
    "set_global_graph_memory_pool",
]

_pool: Any = None


def get_global_graph_memory_pool() -> Any:
    """The pool of memory that all graphs of this process share; None before the first capture."""
    return _pool


def set_global_graph_memory_pool(val: Any) -> None:
    """Have graphs share that pool."""
    global _pool
    _pool = val


def get_batch_sizes_to_capture(model_runner: Any, num_tokens_per_bs: int = 1) -> tuple[list[int], list[int]]:
    """The batch sizes of the arguments, none above what requests there can be; and those to compile, which are none."""
    return sizes_to_capture(model_runner), []


class CudaGraphRunner(Steps):
    """One graph for each size, by the module of the device. A platform's runner may take its place, or extend it."""

    def __init__(
        self,
        model_runner: Any,
        *,
        attn_backend: Any = None,
        speculative_num_steps: int | None = None,
        speculative_num_draft_tokens: int | None = None,
    ) -> None:
        super().__init__(model_runner, attn_backend)
        self.graphs: dict[Any, Any] = {}
        self.output_buffers: dict[Any, Any] = {}
        self._capture_all()

    def can_run(self, forward_batch: ForwardBatch) -> bool:
        """Whether there is a graph for the batch."""
        return self._fits(forward_batch)

    def capture(self) -> None:
        """Capture every size, the largest first."""
        with parallel_state.graph_capture() as context:
            self.stream = self._stream_of(context)
            for size in self._largest_first():
                made = self.capture_one_batch_size(size, self.model_runner.model.forward)
                self.graphs[size], self.output_buffers[size] = made

    def capture_one_batch_size(
        self, bs: int, forward: Callable[..., Any], stream_idx: int | None = None
    ) -> tuple[Any, Any]:
        """A graph of one size, and what its replays give."""
        batch = self._batch(bs)
        if since("0.5.13"):
            self.attn_backend.init_forward_metadata_out_graph(batch, in_capture=True)
        else:
            self.attn_backend.init_forward_metadata_capture_cuda_graph(
                bs, bs, batch.req_pool_indices, batch.seq_lens, None, batch.forward_mode, None
            )
        run, graph = self._step(batch, forward), self._create_device_graph()
        for _ in range(WARM_UPS):
            self.device_module.synchronize()
            group("tp").barrier()
            run()
            if since("0.5.12"):
                self.attn_backend.on_after_cuda_graph_warmup()
        if get_global_graph_memory_pool() is None:
            set_global_graph_memory_pool(self.device_module.graph_pool_handle())
        return graph, self._capture_graph(graph, get_global_graph_memory_pool(), self.stream, run)

    def replay_prepare(self, forward_batch: ForwardBatch, pp_proxy_tensors: PPProxyTensors | None = None) -> None:
        """Copy a batch in, and tell the attention backend of it."""
        self._load(forward_batch, pp_proxy_tensors)
        batch = self._batch(self.bs)
        if since("0.5.13"):
            self.attn_backend.init_forward_metadata_out_graph(batch)
            return
        self.attn_backend.init_forward_metadata_replay_cuda_graph(
            self.bs,
            batch.req_pool_indices,
            batch.seq_lens,
            forward_batch.seq_lens_sum + (self.bs - self.raw_bs) * self.seq_len_fill_value,
            None,
            self.capture_forward_mode,
            None,
            seq_lens_cpu=batch.seq_lens_cpu,
        )

    @released(Parameters({"skip_attn_backend_init": Lifetime(gone="0.5.13")}))
    def replay(
        self,
        forward_batch: ForwardBatch,
        skip_attn_backend_init: bool = False,
        pp_proxy_tensors: PPProxyTensors | None = None,
    ) -> Any:
        """The step's output for a batch; it lives until the next replay."""
        if skip_attn_backend_init or (since("0.5.13") and not forward_batch.needs_forward_metadata_init()):
            self._refresh(forward_batch)
        else:
            self.replay_prepare(forward_batch, pp_proxy_tensors)
        self.graphs[self.bs].replay()
        return self._cut(self.output_buffers[self.bs])

    def _create_device_graph(self) -> Any:
        return torch.cuda.CUDAGraph()

    def _capture_graph(self, graph: Any, pool: Any, stream: Any, run_once_fn: Callable[[], Any]) -> Any:
        with self.device_module.graph(cuda_graph=graph, pool=pool, stream=stream):
            return run_once_fn()
