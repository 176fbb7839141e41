"""``sglang.srt.layers.moe.fused_moe_triton.layer``: a mixture's experts, divided among ranks.

Expert parallelism gives each rank whole experts, in runs; the ranks that share experts divide each of them by its inner
width. The sum over all is the layer's where it is made with ``reduce_results``, and its caller's otherwise. Facts:
SGLang 0.5.11 to 0.5.23, srt/layers/moe/fused_moe_triton/layer.py.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from sglang_reference._errors import not_covered

from ...._contract import since
from ...._released import Lifetime, Parameters, released
from ....distributed import divide, tensor_model_parallel_all_reduce
from ... import _weights
from ..._partition import experts_parallel, experts_tensor_parallel
from ...quantization.base_config import FusedMoEMethodBase, QuantizationConfig
from ...utils._operator import PartialModule
from ..moe_runner import MoeRunnerConfig
from ..token_dispatcher import StandardDispatcher

_INIT = Parameters(
    {
        "swiglu_limit": Lifetime("0.5.12"),
        "gate_up_interleaved": Lifetime("0.5.14"),
        "gemm1_beta": Lifetime("0.5.18"),
        "enable_qwen35_fp8_deferred_finalize": Lifetime("0.5.19"),
        "quant_method": Lifetime("0.5.19"),
        "uses_expert_location": Lifetime("0.5.23"),
    }
)
_FORWARD = Parameters({"pre_quant_input": Lifetime("0.5.17")})


class FusedMoE(PartialModule):
    """The experts of a layer."""

    @released(_INIT)
    def __init__(
        self,
        num_experts: int,
        hidden_size: int,
        intermediate_size: int,
        layer_id: int,
        top_k: int | None = None,
        num_fused_shared_experts: int = 0,
        params_dtype: torch.dtype | None = None,
        reduce_results: bool = False,
        quant_config: QuantizationConfig | None = None,
        prefix: str = "",
        activation: str = "silu",
        apply_router_weight_on_input: bool = False,
        use_presharded_weights: bool = False,
        inplace: bool = True,
        no_combine: bool = False,
        routed_scaling_factor: float | None = None,
        gemm1_alpha: float | None = None,
        gemm1_beta: float | None = None,
        gemm1_clamp_limit: float | None = None,
        swiglu_limit: float | None = None,
        use_weight_loader_fused: bool = False,
        with_bias: bool = False,
        routing_method_type: Any = None,
        is_gated: bool = True,
        gate_up_interleaved: bool = True,
        enable_qwen35_fp8_deferred_finalize: bool = False,
        quant_method: FusedMoEMethodBase | None = None,
        uses_expert_location: bool = True,
    ) -> None:
        super().__init__()
        asked = {
            "num_fused_shared_experts": num_fused_shared_experts,
            f"activation {activation!r}": activation != "silu",
            "no_combine": no_combine,
            "routed_scaling_factor": routed_scaling_factor not in (None, 1.0),
            "apply_router_weight_on_input": apply_router_weight_on_input,
            "gemm1_alpha": gemm1_alpha is not None,
            "gemm1_beta": gemm1_beta is not None,
            "gemm1_clamp_limit": gemm1_clamp_limit is not None,
            "swiglu_limit": swiglu_limit is not None,
            "use_weight_loader_fused": use_weight_loader_fused,
            "with_bias": with_bias,
            "is_gated=False": not is_gated,
        }
        for name, is_asked in asked.items():
            if is_asked:
                raise not_covered(f"sglang.srt.layers.moe.fused_moe_triton.layer.FusedMoE with {name}")
        ranks, within = experts_parallel(), experts_tensor_parallel()
        self.layer_id = layer_id
        self.top_k = top_k
        self.hidden_size = hidden_size
        self.num_experts = num_experts
        self.reduce_results = reduce_results
        self.use_presharded_weights = use_presharded_weights
        self.quant_config = quant_config
        self.moe_ep_rank, self.moe_ep_size = ranks
        self.moe_tp_rank, self.moe_tp_size = within
        self.num_local_experts = divide(num_experts, ranks.size)
        self.intermediate_size_per_partition = divide(intermediate_size, within.size)
        params_dtype = params_dtype or torch.get_default_dtype()
        self.moe_runner_config = MoeRunnerConfig(
            num_experts=num_experts,
            num_local_experts=self.num_local_experts,
            hidden_size=hidden_size,
            intermediate_size_per_partition=self.intermediate_size_per_partition,
            layer_id=layer_id,
            top_k=top_k,
            num_fused_shared_experts=0,
            params_dtype=params_dtype,
            inplace=inplace,
            routed_scaling_factor=routed_scaling_factor,
            routing_method_type=routing_method_type,
        )
        self.quant_method: FusedMoEMethodBase = quant_method or self._method(prefix)
        self.quant_method.create_weights(
            layer=self,
            num_experts=self.num_local_experts,
            hidden_size=hidden_size,
            intermediate_size_per_partition=self.intermediate_size_per_partition,
            params_dtype=params_dtype,
            weight_loader=self.weight_loader,
            with_bias=with_bias,
            moe_intermediate_size=intermediate_size,
        )
        self.quant_method.create_moe_runner(self, self.moe_runner_config)
        if since("0.5.23"):
            self.runner_backend = self.quant_method.get_moe_runner_backend(self)
            self.moe_runner_config.runner_backend = self.runner_backend
        self.dispatcher = StandardDispatcher(self.moe_runner_config)

    def _method(self, prefix: str) -> FusedMoEMethodBase:
        from ...quantization.unquant import UnquantizedFusedMoEMethod

        found = None if self.quant_config is None else self.quant_config.get_quant_method(self, prefix)
        return cast(FusedMoEMethodBase, found or UnquantizedFusedMoEMethod())

    def weight_loader(
        self,
        param: nn.Parameter,
        loaded_weight: torch.Tensor,
        weight_name: str,
        shard_id: str,
        expert_id: int | None,
    ) -> None:
        """Copy this rank's part of one expert's gate (``w1``), down (``w2``) or up (``w3``); nothing of another rank's.

        Raises ValueError for another ``shard_id``.
        """
        if shard_id not in ("w1", "w2", "w3"):
            raise ValueError(f"an expert has the weights w1, w2 and w3, not {shard_id!r}")
        if expert_id is None:
            raise not_covered("loading the weights of all experts at once")
        number = expert_id - self.moe_ep_rank * self.num_local_experts
        if not 0 <= number < self.num_local_experts:
            return
        own = _weights.plain(param)[number]
        width, dim = self.intermediate_size_per_partition, 1 if shard_id == "w2" else 0
        if shard_id != "w2":
            own = own.narrow(0, width if shard_id == "w3" else 0, width)
        if not self.use_presharded_weights:
            loaded_weight = _weights.part(loaded_weight, dim, self.moe_tp_rank * width, width)
        _weights.fill(own, loaded_weight)

    @released(_FORWARD)
    def forward(self, hidden_states: torch.Tensor, topk_output: Any, pre_quant_input: Any = None) -> torch.Tensor:
        """The experts' weighted sum for each token, or this rank's share of it."""
        if pre_quant_input is not None:
            raise not_covered("experts on inputs that are quantised already")
        return self.forward_impl(hidden_states, topk_output)

    @released(_FORWARD)
    def forward_impl(self, hidden_states: torch.Tensor, topk_output: Any, pre_quant_input: Any = None) -> torch.Tensor:
        """As :meth:`forward`."""
        handed = self.dispatcher.dispatch(hidden_states=hidden_states, topk_output=topk_output)
        made = self.run_moe_core(dispatch_output=handed)
        output = self.dispatcher.combine(combine_input=made)
        if self.reduce_results and (self.moe_tp_size > 1 or self.moe_ep_size > 1):
            output = tensor_model_parallel_all_reduce(output)
        return output

    def run_moe_core(self, dispatch_output: Any) -> Any:
        """What the method of this rank's experts makes of the tokens."""
        return self.quant_method.apply(layer=self, dispatch_output=dispatch_output)

    @classmethod
    def make_expert_params_mapping(
        cls, ckpt_gate_proj_name: str, ckpt_down_proj_name: str, ckpt_up_proj_name: str, num_experts: int
    ) -> list[tuple[str, str, int, str]]:
        """For each weight of a checkpoint's experts: the parameter, the weight's name, the expert, and ``shard_id``."""
        names = (("w1", ckpt_gate_proj_name), ("w2", ckpt_down_proj_name), ("w3", ckpt_up_proj_name))
        return [
            ("experts.w2_" if shard == "w2" else "experts.w13_", f"experts.{expert}.{name}.", expert, shard)
            for expert in range(num_experts)
            for shard, name in names
        ]
