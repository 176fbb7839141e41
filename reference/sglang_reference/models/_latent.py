"""Multi-head latent attention, over the latents themselves.

Facts: SGLang 0.5.11 to 0.5.23, srt/models/deepseek_v2.py and
srt/models/deepseek_common/attention_forward_methods/forward_mla.py.
"""

from __future__ import annotations

from typing import Any

import torch

from sglang_reference._errors import not_covered

from .._released import Lifetime, Parameters, Renamed, released
from ..layers._partition import tensor_parallel
from ..layers.layernorm import RMSNorm
from ..layers.linear import ColumnParallelLinear, ReplicatedLinear, RowParallelLinear
from ..layers.radix_attention import RadixAttention
from ..layers.rotary_embedding import get_rope
from ..layers.utils._operator import PartialModule
from ..model_executor.forward_batch_info import ForwardBatch
from ..utils._layers import add_prefix
from ._parallel import heads_of, refuse

PREFILL_CONTEXT = dict.fromkeys(("dsa_enable_prefill_cp", "mla_enable_prefill_cp"), Lifetime("0.5.13", gone="0.5.20"))


class DeepseekV2AttentionMLA(PartialModule):
    """Attention over latents: ``w_kc`` takes queries to them, ``w_vc`` results from them to each head's values."""

    w_kc: torch.Tensor | None
    w_vc: torch.Tensor | None

    @released(Parameters(PREFILL_CONTEXT))
    def __init__(
        self,
        config: Any,
        hidden_size: int,
        num_heads: int,
        qk_nope_head_dim: int,
        qk_rope_head_dim: int,
        v_head_dim: int,
        q_lora_rank: int | None,
        kv_lora_rank: int,
        rope_theta: float = 10000,
        rope_scaling: dict[str, Any] | None = None,
        max_position_embeddings: int = 8192,
        quant_config: Any = None,
        reduce_results: bool = True,
        layer_id: int | None = None,
        prefix: str = "",
        alt_stream: Any = None,
        skip_rope: bool = False,
        is_nextn: bool = False,
        dsa_enable_prefill_cp: bool = False,
        mla_enable_prefill_cp: bool = False,
    ) -> None:
        super().__init__()
        refuse("DeepseekV2AttentionMLA", rope_scaling=rope_scaling, skip_rope=skip_rope, is_nextn=is_nextn)
        refuse("DeepseekV2AttentionMLA", q_lora_rank=q_lora_rank)
        self.layer_id, self.hidden_size, self.num_heads = layer_id, hidden_size, num_heads
        self.qk_nope_head_dim, self.qk_rope_head_dim = qk_nope_head_dim, qk_rope_head_dim
        self.qk_head_dim, self.v_head_dim = qk_nope_head_dim + qk_rope_head_dim, v_head_dim
        self.q_lora_rank, self.kv_lora_rank = q_lora_rank, kv_lora_rank
        self.num_local_heads, _ = heads_of(num_heads, num_heads, tensor_parallel().size)
        self.scaling = self.qk_head_dim**-0.5
        self.q_proj = ColumnParallelLinear(
            hidden_size,
            num_heads * self.qk_head_dim,
            bias=False,
            quant_config=quant_config,
            prefix=add_prefix("q_proj", prefix),
        )
        self.kv_a_proj_with_mqa = ReplicatedLinear(
            hidden_size,
            kv_lora_rank + qk_rope_head_dim,
            bias=False,
            quant_config=quant_config,
            prefix=add_prefix("kv_a_proj_with_mqa", prefix),
        )
        self.kv_b_proj = ColumnParallelLinear(
            kv_lora_rank,
            num_heads * (qk_nope_head_dim + v_head_dim),
            bias=False,
            quant_config=quant_config,
            prefix=add_prefix("kv_b_proj", prefix),
        )
        self.o_proj = RowParallelLinear(
            num_heads * v_head_dim,
            hidden_size,
            bias=False,
            quant_config=quant_config,
            reduce_results=reduce_results,
            prefix=add_prefix("o_proj", prefix),
        )
        self.kv_a_layernorm = RMSNorm(kv_lora_rank, eps=config.rms_norm_eps)
        self.rotary_emb = get_rope(
            qk_rope_head_dim,
            rotary_dim=qk_rope_head_dim,
            max_position=max_position_embeddings,
            base=rope_theta,  # type: ignore[arg-type]  # an int in SGLang, in name
            rope_scaling=rope_scaling,
            is_neox_style=not getattr(config, "rope_interleave", True),
        )
        self.attn_mqa = RadixAttention(
            self.num_local_heads,
            kv_lora_rank + qk_rope_head_dim,
            self.scaling,
            num_kv_heads=1,
            layer_id=layer_id or 0,
            v_head_dim=kv_lora_rank,
            quant_config=quant_config,
            prefix=add_prefix("attn_mqa", prefix),
        )
        self.w_kc = self.w_vc = None

    @released(
        Parameters(
            {
                "layer_scatter_modes": Lifetime(gone="0.5.21"),
                "input_on_attn_tp_slices": Lifetime("0.5.21"),
            },
            renamed={"input_on_attn_tp_slices": Renamed("input_on_attention_tp_slices", "0.5.22")},
        )
    )
    def forward(
        self,
        positions: torch.Tensor,
        hidden_states: torch.Tensor,
        forward_batch: ForwardBatch,
        zero_allocator: Any,
        layer_scatter_modes: Any = None,
        input_on_attn_tp_slices: bool = False,
        llama_4_scaling: torch.Tensor | None = None,
        prev_topk_indices: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The attention of each token."""
        refuse("DeepseekV2AttentionMLA.forward", input_on_attn_tp_slices=input_on_attn_tp_slices)
        if llama_4_scaling is not None or prev_topk_indices is not None:
            raise not_covered("DeepseekV2AttentionMLA.forward with llama_4_scaling or prev_topk_indices")
        if self.w_kc is None or self.w_vc is None:
            raise RuntimeError("the weights of kv_b_proj have not been taken over; post_load_weights does that")
        queries, _ = self.q_proj(hidden_states)
        latent, _ = self.kv_a_proj_with_mqa(hidden_states)
        q_nope, q_pe = queries.view(-1, self.num_local_heads, self.qk_head_dim).split(
            [self.qk_nope_head_dim, self.qk_rope_head_dim], dim=-1
        )
        kept, k_pe = latent.split([self.kv_lora_rank, self.qk_rope_head_dim], dim=-1)
        kept = self.kv_a_layernorm(kept.contiguous()).unsqueeze(1)
        q_pe, k_pe = self.rotary_emb(positions, q_pe, k_pe.unsqueeze(1))
        q_latent = torch.bmm(q_nope.transpose(0, 1), self.w_kc).transpose(0, 1)
        seen = self.attn_mqa(torch.cat([q_latent, q_pe], dim=-1), torch.cat([kept, k_pe], dim=-1), kept, forward_batch)
        seen = seen.view(-1, self.num_local_heads, self.kv_lora_rank).transpose(0, 1)
        values = torch.bmm(seen, self.w_vc).transpose(0, 1)
        out, _ = self.o_proj(values.reshape(-1, self.num_local_heads * self.v_head_dim))
        attended: torch.Tensor = out
        return attended

    def _take_over(self) -> None:
        """Make ``w_kc`` and ``w_vc`` of kv_b_proj's weight, in place where they are there already."""
        both = self.kv_b_proj.weight.detach().view(self.num_local_heads, -1, self.kv_lora_rank)
        to_latent, from_latent = both.split([self.qk_nope_head_dim, self.v_head_dim], dim=1)
        made = to_latent.contiguous(), from_latent.transpose(1, 2).contiguous()
        if self.w_kc is None or self.w_vc is None:
            self.w_kc, self.w_vc = made
        else:
            self.w_kc.copy_(made[0])
            self.w_vc.copy_(made[1])


DeepseekV2AttentionMLA.__module__ = "sglang.srt.models.deepseek_v2"  # as hooks and tracebacks name it
