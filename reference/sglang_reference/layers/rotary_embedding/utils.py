"""``sglang.srt.layers.rotary_embedding.utils``: the rotation itself (SGLang 0.5.11 and 0.5.23)."""

from __future__ import annotations

import torch


def apply_rotary_emb(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, is_neox_style: bool) -> torch.Tensor:
    """Rotate pairs of the last dimension of ``x`` (tokens, heads, width) by angles (tokens, width / 2).

    A pair is an element of each half, in NeoX's style; otherwise two neighbours. All is done in ``x``'s dtype.
    """
    cos, sin = cos.unsqueeze(-2).to(x.dtype), sin.unsqueeze(-2).to(x.dtype)
    first, second = x.chunk(2, dim=-1) if is_neox_style else (x[..., ::2], x[..., 1::2])
    turned = (torch.addcmul(first * cos, second, sin, value=-1), torch.addcmul(second * cos, first, sin))
    return torch.cat(turned, dim=-1) if is_neox_style else torch.stack(turned, dim=-1).flatten(-2)
