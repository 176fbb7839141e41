"""``sglang.srt.layers.moe.fused_moe_native``: a rank's experts in plain torch (SGLang 0.5.11 and 0.5.23).

Every expert computes every token, and a token's sum takes what it was sent to: no shape depends on the choice, so a
graph may capture it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from sglang_reference._errors import not_covered

from .moe_runner import MoeRunnerConfig
from .topk import StandardTopKOutput

if TYPE_CHECKING:
    from .token_dispatcher import StandardCombineInput


def fused_moe_forward_native(layer: nn.Module, dispatch_output: Any) -> StandardCombineInput:
    """As :func:`moe_forward_native`, of what a dispatcher hands on."""
    from .token_dispatcher import StandardCombineInput

    config: Any = layer.moe_runner_config
    states = moe_forward_native(layer, dispatch_output.hidden_states, dispatch_output.topk_output, config)
    return StandardCombineInput(states)


def moe_forward_native(
    layer: Any, x: torch.Tensor, topk_output: StandardTopKOutput, moe_runner_config: MoeRunnerConfig
) -> torch.Tensor:
    """The weighted sum of what ``layer``'s experts make of ``x``, in float32 and then of ``x``'s dtype.

    An expert's number -1 stands for one of another rank: nothing is added for it.
    """
    if moe_runner_config.activation != "silu" or not moe_runner_config.is_gated:
        raise not_covered(f"experts with activation {moe_runner_config.activation!r}")
    if moe_runner_config.apply_router_weight_on_input:
        raise not_covered("experts with the router's weight on their input")
    weights, numbers, _ = topk_output
    w13: torch.Tensor = layer.w13_weight
    w2: torch.Tensor = layer.w2_weight
    experts = torch.arange(w13.shape[0], device=x.device, dtype=numbers.dtype)
    sent = numbers.unsqueeze(0) == experts.view(-1, 1, 1)  # experts, tokens, choices
    share = (weights.unsqueeze(0) * sent).sum(dim=-1, keepdim=True)
    gate, up = torch.matmul(x, w13.transpose(1, 2)).chunk(2, dim=-1)
    made = torch.matmul(F.silu(gate) * up, w2.transpose(1, 2))
    return (made * share).sum(dim=0).to(x.dtype)
