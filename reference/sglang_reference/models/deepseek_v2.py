"""``sglang.srt.models.deepseek_v2``: multi-head latent attention, with a gated MLP in every layer.

What is kept of a token is one latent vector and one rotated key for all heads. The matrix that makes keys and values of
the latent is taken over into queries and results, so that attention is over the latents themselves, in prefill and
decode alike. Facts: SGLang 0.5.11 to 0.5.23, srt/models/deepseek_v2.py and
srt/models/deepseek_common/attention_forward_methods/forward_mla.py.
"""

from __future__ import annotations

from typing import Any

import torch

from .._contract import since
from .._released import Lifetime, Parameters, released
from ..model_executor.forward_batch_info import ForwardBatch
from ..utils._layers import add_prefix
from ._blocks import Gated
from ._decoder import CausalLM, Layer, Stage, Sum
from ._latent import PREFILL_CONTEXT, DeepseekV2AttentionMLA
from ._parallel import refuse
from ._rope import rope_of
from ._weights import GATE_UP, Weights

__all__ = [
    "DeepseekV2AttentionMLA",
    "DeepseekV2DecoderLayer",
    "DeepseekV2ForCausalLM",
    "DeepseekV2MLP",
    "DeepseekV2Model",
]


class DeepseekV2MLP(Gated):
    """Two projections at once, one gating the other, and a third back."""

    @released(
        Parameters(
            {
                "tp_rank": Lifetime(gone="0.5.22"),
                "tp_size": Lifetime(gone="0.5.22"),
                "swiglu_limit": Lifetime("0.5.12"),
                "allow_fused_down": Lifetime("0.5.22"),
                "parallel_group": Lifetime("0.5.22"),
            }
        )
    )
    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        hidden_act: str,
        quant_config: Any = None,
        reduce_results: bool = True,
        prefix: str = "",
        tp_rank: int | None = None,
        tp_size: int | None = None,
        swiglu_limit: float | None = None,
        allow_fused_down: bool | None = None,
        *,
        parallel_group: Any = "tp",
    ) -> None:
        """Raises ValueError for an activation that is not SiLU."""
        super().__init__()
        refuse("DeepseekV2MLP", tp_size=tp_size, swiglu_limit=swiglu_limit)
        self._make(hidden_size, intermediate_size, hidden_act, quant_config, prefix, reduce_results=reduce_results)

    @released(
        Parameters(
            {
                "should_allreduce_fusion": Lifetime(gone="0.5.16"),
                "use_reduce_scatter": Lifetime(gone="0.5.16"),
                "gateup_pre_quant": Lifetime("0.5.17"),
            }
        )
    )
    def forward(
        self,
        x: torch.Tensor,
        forward_batch: Any = None,
        should_allreduce_fusion: bool = False,
        use_reduce_scatter: bool = False,
        gemm_output_zero_allocator: Any = None,
        gateup_pre_quant: Any = None,
    ) -> torch.Tensor:
        """The MLP of each token."""
        return self._fed(x)


