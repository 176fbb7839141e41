"""``sglang.srt.layers.attention.base_attn_backend``: what graph runners and models ask of an attention backend.

Facts: SGLang 0.5.11 to 0.5.23, srt/layers/attention/base_attn_backend.py.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable
from enum import Enum
from typing import Any

import torch

from ..._released import Lifetime, Parameters, absent, released, withdraw
from ...model_executor.forward_batch_info import ForwardBatch, ForwardMode
from ._graph_metadata import GraphMetadata

__all__ = ["AttentionBackend", "SharedReadEnds"]

_MORE = Parameters({"kwargs": Lifetime("0.5.12")})


class SharedReadEnds(Enum):
    """When a backend has read for the last time what it shares with the scheduler; a later end has a larger value."""

    PRE_REPLAY = 1
    IN_REPLAY = 2
    POST_REPLAY = 3
    UNKNOWN = 4

    @staticmethod
    def max_of(items: Iterable[SharedReadEnds]) -> SharedReadEnds:
        """The latest."""
        return max(items, key=lambda end: end.value)


class AttentionBackend(GraphMetadata, ABC):
    """Base of attention backends: metadata of a batch once for each pass, then attention once for each layer.

    What a backend must have and does not raises NotImplementedError.
    """

    prefill_attention_backend_str: str | None = None
    decode_attention_backend_str: str | None = None
    data_type: torch.dtype | None = None
    kv_cache_dtype: torch.dtype | None = None
    attn_backend_list: list[Any] | None = None
    forward_metadata: Any = None
    kv_index_translator: Any = None
    needs_cpu_seq_lens: bool = True
    extend_dummy_seqs_capped_by_req_pool: bool = False
    supports_ragged_verify_graph: bool = False
    supports_draft_extend_metadata_staging: bool = False
    supports_full_cuda_graph_chunked_prefix: bool = False
    use_captured_forward_metadata_for_breakable_cuda_graph: bool = False
    prefill_cuda_graph_max_batch_size: int | None = None

    def init_cuda_graph_state(self, max_bs: int, max_num_tokens: int) -> None:
        """Make what all graphs share, for at most so many sequences and tokens."""
        raise NotImplementedError

    def get_cuda_graph_seq_len_fill_value(self) -> int:
        """The length of sequences that only fill up a graph's batch."""
        raise NotImplementedError

    def on_after_cuda_graph_warmup(self) -> None:
        """Undo what the passes before a capture left behind."""

    def update_verify_buffers_to_fill_after_draft(self, spec_info: Any, cuda_graph_bs: int | None) -> None:
        """Bring up to date what hangs on a draft's tree."""
        raise NotImplementedError

    def forward(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        layer: Any,
        forward_batch: ForwardBatch,
        save_kv_cache: bool = True,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Attention of one layer, in the way of the batch's mode. An idle batch gives a tensor that nobody reads."""
        mode = forward_batch.forward_mode
        if mode.is_idle():
            return q.new_empty(q.shape[0], layer.tp_q_head_num * layer.v_head_dim)
        way = self.forward_decode if mode.is_decode() else self.forward_extend
        return way(q, k, v, layer, forward_batch, save_kv_cache=save_kv_cache, **kwargs)

    @released(_MORE)
    def forward_decode(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        layer: Any,
        forward_batch: ForwardBatch,
        save_kv_cache: bool = True,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Attention of one new token a sequence."""
        raise NotImplementedError

    @released(_MORE)
    def forward_extend(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        layer: Any,
        forward_batch: ForwardBatch,
        save_kv_cache: bool = True,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Attention of several new tokens a sequence."""
        raise NotImplementedError

    def forward_mixed(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        layer: Any,
        forward_batch: ForwardBatch,
        save_kv_cache: bool = True,
    ) -> torch.Tensor:
        """Attention of a batch in which some sequences extend and others decode, where a device has it in one."""
        raise NotImplementedError

    def support_triton(self) -> bool:
        """Whether Triton kernels may run beside the backend."""
        return True

    def get_indexer_metadata(self, layer_id: int, forward_batch: ForwardBatch) -> Any:
        """What a sparse-attention indexer needs; None where the backend serves none."""
        return None

    def shared_read_ends(self, fm: ForwardMode) -> SharedReadEnds:
        """When the backend has read for the last time what it shares with the scheduler."""
        return SharedReadEnds.IN_REPLAY if fm.is_decode() or fm.is_target_verify() else SharedReadEnds.UNKNOWN

    def draft_extend_metadata_captured_in_graph(self) -> bool:
        """Whether a graph of a draft's extension rebuilds all metadata itself."""
        return False

    def validate_elastic_cuda_graph_recapture(self) -> None:
        """Raise where graphs cannot be captured anew after ranks have joined."""

    def get_fused_kv_write_buffers(self, layer: Any, forward_batch: ForwardBatch) -> tuple[torch.Tensor, ...] | None:
        """Where a fused kernel may write keys and values; None where none may."""
        return None


_LIFETIMES = {
    "on_after_cuda_graph_warmup": Lifetime("0.5.12"),
    **dict.fromkeys(
        ("needs_cpu_seq_lens", "use_captured_forward_metadata_for_breakable_cuda_graph"), Lifetime("0.5.13")
    ),
    **dict.fromkeys(("prefill_attention_backend_str", "decode_attention_backend_str"), Lifetime("0.5.14")),
    **dict.fromkeys(("draft_extend_metadata_captured_in_graph", "supports_ragged_verify_graph"), Lifetime("0.5.16")),
    "supports_full_cuda_graph_chunked_prefix": Lifetime("0.5.17"),
    **dict.fromkeys(("shared_read_ends", "extend_dummy_seqs_capped_by_req_pool"), Lifetime("0.5.18")),
    **dict.fromkeys(
        ("attn_backend_list", "data_type", "forward_metadata", "kv_cache_dtype", "kv_index_translator"),
        Lifetime("0.5.19"),
    ),
    "supports_draft_extend_metadata_staging": Lifetime("0.5.20"),
    "validate_elastic_cuda_graph_recapture": Lifetime("0.5.21"),
    "prefill_cuda_graph_max_batch_size": Lifetime("0.5.22"),
    "get_fused_kv_write_buffers": Lifetime("0.5.23"),
}
for _name in absent(_LIFETIMES):
    delattr(AttentionBackend, _name)

_ABSENT = withdraw(globals(), {"SharedReadEnds": Lifetime("0.5.18")})
