"""``sglang.srt.managers.utils``: what a forward pass gives. Facts: SGLang 0.5.11 and 0.5.23, srt/managers/utils.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._partial import Partial
from .._released import Lifetime, Parameters, released


@dataclass
class GenerationBatchResult(Partial):
    """Of the last stage, logits and the next tokens; of others, the hidden states that the next stage wants.

    ``can_run_cuda_graph`` tells whether a graph was replayed.
    """

    logits_output: Any = None
    pp_hidden_states_proxy_tensors: Any = None
    next_token_ids: Any = None
    can_run_cuda_graph: bool = False
    extend_input_len_per_req: list[int] | None = None
    extend_logprob_start_len_per_req: list[int] | None = None
    copy_done: Any = None
    delay_sample_func: Any = None

    @released(Parameters({"return_hidden_states": Lifetime("0.5.12")}))
    def copy_to_cpu(self, return_logprob: bool, return_hidden_states: bool = True) -> None:
        """Have the next tokens on the host."""
        if self.next_token_ids is not None:
            self.next_token_ids = self.next_token_ids.to("cpu", non_blocking=True)