class DeepseekV2DecoderLayer(Layer):
    """A layer; one with experts is not served."""

    through_batch = since("0.5.21")

    @released(
        Parameters(
            {**PREFILL_CONTEXT, "skip_rope": Lifetime("0.5.20"), "build_stages": Lifetime("0.5.22")},
        )
    )
    def __init__(
        self,
        config: Any,
        layer_id: int,
        quant_config: Any = None,
        moe_quant_config_override: Any = None,
        is_nextn: bool = False,
        prefix: str = "",
        alt_stream: Any = None,
        dsa_enable_prefill_cp: bool = False,
        mla_enable_prefill_cp: bool = False,
        skip_rope: bool = False,
        build_stages: bool = True,
    ) -> None:
        super().__init__()
        refuse("DeepseekV2DecoderLayer", is_nextn=is_nextn, skip_rope=skip_rope)
        sparse = (
            config.n_routed_experts is not None
            and layer_id >= config.first_k_dense_replace
            and layer_id % config.moe_layer_freq == 0
        )
        refuse("DeepseekV2DecoderLayer", experts=sparse)
        theta, scaling = rope_of(config)
        self.hidden_size, self.layer_id = config.hidden_size, layer_id
        self.self_attn = DeepseekV2AttentionMLA(
            config=config,
            hidden_size=config.hidden_size,
            num_heads=config.num_attention_heads,
            qk_nope_head_dim=config.qk_nope_head_dim,
            qk_rope_head_dim=config.qk_rope_head_dim,
            v_head_dim=config.v_head_dim,
            q_lora_rank=config.q_lora_rank,
            kv_lora_rank=config.kv_lora_rank,
            rope_theta=theta,
            rope_scaling=scaling,
            max_position_embeddings=config.max_position_embeddings,
            quant_config=quant_config,
            layer_id=layer_id,
            prefix=add_prefix("self_attn", prefix),
        )
        self.mlp = DeepseekV2MLP(
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            hidden_act=config.hidden_act,
            quant_config=quant_config,
            prefix=add_prefix("mlp", prefix),
        )
        self._add_norms(config)

    @released(
        Parameters(
            {
                "residual": Lifetime(gone="0.5.21"),
                "captured_last_layer_outputs": Lifetime("0.5.14"),
                "next_full_attention_layer_id": Lifetime("0.5.16"),
            }
        )
    )
    def forward(
        self,
        positions: torch.Tensor,
        hidden_states: torch.Tensor,
        forward_batch: ForwardBatch,
        residual: Sum,
        zero_allocator: Any,
        gemm_output_zero_allocator: Any = None,
        llama_4_scaling: torch.Tensor | None = None,
        prev_topk_indices: torch.Tensor | None = None,
        captured_last_layer_outputs: Any = None,
        next_full_attention_layer_id: int | None = None,
    ) -> tuple[Any, ...]:
        """Hidden states after the layer, before 0.5.21 the running sum, and the choice of an indexer: none."""
        hidden, residual = self._step(positions, hidden_states, forward_batch, residual)
        return (hidden, None) if self.through_batch else (hidden, residual, None)

    def _attend(self, positions: torch.Tensor, hidden: torch.Tensor, batch: ForwardBatch) -> torch.Tensor:
        attended: torch.Tensor = self.self_attn(
            positions=positions, hidden_states=hidden, forward_batch=batch, zero_allocator=None
        )
        return attended

    def _feed(self, hidden: torch.Tensor, batch: ForwardBatch) -> torch.Tensor:
        fed: torch.Tensor = self.mlp(hidden, batch)
        return fed


class DeepseekV2Model(Stage):
    """The rank's part of the decoder."""

    def _layer(self, config: Any, index: int, quant_config: Any, prefix: str) -> DeepseekV2DecoderLayer:
        return DeepseekV2DecoderLayer(config=config, layer_id=index, quant_config=quant_config, prefix=prefix)

    def _call(self, layer: Layer, *given: Any) -> Any:
        out = layer(*given, None)
        return out[0] if layer.through_batch else out


class DeepseekV2ForCausalLM(CausalLM):
    """The decoder and its head."""

    parts = GATE_UP

    def _stage(self, config: Any, quant_config: Any, prefix: str) -> Stage:
        return DeepseekV2Model(config, quant_config=quant_config, prefix=prefix)

    def load_weights(self, weights: Weights, is_nextn: bool = False) -> None:
        """Put weights under Hugging Face's names in place, on this rank its part of them."""
        refuse("DeepseekV2ForCausalLM.load_weights", is_nextn=is_nextn)
        self._load(weights)
        self.post_load_weights(is_nextn=is_nextn)

    def post_load_weights(self, is_nextn: bool = False, weight_names: Any = None) -> None:
        """Make what attention over latents needs of the weights in place."""
        refuse("DeepseekV2ForCausalLM.post_load_weights", is_nextn=is_nextn)
        layers: Any = self.model.layers
        for layer in layers[self.start_layer : self.end_layer]:
            layer.self_attn._take_over()


EntryClass = [DeepseekV2ForCausalLM]
