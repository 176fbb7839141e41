"""Attention that SGLang can capture: decoding without a value that the host would have to know.

SGLang's own ``torch_native`` goes sequence by sequence, by lengths that it reads on the host, and so SGLang captures no
graph with it. Here decoding looks at all places that a sequence can have, and masks those that it does not reach.
"""
# mypy: disable-error-code="import-not-found, import-untyped, misc"

from __future__ import annotations

from typing import Any

import torch

NAME = "sim"


def register() -> None:
    """Let SGLang find the backend by its name; once more does no harm.

    Does nothing where SGLang's layers cannot be imported: whatever asks for an attention backend there cannot use one.
    """
    try:
        from sglang.srt.layers.attention.attention_registry import register_attention_backend
    except Exception:  # also of a package that it imports and that is not the one it wants
        return
    register_attention_backend(NAME)(make)


def make(model_runner: Any) -> Any:
    """The backend of a model runner. SGLang's layers are loaded only now: they load much of the server."""
    from sglang.srt.layers.attention.torch_native_backend import TorchNativeAttnBackend

    _absorb()

    class SimAttentionBackend(TorchNativeAttnBackend):
        """Prefill is SGLang's, decoding our own. It needs no metadata: the batch itself says all."""

        def __init__(self, model_runner: Any) -> None:
            super().__init__(model_runner)
            self._pool = model_runner.token_to_kv_pool
            self._table = model_runner.req_to_token_pool.req_to_token

        def init_forward_metadata(self, forward_batch: Any) -> None:
            if not forward_batch.forward_mode.is_decode():
                super().init_forward_metadata(forward_batch)

        def init_cuda_graph_state(self, max_bs: int, max_num_tokens: int) -> None:
            """Nothing: graphs read the batch's own tensors."""

        def get_cuda_graph_seq_len_fill_value(self) -> int:
            """Of requests that only fill up a batch: one token, as nothing can be attended to with none."""
            return 1

        # What SGLang calls before a capture and a replay: these two up to 0.5.12, the others since.

        def init_forward_metadata_capture_cuda_graph(self, *args: Any, **kwargs: Any) -> None:
            """Nothing."""

        def init_forward_metadata_replay_cuda_graph(self, *args: Any, **kwargs: Any) -> None:
            """Nothing."""

        def init_forward_metadata_out_graph(self, forward_batch: Any, in_capture: bool = False) -> None:
            """Nothing."""

        def init_forward_metadata_in_graph(self, forward_batch: Any) -> None:
            """Nothing."""

        def forward_decode(
            self,
            q: torch.Tensor,
            k: torch.Tensor,
            v: torch.Tensor,
            layer: Any,
            forward_batch: Any,
            save_kv_cache: bool = True,
            **kwargs: Any,
        ) -> torch.Tensor:
            """Attention of each sequence's new token to all of its tokens."""
            if save_kv_cache:
                self._pool.set_kv_buffer(layer, forward_batch.out_cache_loc, k, v)
            rows = self._table[forward_batch.req_pool_indices]
            keys = self._pool.get_key_buffer(layer.layer_id)
            values = self._pool.get_value_buffer(layer.layer_id)
            return decode(q, keys, values, rows, forward_batch.seq_lens, layer)

    return SimAttentionBackend(model_runner)


def _absorb() -> None:
    """Have SGLang hand us latent attention as it stands in the pool, in prefill too: it asks by the backend's name.

    Without an answer it takes a prefill apart into keys and values of each head, which are in no pool.
    """
    try:
        from sglang.srt.models.deepseek_common.attention_backend_handler import AttentionBackendRegistry
        from sglang.srt.models.deepseek_common.attention_forward_methods.forward_methods import AttnForwardMethod
    except ImportError:  # a host whose models do not ask
        return
    AttentionBackendRegistry.register(NAME, lambda attention, forward_batch: AttnForwardMethod.MLA)


def decode(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: torch.Tensor, lengths: torch.Tensor, layer: Any
) -> torch.Tensor:
    """Attention of one new token a sequence. ``rows``: where in ``keys`` and ``values`` each sequence's tokens are.

    What a row holds beyond its sequence is nobody's: the sequence's first place stands for it, and it is masked.
    """
    count, shared = q.shape[0], layer.tp_k_head_num
    reached = torch.arange(rows.shape[1], device=rows.device) < lengths.unsqueeze(1)
    places = torch.where(reached, rows, rows[:, :1]).to(torch.int64)
    queries = q.reshape(count, shared, -1, layer.qk_head_dim).float()
    scores = torch.einsum("sghd,slgd->sghl", queries, keys[places].float()) * layer.scaling
    weights = torch.softmax(scores.masked_fill(~reached[:, None, None], float("-inf")), dim=-1)
    attended = torch.einsum("sghl,slgv->sghv", weights, values[places].float())
    return attended.reshape(count, layer.tp_q_head_num * layer.v_head_dim).to(q.dtype)
