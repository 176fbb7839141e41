"""``sglang.srt.layers.radix_attention``: the attention of one layer, which the pass's backend computes.

Facts: SGLang 0.5.11 to 0.5.23, srt/layers/radix_attention.py.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import torch

from .._contract import since
from .._released import Lifetime, Parameters, released
from ..model_executor.forward_batch_info import ForwardBatch
from .utils._operator import PartialModule

__all__ = ["AttentionType", "RadixAttention"]


class AttentionType(Enum):
    """What a token attends to."""

    DECODER = "decoder"
    DECODER_BIDIRECTIONAL = "decoder_bidirectional"
    ENCODER_ONLY = "encoder_only"


class RadixAttention(PartialModule):
    """Attention of a layer, with the heads that this rank has; ``scaling`` multiplies the scores."""

    @released(Parameters({"use_prefill_attention_wrapper": Lifetime("0.5.21")}))
    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        scaling: float,
        num_kv_heads: int,
        layer_id: int,
        logit_cap: float = 0.0,
        v_head_dim: int = -1,
        sliding_window_size: int = -1,
        is_cross_attention: bool = False,
        pos_encoding_mode: str = "NONE",
        logit_capping_method: str = "tanh",
        quant_config: Any = None,
        attn_type: AttentionType = AttentionType.DECODER,
        use_irope: bool = False,
        prefix: str = "",
        use_prefill_attention_wrapper: bool = True,
    ) -> None:
        super().__init__()
        self.tp_q_head_num = num_heads
        self.tp_k_head_num = num_kv_heads
        self.tp_v_head_num = num_kv_heads
        self.head_dim = head_dim
        self.qk_head_dim = head_dim
        self.v_head_dim = head_dim if v_head_dim == -1 else v_head_dim
        self.scaling = scaling
        self.layer_id = layer_id
        self.logit_cap = logit_cap
        self.logit_capping_method = logit_capping_method
        self.sliding_window_size = sliding_window_size or -1
        self.is_cross_attention = is_cross_attention
        self.pos_encoding_mode = pos_encoding_mode
        self.attn_type = attn_type
        self.use_irope = use_irope
        self.k_scale = self.v_scale = None
        self.k_scale_float = self.v_scale_float = None
        self.xai_temperature_len = -1
        self.quant_method = None if quant_config is None else quant_config.get_quant_method(self, prefix=prefix)
        if self.quant_method is not None:
            self.quant_method.create_weights(self)

    @released(Parameters({"key_value_num_tokens": Lifetime("0.5.17")}))
    def forward(
        self,
        q: torch.Tensor,
        k: torch.Tensor | None,
        v: torch.Tensor | None,
        forward_batch: ForwardBatch,
        save_kv_cache: bool = True,
        key_value_num_tokens: int | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """The heads' values for each token, one after another; keys and values are kept unless told otherwise.

        The backend is that of the pass: the batch's before 0.5.13, the forward context's from then on.
        """
        if k is not None:
            assert v is not None, "keys without values"
            k = k.view(-1, self.tp_k_head_num, self.v_head_dim if "k_rope" in kwargs else self.qk_head_dim)
            if "k_rope" not in kwargs:
                v = v.view(-1, self.tp_v_head_num, self.v_head_dim)
        attended: torch.Tensor = _backend(forward_batch).forward(q, k, v, self, forward_batch, save_kv_cache, **kwargs)
        return attended


def _backend(forward_batch: ForwardBatch) -> Any:
    if since("0.5.13"):
        from ..model_executor.forward_context import get_attn_backend

        return get_attn_backend()
    return forward_batch.attn_backend
