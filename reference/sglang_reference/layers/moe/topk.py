"""``sglang.srt.layers.moe.topk``: which experts a token goes to, and with what weights.

Softmax over all experts in float32, then the greatest of them, whose weights are made to sum to 1 where that is asked:
as Mixtral does. Grouped, biased and otherwise scored choices are not covered. Facts: SGLang 0.5.11 to 0.5.23.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch

from sglang_reference._errors import not_covered

from ..._contract import since
from ..._partial import Partial
from ..._released import Lifetime, Parameters, released
from ..utils._operator import NativeOperator

_INIT = Parameters(
    {
        "num_fused_shared_experts": Lifetime(gone="0.5.23"),
        "is_draft": Lifetime("0.5.23"),
        "is_fp4_experts": Lifetime("0.5.12"),
        "allow_routed_experts_capture": Lifetime("0.5.15"),
        "sqrtsoftplus_log1p": Lifetime("0.5.21"),
        "fused_gate_packed_ids": Lifetime("0.5.21"),
    },
    required={"layer_id": "0.5.22"},
)
_FORWARD = Parameters({"dynamic_expert_bias": Lifetime("0.5.21"), "router_logits_partials": Lifetime("0.5.22")})
_EMPTY = Parameters({"layer_id": Lifetime("0.5.14")})


class TopKOutputFormat(IntEnum):
    """The forms in which a choice may be handed on; the reference has the standard one."""

    STANDARD = auto()
    TRITON_KERNEL = auto()
    BYPASSED = auto()


@runtime_checkable
class TopKOutput(Protocol):
    """A choice of experts."""

    @property
    def format(self) -> TopKOutputFormat:
        """Its form."""


class StandardTopKOutput(NamedTuple):
    """Weights (float32) and numbers (int32) of each token's experts, and the router's logits."""

    topk_weights: torch.Tensor
    topk_ids: torch.Tensor
    router_logits: torch.Tensor

    @property
    def format(self) -> TopKOutputFormat:
        """The standard form."""
        return TopKOutputFormat.STANDARD


@dataclass
class TopKConfig(Partial):
    """How experts are chosen."""

    top_k: int
    renormalize: bool = True
    use_grouped_topk: bool = False
    topk_group: int | None = None
    num_expert_group: int | None = None
    custom_routing_function: Callable[..., Any] | None = None
    correction_bias: torch.Tensor | None = None
    torch_native: bool = False
    routed_scaling_factor: float | None = None
    apply_routed_scaling_factor_on_output: bool | None = False
    output_format: TopKOutputFormat | None = None
    scoring_func: str = "softmax"
    layer_id: int | None = None
    runner_backend: Any = None


class TopK(NativeOperator):
    """The choice of experts, as an operator."""

    @released(_INIT)
    def __init__(
        self,
        top_k: int,
        *,
        layer_id: int | None = None,
        is_draft: bool | None = None,
        use_grouped_topk: bool = False,
        topk_group: int | None = None,
        num_expert_group: int | None = None,
        renormalize: bool = True,
        num_fused_shared_experts: int = 0,
        custom_routing_function: Callable[..., Any] | None = None,
        scoring_func: str = "softmax",
        correction_bias: torch.Tensor | None = None,
        quant_config: Any = None,
        routed_scaling_factor: float | None = None,
        apply_routed_scaling_factor_on_output: bool | None = False,
        output_format: TopKOutputFormat | None = None,
        fused_shared_experts_scaling_factor: float | None = None,
        is_fp4_experts: bool = False,
        allow_routed_experts_capture: bool = True,
        sqrtsoftplus_log1p: bool = False,
        fused_gate_packed_ids: bool = False,
    ) -> None:
        super().__init__()
        asked = {
            "use_grouped_topk": use_grouped_topk,
            "num_fused_shared_experts": num_fused_shared_experts,
            "custom_routing_function": custom_routing_function,
            "correction_bias": correction_bias is not None,
            f"scoring_func {scoring_func!r}": scoring_func != "softmax",
            "output_format": output_format not in (None, TopKOutputFormat.STANDARD),
            "fused_shared_experts_scaling_factor": fused_shared_experts_scaling_factor is not None,
        }
        for name, is_asked in asked.items():
            if is_asked:
                raise not_covered(f"sglang.srt.layers.moe.topk.TopK with {name}")
        self.layer_id = layer_id
        self.topk_config = TopKConfig(
            top_k=top_k,
            renormalize=renormalize,
            routed_scaling_factor=routed_scaling_factor,
            apply_routed_scaling_factor_on_output=apply_routed_scaling_factor_on_output,
            layer_id=layer_id,
        )

    if since("0.5.23"):

        def bind_runner_backend(self, runner_backend: Any, *, routing_method_type: Any = None) -> None:
            """Be told what runs the experts."""
            self.topk_config.runner_backend = runner_backend

    def _compiled_method(self, num_tokens: int) -> Callable[..., Any] | None:
        return self.forward_native if num_tokens == 1 else None

    # What is compiled for one token is not for many: SGLang then keeps what runs.
    _torch_compile_forward = _compiled_method

    @released(_FORWARD)
    def forward_native(
        self,
        hidden_states: torch.Tensor,
        router_logits: torch.Tensor,
        *,
        num_token_non_padded: torch.Tensor | None = None,
        expert_location_dispatch_info: Any = None,
        dynamic_expert_bias: torch.Tensor | None = None,
        router_logits_partials: torch.Tensor | None = None,
    ) -> StandardTopKOutput:
        """The experts of each token. Tokens past ``num_token_non_padded`` go to none."""
        if dynamic_expert_bias is not None or router_logits_partials is not None:
            raise not_covered("sglang.srt.layers.moe.topk.TopK with a dynamic bias or partial logits")
        self.topk_config.torch_native = True
        return select_experts(
            hidden_states,
            router_logits,
            self.topk_config,
            layer_id=self.layer_id,
            num_token_non_padded=num_token_non_padded,
            expert_location_dispatch_info=expert_location_dispatch_info,
        )

    @released(_EMPTY)
    def empty_topk_output(self, device: torch.device, *, layer_id: int | None = None) -> StandardTopKOutput:
        """The choice for no tokens."""
        count = self.topk_config.top_k
        return StandardTopKOutput(
            torch.empty((0, count), dtype=torch.float32, device=device),
            torch.full((0, count), -1, dtype=torch.int32, device=device),
            torch.empty((0, count), dtype=torch.float32, device=device),
        )


def fused_topk_torch_native(
    hidden_states: torch.Tensor,
    gating_output: torch.Tensor,
    topk: int,
    renormalize: bool,
    correction_bias: torch.Tensor | None = None,
    scoring_func: str = "softmax",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and numbers of the greatest scores."""
    if correction_bias is not None or scoring_func != "softmax":
        raise not_covered(f"a choice of experts by {scoring_func} or with a bias")
    weights, numbers = torch.topk(gating_output.float().softmax(dim=-1), topk, dim=-1)
    return weights / weights.sum(dim=-1, keepdim=True) if renormalize else weights, numbers


@released(_FORWARD)
def select_experts(
    hidden_states: torch.Tensor,
    router_logits: torch.Tensor,
    topk_config: TopKConfig,
    *,
    layer_id: int | None = None,
    num_token_non_padded: torch.Tensor | None = None,
    expert_location_dispatch_info: Any = None,
    dynamic_expert_bias: torch.Tensor | None = None,
    router_logits_partials: torch.Tensor | None = None,
) -> StandardTopKOutput:
    """The experts of each token, as the configuration says."""
    if expert_location_dispatch_info is not None:
        raise not_covered("experts that move between ranks")
    weights, numbers = fused_topk_torch_native(hidden_states, router_logits, topk_config.top_k, topk_config.renormalize)
    if topk_config.apply_routed_scaling_factor_on_output and topk_config.routed_scaling_factor is not None:
        weights = weights * topk_config.routed_scaling_factor
    numbers = numbers.to(torch.int32)
    if num_token_non_padded is not None:
        tokens = torch.arange(numbers.shape[0], device=numbers.device).unsqueeze(-1)
        numbers = numbers.masked_fill(tokens >= num_token_non_padded, -1)
    return StandardTopKOutput(weights, numbers, router_logits)
