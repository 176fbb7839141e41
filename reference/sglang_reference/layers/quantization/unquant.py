"""``sglang.srt.layers.quantization.unquant``: weights as the model has them (SGLang 0.5.11, 0.5.12 and 0.5.23)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from sglang_reference._errors import not_covered

from ..._released import Lifetime, Parameters, released
from .._weights import tell
from ..utils._operator import NativeOperator
from .base_config import FusedMoEMethodBase, LinearMethodBase, QuantizeMethodBase

_EXPERTS_INIT = Parameters({"use_deep_gemm": Lifetime("0.5.12")})


def _parameter(layer: nn.Module, name: str, shape: tuple[int, ...], dtype: torch.dtype, **attributes: Any) -> None:
    weight = nn.Parameter(torch.empty(shape, dtype=dtype), requires_grad=False)
    tell(weight, attributes)
    layer.register_parameter(name, weight)


class UnquantizedEmbeddingMethod(QuantizeMethodBase):
    """A table of rows, which are looked up, or multiplied with as a head."""

    def create_weights(
        self,
        layer: nn.Module,
        input_size_per_partition: int,
        output_partition_sizes: list[int],
        input_size: int,
        output_size: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs: Any,
    ) -> None:
        """Give the layer ``weight``: this rank's rows."""
        shape = (sum(output_partition_sizes), input_size_per_partition)
        _parameter(layer, "weight", shape, params_dtype, input_dim=1, output_dim=0, **extra_weight_attrs)

    def apply(self, layer: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """The product of the input with every row."""
        return F.linear(x, layer.weight, bias)

    def embedding(self, layer: Any, input_: torch.Tensor) -> torch.Tensor:
        """The rows of the given numbers."""
        return F.embedding(input_, layer.weight)


class UnquantizedLinearMethod(LinearMethodBase):
    """One weight, multiplied with."""

    def create_weights(
        self,
        layer: nn.Module,
        input_size_per_partition: int,
        output_partition_sizes: list[int],
        input_size: int,
        output_size: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs: Any,
    ) -> None:
        """Give the layer ``weight``: this rank's outputs by its inputs."""
        shape = (sum(output_partition_sizes), input_size_per_partition)
        _parameter(layer, "weight", shape, params_dtype, input_dim=1, output_dim=0, **extra_weight_attrs)

    def process_weights_after_loading(self, layer: nn.Module) -> None:
        """The weight stays as it was loaded."""
        return

    def apply(self, layer: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """The product with the weight, plus a bias."""
        return F.linear(x, layer.weight, bias)


class UnquantizedFusedMoEMethod(FusedMoEMethodBase, NativeOperator):
    """Experts' weights as two tensors: gate and up side by side, and down. An operator: a platform may run its own."""

    @released(_EXPERTS_INIT)
    def __init__(
        self, use_triton_kernels: bool = False, use_flashinfer_trtllm_moe: bool = False, use_deep_gemm: bool = False
    ) -> None:
        super().__init__()
        if use_triton_kernels or use_flashinfer_trtllm_moe or use_deep_gemm:
            raise not_covered("experts on Triton's, FlashInfer's or DeepGEMM's kernels")
        self.use_triton_kernels = use_triton_kernels
        self.with_bias = False
        self.moe_runner_config: Any = None

    def create_weights(
        self,
        layer: nn.Module,
        num_experts: int,
        hidden_size: int,
        intermediate_size_per_partition: int,
        params_dtype: torch.dtype,
        with_bias: bool = False,
        **extra_weight_attrs: Any,
    ) -> None:
        """Give the layer ``w13_weight`` and ``w2_weight`` of this rank's experts."""
        if with_bias:
            raise not_covered("experts with a bias")
        wide = 2 * intermediate_size_per_partition
        _parameter(layer, "w13_weight", (num_experts, wide, hidden_size), params_dtype, **extra_weight_attrs)
        narrow = (num_experts, hidden_size, intermediate_size_per_partition)
        _parameter(layer, "w2_weight", narrow, params_dtype, **extra_weight_attrs)

    def process_weights_after_loading(self, layer: nn.Module) -> None:
        """The weights stay as they were loaded."""
        return

    def create_moe_runner(self, layer: nn.Module, moe_runner_config: Any) -> None:
        """Keep the experts' settings."""
        self.moe_runner_config = moe_runner_config

    def _torch_compile_forward(self, num_tokens: int) -> Callable[..., Any] | None:
        # As before 0.5.18 for every operator with such a name: the native way of a single token alone.
        from ..moe.fused_moe_native import fused_moe_forward_native

        return fused_moe_forward_native if num_tokens == 1 else None

    def apply(self, layer: nn.Module, dispatch_output: Any) -> Any:  # type: ignore[override]  # nn.Module has one too
        """What this rank's experts make of the tokens: the operator's own or the platform's."""
        return self.forward(layer=layer, dispatch_output=dispatch_output)

    def forward_native(self, layer: nn.Module, dispatch_output: Any) -> Any:
        """As :meth:`apply`, in plain torch."""
        from ..moe.fused_moe_native import moe_forward_native
        from ..moe.token_dispatcher import StandardCombineInput

        states, chosen = dispatch_output.hidden_states, dispatch_output.topk_output
        return StandardCombineInput(moe_forward_native(layer, states, chosen, self.moe_runner_config))
