"""Attention metadata of decoding for a device's graphs: of fixed shape and at fixed addresses.

Before a capture and before each replay the places of the batch's sequences are written into buffers that all graphs
share, each using the first rows. Sequences that only fill up a batch have length 1.
"""

from __future__ import annotations

from typing import Any

import torch

from sglang_reference._errors import not_covered

from ..._contract import since
from ...model_executor.forward_batch_info import ForwardBatch, ForwardMode
from ._places import Places, of_rows
from .base_attn_backend import AttentionBackend


class _Buffers(AttentionBackend):
    """The buffers: the places of as many sequences as there can be, each as long as one can be."""

    req_to_token_pool: Any
    _buffers: Places | None = None

    def init_cuda_graph_state(self, max_bs: int, max_num_tokens: int) -> None:
        """Make the buffers, for at most so many sequences."""
        rows = self.req_to_token_pool.req_to_token[:1].expand(max_bs, -1)
        self._buffers = of_rows(rows, rows.new_ones(max_bs, dtype=torch.int64))

    def get_cuda_graph_seq_len_fill_value(self) -> int:
        """One token: a softmax over none would be no number."""
        return 1

    def _take_in(self, mode: ForwardMode, count: int, rows: torch.Tensor, lengths: torch.Tensor) -> None:
        """Write the places of ``count`` sequences, which have these rows in the table of requests."""
        if not mode.is_decode():
            raise not_covered(f"a device graph of {mode.name}, in the torch_native backend")
        if self._buffers is None:
            raise RuntimeError("init_cuda_graph_state has not been called")
        now = of_rows(self.req_to_token_pool.req_to_token[rows[:count]], lengths[:count])
        _, _, *buffers = self._buffers
        for buffer, value in zip(buffers, now[2:], strict=True):
            buffer[:count].copy_(value)
        self.forward_metadata = (Places(0, count, *(buffer[:count] for buffer in buffers)),)


if since("0.5.13"):

    class Captured(_Buffers):
        """Told of a graph's batch before capture and replay alike."""

        def init_forward_metadata_out_graph(self, forward_batch: ForwardBatch, in_capture: bool = False) -> None:
            """Write where the sequences of a graph's batch are; none but decoding is served."""
            batch = forward_batch
            self._take_in(batch.forward_mode, batch.batch_size, batch.req_pool_indices, batch.seq_lens)

else:

    class Captured(_Buffers):  # type: ignore[no-redef]
        """Told of a graph's batch in one way before capture, and in another before replay."""

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
            """Write where the sequences are that stand in while a graph is captured."""
            self._take_in(forward_mode, bs, req_pool_indices, seq_lens)

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
            """Write where the sequences of a replay are."""
            self._take_in(forward_mode, bs, req_pool_indices, seq_lens)
