"""``sglang.srt.layers.activation``: the gated activations of feed-forward layers (SGLang 0.5.11 and 0.5.23)."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

from .utils._operator import NativeOperator


class SiluAndMul(NativeOperator):
    """SiLU of the first half of the last dimension, times the second half."""

    def forward_native(self, x: torch.Tensor) -> torch.Tensor:
        """The gated half, of ``x``'s dtype."""
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate) * up
