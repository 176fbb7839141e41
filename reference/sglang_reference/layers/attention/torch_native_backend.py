"""``sglang.srt.layers.attention.torch_native_backend``: attention in torch's own operators, on any device.

Where a sequence's keys and values are is looked up once for each pass, and no other place is read: neither what the
request's row holds beyond the sequence, nor what lies in the pool. SGLang's own is in no device graph; this one can be,
for a device's graphs to have something to capture. Facts: SGLang 0.5.11 to 0.5.23,
srt/layers/attention/torch_native_backend.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sglang_reference._errors import not_covered

from ..._contract import since
from ...model_executor.forward_batch_info import ForwardBatch
from ..radix_attention import AttentionType, RadixAttention
from ._captured import Captured
from ._places import Places, attend, of_extended, of_rows

__all__ = ["TorchNativeAttnBackend"]


class TorchNativeAttnBackend(Captured):
    """Attention over the runner's pools; ``forward_metadata`` says where the pass's sequences are, in order."""

    def __init__(self, model_runner: Any) -> None:
        super().__init__()
        self.device = model_runner.device
        self.req_to_token_pool = model_runner.req_to_token_pool
        self.token_to_kv_pool = model_runner.token_to_kv_pool
        self.forward_metadata: Sequence[Places] = ()

    def init_forward_metadata(self, forward_batch: ForwardBatch) -> None:
        """Look up where the sequences of a batch are."""
        mode, table = forward_batch.forward_mode, self.req_to_token_pool.req_to_token
        if mode.is_idle():
            self.forward_metadata = ()
        elif mode.is_decode():
            lengths = forward_batch.seq_lens
            told = forward_batch.seq_lens_cpu
            longest = int((lengths if told is None else told).max())
            rows = table[forward_batch.req_pool_indices, :longest]
            self.forward_metadata = (of_rows(rows, lengths),)
        else:
            self.forward_metadata = of_extended(forward_batch, table)

    def forward_extend(  # type: ignore[override]  # as in SGLang, which passes no more
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        layer: RadixAttention,
        forward_batch: ForwardBatch,
        save_kv_cache: bool = True,
    ) -> torch.Tensor:
        """Attention of several new tokens a sequence: each sees those before it, and itself."""
        return self._forward(q, k, v, layer, forward_batch, save_kv_cache)

    def forward_decode(  # type: ignore[override]  # as in SGLang, which passes no more
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        layer: RadixAttention,
        forward_batch: ForwardBatch,
        save_kv_cache: bool = True,
    ) -> torch.Tensor:
        """Attention of one new token a sequence."""
        return self._forward(q, k, v, layer, forward_batch, save_kv_cache)

    def support_triton(self) -> bool:
        """No: it is for devices that may have none."""
        return False

    def _forward(
        self,
        q: torch.Tensor,
        k: torch.Tensor | None,
        v: torch.Tensor | None,
        layer: RadixAttention,
        forward_batch: ForwardBatch,
        save_kv_cache: bool,
    ) -> torch.Tensor:
        if layer.is_cross_attention or layer.attn_type is not AttentionType.DECODER:
            raise not_covered("attention other than a decoder's, in the torch_native backend")
        if save_kv_cache and k is not None and v is not None:
            self._keep(layer, forward_batch.out_cache_loc, k, v)
        keys = self.token_to_kv_pool.get_key_buffer(layer.layer_id)
        values = self.token_to_kv_pool.get_value_buffer(layer.layer_id)
        queries = q.reshape(-1, layer.tp_q_head_num, layer.qk_head_dim)
        attended = [
            attend(queries[places.first : places.last], keys, values, places, layer) for places in self.forward_metadata
        ]
        whole = attended[0] if len(attended) == 1 else torch.cat(attended)
        return whole.reshape(whole.shape[0], layer.tp_q_head_num * layer.v_head_dim)

    def _keep(self, layer: RadixAttention, locations: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        """Put keys and values where the batch has places for them; told in an object of its own from 0.5.14 on."""
        if since("0.5.14"):
            from ...mem_cache.memory_pool import KVWriteLoc

            self.token_to_kv_pool.set_kv_buffer(layer, KVWriteLoc(locations, None), k, v)
        else:
            self.token_to_kv_pool.set_kv_buffer(layer, locations, k, v)
