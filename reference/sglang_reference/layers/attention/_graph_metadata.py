"""How an attention backend is told of a batch: in two ways, as graphs came to be captured differently with 0.5.13.

Facts: SGLang 0.5.12 and 0.5.13, srt/layers/attention/base_attn_backend.py.
"""

from __future__ import annotations

from typing import Any

import torch

from ..._contract import since
from ...model_executor.forward_batch_info import ForwardBatch, ForwardMode

if since("0.5.13"):

    class GraphMetadata:
        """One batch at a time: its metadata before the graph, and what the graph itself computes of it."""

        def init_forward_metadata(self, forward_batch: ForwardBatch) -> None:
            """Take in a batch that is served without a graph."""
            self.init_forward_metadata_out_graph(forward_batch)
            self.init_forward_metadata_in_graph(forward_batch)

        def init_forward_metadata_out_graph(self, forward_batch: ForwardBatch, in_capture: bool = False) -> None:
            """Take in a batch before its graph is captured (``in_capture``) or replayed: whatever the host decides."""

        def init_forward_metadata_in_graph(self, forward_batch: ForwardBatch) -> None:
            """Compute on the device alone, and with fixed shapes: a graph captures it and replays it."""

        def init_forward_metadata_for_breakable_cuda_graph_capture(self, forward_batch: ForwardBatch) -> Any:
            """Metadata whose addresses a graph in pieces captures."""
            raise NotImplementedError

        def prepare_forward_metadata_for_breakable_cuda_graph_replay(
            self,
            capture_metadata: Any,
            forward_batch: ForwardBatch,
            *,
            static_forward_batch: ForwardBatch | None = None,
        ) -> None:
            """Bring such metadata up to date in place."""
            raise NotImplementedError

else:

    class GraphMetadata:  # type: ignore[no-redef]
        """A method for batches without a graph, one before a capture, one before each replay."""

        def init_forward_metadata(self, forward_batch: ForwardBatch) -> None:
            """Take in a batch that is served without a graph."""
            raise NotImplementedError

        def init_forward_metadata_capture_cuda_graph(
            self,
            bs: int,
            num_tokens: int,
            req_pool_indices: torch.Tensor,
            seq_lens: torch.Tensor,
            encoder_lens: torch.Tensor | None,
            forward_mode: ForwardMode,
            spec_info: Any,
        ) -> None:
            """Take in the batch that a graph is about to be captured of."""
            raise NotImplementedError

        def init_forward_metadata_replay_cuda_graph(
            self,
            bs: int,
            req_pool_indices: torch.Tensor,
            seq_lens: torch.Tensor,
            seq_lens_sum: int,
            encoder_lens: torch.Tensor | None,
            forward_mode: ForwardMode,
            spec_info: Any,
            seq_lens_cpu: torch.Tensor | None,
        ) -> None:
            """Take in the batch that a graph is about to be replayed for."""
            raise NotImplementedError
