"""``sglang.srt.layers.rotary_embedding.base``: rotary positions from a table of cosines and sines.

The table is of the given dtype, but on CUDA, ROCm and XPUs of float32. Facts: SGLang 0.5.11, 0.5.21 and 0.5.23.
"""

from __future__ import annotations

from typing import Any

import torch

from sglang_reference._errors import not_covered

from ..._released import Lifetime, Parameters, released
from ..utils._in_tree import in_tree_key
from ..utils._operator import NativeOperator
from .utils import apply_rotary_emb

_INIT = Parameters({"position_start": Lifetime("0.5.21")})


class RotaryEmbedding(NativeOperator):
    """Rotate queries and keys by their positions."""

    cos_sin_cache: torch.Tensor

    @released(_INIT)
    def __init__(
        self,
        head_size: int,
        rotary_dim: int,
        max_position_embeddings: int,
        base: int,
        is_neox_style: bool,
        dtype: torch.dtype,
        position_start: int = 0,
    ) -> None:
        super().__init__()
        self.head_size = head_size
        self.rotary_dim = rotary_dim
        self.max_position_embeddings = max_position_embeddings
        self.base = base
        self.is_neox_style = is_neox_style
        self.dtype = dtype
        self.position_start = position_start or 0
        cache = self._compute_cos_sin_cache()
        if in_tree_key() not in ("cuda", "hip", "xpu"):
            cache = cache.to(dtype)
        self.register_buffer("cos_sin_cache", cache, persistent=False)
        self.use_fallback_kernel = False
        self.position_cos: torch.Tensor | None = None
        self.position_sin: torch.Tensor | None = None

    def _compute_inv_freq(self, base: float) -> torch.Tensor:
        steps = torch.arange(0, self.rotary_dim, 2, dtype=torch.float)
        return 1.0 / (base ** (steps / self.rotary_dim))

    def _compute_cos_sin_cache(self) -> torch.Tensor:
        """Cosines and sines side by side, a row for each position."""
        positions = torch.arange(
            self.position_start, self.position_start + self.max_position_embeddings, dtype=torch.float
        )
        angles = torch.outer(positions, self._compute_inv_freq(self.base))
        return torch.cat((angles.cos(), angles.sin()), dim=-1)

    def get_cos_sin(self, seqlen: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The cosines and sines of the first positions."""
        cos, sin = self.cos_sin_cache[:seqlen].chunk(2, dim=-1)
        return cos, sin

    def forward_native(
        self,
        positions: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor,
        offsets: torch.Tensor | None = None,
        fused_set_kv_buffer_arg: Any = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries and keys rotated, as tensors of their own; both of any shape whose first dimension is the tokens'."""
        if fused_set_kv_buffer_arg is not None:
            raise not_covered("rotary embedding that writes the KV cache")
        positions = (positions if offsets is None else positions + offsets).flatten()
        cos, sin = self.cos_sin_cache.index_select(0, positions).chunk(2, dim=-1)
        # Both at once: an operation costs more than its arithmetic on heads as few as these.
        heads = [x.view(len(positions), -1, self.head_size) for x in (query, key)]
        whole = torch.cat(heads, dim=1)
        turned = apply_rotary_emb(whole[..., : self.rotary_dim], cos, sin, self.is_neox_style)
        if self.rotary_dim < self.head_size:
            turned = torch.cat((turned, whole[..., self.rotary_dim :]), dim=-1)
        queries, keys = torch.split(turned, [x.shape[1] for x in heads], dim=1)
        return queries.reshape(query.shape), keys.reshape(key.shape)

    def extra_repr(self) -> str:
        """What distinguishes it, for printing."""
        return (
            f"head_size={self.head_size}, rotary_dim={self.rotary_dim}, "
            f"max_position_embeddings={self.max_position_embeddings}, base={self.base}, "
            f"is_neox_style={self.is_neox_style}"
        )
