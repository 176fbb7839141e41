"""``sglang.srt.models.mixtral``: grouped-query attention, and a few of several experts for each token.

Facts: SGLang 0.5.11 to 0.5.23, srt/models/mixtral.py.
"""

from __future__ import annotations

from typing import Any

import torch

from .._contract import since
from .._released import Lifetime, Parameters, released
from ..distributed.communication_op import tensor_model_parallel_all_reduce
from ..layers._partition import tensor_parallel
from ..layers.linear import ReplicatedLinear
from ..layers.moe.fused_moe_triton.layer import FusedMoE
from ..layers.moe.topk import TopK
from ..layers.rotary_embedding import get_rope
from ..layers.utils._operator import PartialModule
from ..model_executor.forward_batch_info import ForwardBatch
from ..utils._layers import add_prefix
from ._blocks import Grouped
from ._decoder import CausalLM, Layer, Stage, Sum
from ._parallel import refuse
from ._rope import rope_of
from ._weights import QKV, Expert, Weights

__all__ = ["MixtralAttention", "MixtralDecoderLayer", "MixtralForCausalLM", "MixtralMoE", "MixtralModel"]


class MixtralMoE(PartialModule):
    """A gate, the choice of experts, and the experts: this rank's part of them, summed over tensor parallelism."""

    @released(Parameters({"tp_size": Lifetime(gone="0.5.22")}))
    def __init__(
        self,
        num_experts: int,
        top_k: int,
        hidden_size: int,
        intermediate_size: int,
        layer_id: int,
        params_dtype: torch.dtype | None = None,
        quant_config: Any = None,
        tp_size: int | None = None,
        prefix: str = "",
    ) -> None:
        super().__init__()
        refuse("MixtralMoE", tp_size=tp_size)
        self.tp_size = tensor_parallel().size
        self.hidden_size = hidden_size
        self.gate = ReplicatedLinear(
            hidden_size,
            num_experts,
            bias=False,
            params_dtype=params_dtype,
            quant_config=None,
            prefix=add_prefix("gate", prefix),
        )
        told: dict[str, Any] = {"layer_id": layer_id} if since("0.5.22") else {}
        self.topk = TopK(top_k=top_k, renormalize=True, **told)
        self.experts = FusedMoE(
            num_experts=num_experts,
            top_k=top_k,
            layer_id=layer_id,
            hidden_size=hidden_size,
            intermediate_size=intermediate_size,
            params_dtype=params_dtype,
            quant_config=quant_config,
            prefix=add_prefix("experts", prefix),
        )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """The chosen experts' weighted sum for each token."""
        flat = hidden_states.view(-1, self.hidden_size)
        logits, _ = self.gate(flat)
        out = self.experts(flat, self.topk(flat, logits))
        if self.tp_size > 1:
            out = tensor_model_parallel_all_reduce(out)
        summed: torch.Tensor = out.view(hidden_states.shape)
        return summed


class MixtralAttention(Grouped):
    """Attention with rotated queries and keys."""

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        num_kv_heads: int,
        layer_id: int = 0,
        max_position: int = 4096 * 32,
        rope_theta: float = 10000,
        quant_config: Any = None,
        prefix: str = "",
    ) -> None:
        super().__init__()
        head = hidden_size // num_heads
        rotary = get_rope(head, rotary_dim=head, max_position=max_position, base=int(rope_theta), is_neox_style=True)
        self._make(hidden_size, head, num_heads, num_kv_heads, layer_id, rotary, quant_config, prefix)


class MixtralDecoderLayer(Layer):
    """A layer."""

    through_batch = since("0.5.22")

    def __init__(self, config: Any, layer_id: int = 0, quant_config: Any = None, prefix: str = "") -> None:
        super().__init__()
        theta, _ = rope_of(config)
        self.hidden_size = config.hidden_size
        self.self_attn = MixtralAttention(
            hidden_size=config.hidden_size,
            num_heads=config.num_attention_heads,
            max_position=config.max_position_embeddings,
            num_kv_heads=config.num_key_value_heads,
            layer_id=layer_id,
            rope_theta=theta,
            quant_config=quant_config,
            prefix=add_prefix("self_attn", prefix),
        )
        self.block_sparse_moe = MixtralMoE(
            num_experts=config.num_local_experts,
            top_k=config.num_experts_per_tok,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            layer_id=layer_id,
            quant_config=quant_config,
            prefix=add_prefix("block_sparse_moe", prefix),
        )
        self._add_norms(config)

    @released(Parameters({"residual": Lifetime(gone="0.5.22")}))
    def forward(
        self, positions: torch.Tensor, hidden_states: torch.Tensor, forward_batch: ForwardBatch, residual: Sum
    ) -> Any:
        """Hidden states after the layer, and before 0.5.22 the running sum that they are yet to be added to."""
        hidden, residual = self._step(positions, hidden_states, forward_batch, residual)
        return hidden if self.through_batch else (hidden, residual)

    def _feed(self, hidden: torch.Tensor, batch: ForwardBatch) -> torch.Tensor:
        fed: torch.Tensor = self.block_sparse_moe(hidden)
        return fed


class MixtralModel(Stage):
    """The rank's part of the decoder."""

    def _layer(self, config: Any, index: int, quant_config: Any, prefix: str) -> MixtralDecoderLayer:
        return MixtralDecoderLayer(config=config, layer_id=index, quant_config=quant_config, prefix=prefix)


class MixtralForCausalLM(CausalLM):
    """The decoder and its head."""

    parts = QKV

    def _stage(self, config: Any, quant_config: Any, prefix: str) -> Stage:
        return MixtralModel(config, quant_config=quant_config, prefix=prefix)

    def _experts(self) -> list[Expert]:
        return FusedMoE.make_expert_params_mapping(
            ckpt_gate_proj_name="w1",
            ckpt_down_proj_name="w2",
            ckpt_up_proj_name="w3",
            num_experts=self.config.num_local_experts,
        )

    def load_weights(self, weights: Weights) -> None:
        """Put weights under Hugging Face's names in place, on this rank its part of them."""
        self._load(weights)


EntryClass = MixtralForCausalLM
