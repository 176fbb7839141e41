"""``sglang.srt.models.llama``: grouped-query attention and a gated MLP.

Facts: SGLang 0.5.11 to 0.5.23, srt/models/llama.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .._contract import since
from .._released import Lifetime, Parameters, released
from ..layers.rotary_embedding import get_rope
from ..model_executor.forward_batch_info import ForwardBatch, PPProxyTensors
from ..utils._layers import add_prefix
from ._blocks import Gated, Grouped
from ._decoder import CausalLM, Layer, Stage, Sum
from ._parallel import refuse
from ._rope import rope_of
from ._weights import GATE_UP, QKV, Weights

__all__ = ["LlamaAttention", "LlamaDecoderLayer", "LlamaForCausalLM", "LlamaMLP", "LlamaModel"]


class LlamaMLP(Gated):
    """Two projections at once, one gating the other, and a third back."""

    @released(
        Parameters(
            {
                "tp_rank": Lifetime(gone="0.5.22"),
                "tp_size": Lifetime(gone="0.5.22"),
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
        prefix: str = "",
        reduce_results: bool = True,
        tp_rank: int | None = None,
        tp_size: int | None = None,
        parallel_group: Any = "tp",
        use_dp_attention_reduce: bool = False,
    ) -> None:
        """Raises ValueError for an activation that is not SiLU."""
        super().__init__()
        refuse("LlamaMLP", tp_size=tp_size, use_dp_attention_reduce=use_dp_attention_reduce)
        self._make(hidden_size, intermediate_size, hidden_act, quant_config, prefix, reduce_results=reduce_results)

    @released(Parameters({"use_reduce_scatter": Lifetime(gone="0.5.16")}))
    def forward(self, x: torch.Tensor, forward_batch: Any = None, use_reduce_scatter: bool = False) -> torch.Tensor:
        """The MLP of each token."""
        return self._fed(x)


class LlamaAttention(Grouped):
    """Attention with rotated queries and keys."""

    @released(Parameters({"start_layer": Lifetime("0.5.13"), "reduce_results": Lifetime("0.5.22")}))
    def __init__(
        self,
        config: Any,
        hidden_size: int,
        num_heads: int,
        num_kv_heads: int,
        layer_id: int = 0,
        start_layer: int = 0,
        rope_theta: float = 10000,
        rope_scaling: dict[str, Any] | None = None,
        rope_is_neox_style: bool = True,
        max_position_embeddings: int = 8192,
        quant_config: Any = None,
        prefix: str = "",
        bias: bool = False,
        reduce_results: bool = True,
    ) -> None:
        super().__init__()
        head = getattr(config, "head_dim", None) or hidden_size // num_heads
        rotary = get_rope(
            head,
            rotary_dim=int(getattr(config, "partial_rotary_factor", 1) * head),
            max_position=max_position_embeddings,
            base=rope_theta,  # type: ignore[arg-type]  # an int in SGLang, in name
            rope_scaling=rope_scaling,
            is_neox_style=rope_is_neox_style,
        )
        sizes = (hidden_size, head, num_heads, num_kv_heads)
        self._make(*sizes, layer_id, rotary, quant_config, prefix, bias=bias, reduce_results=reduce_results)


class LlamaDecoderLayer(Layer):
    """A layer."""

    through_batch = since("0.5.22")

    @released(Parameters({"start_layer": Lifetime("0.5.13"), "stage_boundaries": Lifetime("0.5.22")}))
    def __init__(
        self,
        config: Any,
        layer_id: int = 0,
        start_layer: int = 0,
        quant_config: Any = None,
        prefix: str = "",
        stage_boundaries: bool = True,
    ) -> None:
        super().__init__()
        theta, scaling = rope_of(config)
        self.hidden_size = config.hidden_size
        self.self_attn = LlamaAttention(
            config=config,
            hidden_size=config.hidden_size,
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads,
            layer_id=layer_id,
            rope_theta=theta,
            rope_scaling=scaling,
            max_position_embeddings=config.max_position_embeddings,
            quant_config=quant_config,
            prefix=add_prefix("self_attn", prefix),
            bias=getattr(config, "attention_bias", False),
        )
        self.mlp = LlamaMLP(
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            hidden_act=config.hidden_act,
            quant_config=quant_config,
            prefix=add_prefix("mlp", prefix),
        )
        self._add_norms(config)

    @released(Parameters({"residual": Lifetime(gone="0.5.22"), "capture_output": Lifetime("0.5.22")}))
    def forward(
        self,
        positions: torch.Tensor,
        hidden_states: torch.Tensor,
        forward_batch: ForwardBatch,
        residual: Sum,
        capture_output: Any = None,
    ) -> Any:
        """Hidden states after the layer, and before 0.5.22 the running sum that they are yet to be added to."""
        refuse("LlamaDecoderLayer.forward", capture_output=capture_output)
        hidden, residual = self._step(positions, hidden_states, forward_batch, residual)
        return hidden if self.through_batch else (hidden, residual)

    def _feed(self, hidden: torch.Tensor, batch: ForwardBatch) -> torch.Tensor:
        fed: torch.Tensor = self.mlp(hidden, forward_batch=batch)
        return fed


class LlamaModel(Stage):
    """The rank's part of the decoder."""

    def _layer(self, config: Any, index: int, quant_config: Any, prefix: str) -> LlamaDecoderLayer:
        return LlamaDecoderLayer(config=config, layer_id=index, quant_config=quant_config, prefix=prefix)


class LlamaForCausalLM(CausalLM):
    """The decoder and its head, tied to the embedding or not."""

    parts = QKV + GATE_UP

    def _init_model(self, config: Any, quant_config: Any = None, prefix: str = "") -> LlamaModel:
        return LlamaModel(config, quant_config=quant_config, prefix=prefix)

    def _stage(self, config: Any, quant_config: Any, prefix: str) -> Stage:
        return self._init_model(config, quant_config, prefix)

    @torch.no_grad()
    def forward(  # type: ignore[override]  # SGLang's takes more than the others
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,
        forward_batch: ForwardBatch,
        input_embeds: torch.Tensor | None = None,
        get_embedding: bool = False,
        pp_proxy_tensors: PPProxyTensors | None = None,
    ) -> Any:
        """Logits, in a LogitsProcessorOutput; before the last stage, what the next one goes on from."""
        refuse("LlamaForCausalLM.forward", get_embedding=get_embedding)
        return super().forward(input_ids, positions, forward_batch, input_embeds, pp_proxy_tensors)

    def load_weights(self, weights: Weights) -> None:
        """Put weights under Hugging Face's names in place, on this rank its part of them."""
        self._load(weights)

    def get_input_embeddings(self) -> nn.Module:
        """The embedding of tokens."""
        return self.model.embed_tokens


EntryClass = [LlamaForCausalLM]
