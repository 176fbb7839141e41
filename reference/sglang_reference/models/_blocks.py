"""What layers of several models are made of: a gated MLP, and grouped-query attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..layers._partition import tensor_parallel
from ..layers.activation import SiluAndMul
from ..layers.linear import MergedColumnParallelLinear, QKVParallelLinear, RowParallelLinear
from ..layers.radix_attention import RadixAttention
from ..layers.utils._operator import PartialModule
from ..model_executor.forward_batch_info import ForwardBatch
from ..utils._layers import add_prefix
from ._parallel import heads_of


class Gated(PartialModule):
    """Two projections at once, one gating the other, and a third back."""

    def _make(
        self, hidden: int, intermediate: int, act: str, quant_config: Any, prefix: str, *, reduce_results: bool
    ) -> None:
        """Raises ValueError for an activation that is not SiLU."""
        if act != "silu":
            raise ValueError(f"the activation {act!r} is not served by {type(self).__name__}; its own is silu")
        self.gate_up_proj = MergedColumnParallelLinear(
            hidden,
            [intermediate] * 2,
            bias=False,
            quant_config=quant_config,
            prefix=add_prefix("gate_up_proj", prefix),
        )
        self.down_proj = RowParallelLinear(
            intermediate,
            hidden,
            bias=False,
            quant_config=quant_config,
            prefix=add_prefix("down_proj", prefix),
            reduce_results=reduce_results,
        )
        self.act_fn = SiluAndMul()

    def _fed(self, x: torch.Tensor) -> torch.Tensor:
        gate_up, _ = self.gate_up_proj(x)
        out, _ = self.down_proj(self.act_fn(gate_up))
        fed: torch.Tensor = out
        return fed


class Grouped(PartialModule):
    """Attention with rotated queries and keys, of which several of the first share one of the second."""

    def _make(
        self,
        hidden: int,
        head: int,
        heads: int,
        kv_heads: int,
        layer: int,
        rotary: nn.Module,
        quant_config: Any,
        prefix: str,
        *,
        bias: bool = False,
        reduce_results: bool = True,
    ) -> None:
        self.hidden_size, self.head_dim = hidden, head
        self.total_num_heads, self.total_num_kv_heads = heads, kv_heads
        self.num_heads, self.num_kv_heads = heads_of(heads, kv_heads, tensor_parallel().size)
        self.q_size, self.kv_size = self.num_heads * head, self.num_kv_heads * head
        self.scaling = head**-0.5
        self.qkv_proj = QKVParallelLinear(
            hidden,
            head,
            heads,
            kv_heads,
            bias=bias,
            quant_config=quant_config,
            prefix=add_prefix("qkv_proj", prefix),
        )
        self.o_proj = RowParallelLinear(
            heads * head,
            hidden,
            bias=bias,
            quant_config=quant_config,
            reduce_results=reduce_results,
            prefix=add_prefix("o_proj", prefix),
        )
        self.rotary_emb = rotary
        self.attn = RadixAttention(
            self.num_heads,
            head,
            self.scaling,
            num_kv_heads=self.num_kv_heads,
            layer_id=layer,
            quant_config=quant_config,
            prefix=add_prefix("attn", prefix),
        )

    def forward(
        self, positions: torch.Tensor, hidden_states: torch.Tensor, forward_batch: ForwardBatch
    ) -> torch.Tensor:
        """The attention of each token."""
        qkv, _ = self.qkv_proj(hidden_states)
        q, k, v = qkv.split([self.q_size, self.kv_size, self.kv_size], dim=-1)
        q, k = self.rotary_emb(positions, q, k)
        out, _ = self.o_proj(self.attn(q, k, v, forward_batch))
        attended: torch.Tensor = out
        return attended
