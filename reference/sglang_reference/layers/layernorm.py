"""``sglang.srt.layers.layernorm``: normalisation by the root mean square (SGLang 0.5.11, 0.5.18 and 0.5.23).

It is taken in float32, also of narrower inputs.
"""

from __future__ import annotations

import torch
from torch import nn

from sglang_reference._errors import not_covered

from .._released import Lifetime, Parameters, released
from .utils._operator import NativeOperator

_INIT = Parameters({"x_pad_to_multiple": Lifetime("0.5.13"), "force_native": Lifetime("0.5.19")})
_FORWARD = Parameters({"quant_linear": Lifetime("0.5.18")})


class RMSNorm(NativeOperator):
    """Scale by the inverse root mean square and a weight; with a residual, of the sum, which comes back too."""

    @released(_INIT)
    def __init__(
        self,
        hidden_size: int,
        eps: float = 1e-6,
        var_hidden_size: int | None = None,
        cast_x_before_out_mul: bool = False,
        fp32_residual: bool = False,
        has_weight: bool = True,
        weight_dtype: torch.dtype | None = None,
        override_orig_dtype: torch.dtype | None = None,
        x_pad_to_multiple: int = 0,
        force_native: bool = False,
    ) -> None:
        super().__init__()
        if var_hidden_size not in (None, hidden_size):
            raise not_covered("sglang.srt.layers.layernorm.RMSNorm with var_hidden_size")
        self.hidden_size = hidden_size
        self.variance_epsilon = eps
        self.variance_size_override = None
        self.has_weight = has_weight
        self.cast_x_before_out_mul = cast_x_before_out_mul
        self.fp32_residual = fp32_residual
        self.override_orig_dtype = override_orig_dtype
        ones = torch.ones(hidden_size, dtype=weight_dtype)
        self.weight = nn.Parameter(ones) if has_weight else ones
        if force_native:
            self._forward_method = self.forward_native

    @released(_FORWARD)
    def forward_native(
        self,
        x: torch.Tensor,
        residual: torch.Tensor | None = None,
        post_residual_addition: torch.Tensor | None = None,
        quant_linear: nn.Module | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """``x`` normalised; with a residual, the sum normalised and the sum.

        ``post_residual_addition`` is added to the sum first. Raises ValueError for another width than the weight's.
        """
        if quant_linear is not None:
            raise not_covered("sglang.srt.layers.layernorm.RMSNorm with quant_linear")
        if x.shape[-1] != self.hidden_size:
            raise ValueError(f"RMSNorm is {self.hidden_size} wide, its input {x.shape[-1]}")
        dtype = self.override_orig_dtype or x.dtype
        wide = x.float()
        if residual is not None:
            wide = wide + residual.float()
            if post_residual_addition is not None:
                wide = wide + post_residual_addition.float()
            # The sum is kept for the next layer, which must not see what is done to this one.
            residual = wide.clone() if self.fp32_residual else wide.to(dtype)
        scaled = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + self.variance_epsilon)
        result = self.weight * scaled.to(dtype) if self.cast_x_before_out_mul else (scaled * self.weight).to(dtype)
        return result if residual is None else (result, residual)
