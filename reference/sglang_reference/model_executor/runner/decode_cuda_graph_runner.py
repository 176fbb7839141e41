"""``sglang.srt.model_executor.runner.decode_cuda_graph_runner``: decode steps from graphs, from 0.5.14 on.

The graphs are those of a backend, which an out-of-tree platform can put in SGLang's place from 0.5.21 on. Facts: SGLang
0.5.14, 0.5.21 and 0.5.23, srt/model_executor/runner/decode_cuda_graph_runner.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..._released import Lifetime, Parameters, released
from ...distributed import parallel_state
from .. import _eager
from .._decode_steps import Steps
from ..forward_batch_info import ForwardBatch, PPProxyTensors
from ..runner_backend.base_cuda_graph_backend import CAPTURE
from ..runner_backend.utils import resolve_decode_backend
from .shape_key import ShapeKey

__all__ = ["DecodeCudaGraphRunner"]


class DecodeCudaGraphRunner(Steps):
    """Captures each size through its backend, and replays it. A platform's runner may take its place, or extend it."""

    @released(Parameters({"record_nolora_graph": Lifetime("0.5.20")}))
    def __init__(
        self,
        model_runner: Any,
        *,
        attn_backend: Any = None,
        speculative_num_steps: int | None = None,
        speculative_num_draft_tokens: int | None = None,
        record_nolora_graph: bool = False,
    ) -> None:
        super().__init__(model_runner, attn_backend)
        self.backend = resolve_decode_backend(self)
        self._capture_all()

    def can_run_graph(self, forward_batch: ForwardBatch) -> bool:
        """Whether there is a graph for the batch: the backend is asked only where batches are not filled up."""
        if self.disable_padding:
            return bool(self.backend.can_run(forward_batch, ShapeKey(forward_batch.batch_size)))
        return self._fits(forward_batch)

    def capture(self) -> None:
        """Capture every size, the largest first."""
        with parallel_state.graph_capture() as context:
            self.stream = self._stream_of(context)
            with self.backend.capture_session(self.stream):
                for size in self._largest_first():
                    self.capture_one_shape(size, self.model_runner.model.forward)

    @released(Parameters({"dsa_variant": Lifetime("0.5.18", "0.5.20"), "attention_variant": Lifetime("0.5.20")}))
    def capture_one_shape(
        self,
        size: int,
        forward: Callable[..., Any],
        stream_idx: int | None = None,
        variant_label: str | None = None,
        dsa_variant: str | None = None,
        attention_variant: str | None = None,
    ) -> None:
        """Have the backend capture one size."""
        batch = self._batch(size)
        with _eager.context(self.attn_backend, batch):
            self.attn_backend.init_forward_metadata_out_graph(batch, in_capture=True)
            self.backend.capture_one(
                ShapeKey(size),
                self._step(batch, forward),
                **CAPTURE.named({"capture_inputs": None}),
                post_warmup_hook=getattr(self.attn_backend, "on_after_cuda_graph_warmup", None),
            )

    def load_batch(self, forward_batch: ForwardBatch, pp_proxy_tensors: PPProxyTensors | None = None) -> None:
        """Copy a batch in, and tell the attention backend of it where that has not been done."""
        if forward_batch.needs_forward_metadata_init():
            self._load(forward_batch, pp_proxy_tensors)
            self.attn_backend.init_forward_metadata_out_graph(self._batch(self.bs))
        else:
            self._refresh(forward_batch)

    def execute(self, forward_batch: ForwardBatch, pp_proxy_tensors: PPProxyTensors | None = None) -> Any:
        """The step's output for a batch; it lives until the next one."""
        with self.backend.replay_session():
            self.load_batch(forward_batch, pp_proxy_tensors)
            output = self.backend.replay(ShapeKey(self.bs), forward_batch)
        return self._cut(output)
