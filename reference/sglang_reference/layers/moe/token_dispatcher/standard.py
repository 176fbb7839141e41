"""``sglang.srt.layers.moe.token_dispatcher.standard``: every rank has all tokens, and takes those of its own experts.

What the experts of a rank make of the tokens is its share; the shares are summed by the layer. Facts: SGLang 0.5.11
and 0.5.23.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from ..._partition import experts_parallel
from ..moe_runner import MoeRunnerConfig
from ..topk import StandardTopKOutput


class StandardDispatchOutput(NamedTuple):
    """What experts are handed: tokens, and the experts of each by their numbers on this rank, -1 for another's."""

    hidden_states: torch.Tensor
    hidden_states_scale: torch.Tensor | None
    topk_output: Any


class StandardCombineInput(NamedTuple):
    """What experts hand back."""

    hidden_states: torch.Tensor


class StandardDispatcher:
    """Numbers the experts as this rank does."""

    def __init__(self, moe_runner_config: MoeRunnerConfig) -> None:
        part = experts_parallel()
        self.moe_ep_size = part.size
        self.moe_ep_rank = part.rank
        self.num_experts = moe_runner_config.num_experts
        self.num_local_experts = moe_runner_config.num_local_experts

    def dispatch(self, hidden_states: torch.Tensor, topk_output: Any) -> StandardDispatchOutput:
        """All tokens, and which of this rank's experts each is for."""
        if self.moe_ep_size > 1 and isinstance(topk_output, StandardTopKOutput):
            count = self.num_local_experts or 0
            own = topk_output.topk_ids - self.moe_ep_rank * count
            topk_output = topk_output._replace(topk_ids=own.masked_fill((own < 0) | (own >= count), -1))
        return StandardDispatchOutput(hidden_states, None, topk_output)

    def combine(self, combine_input: StandardCombineInput) -> torch.Tensor:
        """The rank's share."""
        return combine_input.hidden_states
