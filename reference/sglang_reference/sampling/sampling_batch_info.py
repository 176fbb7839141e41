"""``sglang.srt.sampling.sampling_batch_info``: how the requests of a batch want their tokens chosen, as tensors.

Grammars, penalties, biases and processors of logits are not covered. Facts: SGLang 0.5.11 to 0.5.23.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from .._contract import since
from .._partial import Partial
from ..utils.common import is_pin_memory_available
from .sampling_params import TOP_K_ALL

_TENSORS = ("temperatures", "top_ps", "top_ks", "min_ps")


@dataclass
class SamplingBatchInfo(Partial):
    """A row for each request: temperatures (rows, 1), the others (rows,)."""

    temperatures: torch.Tensor
    top_ps: torch.Tensor
    top_ks: torch.Tensor
    min_ps: torch.Tensor
    is_all_greedy: bool
    is_any_greedy: bool
    need_top_p_sampling: bool
    need_top_k_sampling: bool
    need_min_p_sampling: bool
    vocab_size: int
    grammars: list[Any] | None = None
    vocab_mask: torch.Tensor | None = None
    penalizer_orchestrator: Any = None
    acc_additive_penalties: torch.Tensor | None = None
    acc_scaling_penalties: torch.Tensor | None = None
    has_custom_logit_processor: bool = False
    custom_params: list[Any] | None = None
    custom_logit_processor: dict[int, Any] | None = None
    sampling_seed: torch.Tensor | None = None
    device: str = "cuda"
    logit_bias: torch.Tensor | None = None

    @classmethod
    def from_schedule_batch(cls, batch: Any, vocab_size: int) -> SamplingBatchInfo:
        """The parameters of a batch's requests, on the batch's device.

        From 0.5.14 on they go by way of pinned memory where there is any, which from 0.5.16 on the platform is asked.
        """
        wanted = [request.sampling_params for request in batch.reqs]
        device = batch.device

        pinned = since("0.5.14") and is_pin_memory_available(device)

        def row(name: str, dtype: torch.dtype) -> torch.Tensor:
            values = torch.tensor([getattr(each, name) for each in wanted], dtype=dtype, pin_memory=pinned)
            return values.to(device, non_blocking=True)

        return cls(
            temperatures=row("temperature", torch.float).view(-1, 1),
            top_ps=row("top_p", torch.float),
            top_ks=row("top_k", torch.int32),
            min_ps=row("min_p", torch.float),
            is_all_greedy=all(each.top_k <= 1 for each in wanted),
            is_any_greedy=any(each.top_k <= 1 for each in wanted),
            need_top_p_sampling=any(each.top_p != 1.0 for each in wanted),
            need_top_k_sampling=any(each.top_k != TOP_K_ALL for each in wanted),
            need_min_p_sampling=any(each.min_p > 0 for each in wanted),
            vocab_size=vocab_size,
            device=device,
        )

    def __len__(self) -> int:
        return len(self.temperatures)

    def update_regex_vocab_mask(self) -> None:
        """Work out what grammars allow, which there are none of."""
        self.vocab_mask = None

    def update_penalties(self) -> None:
        """Work out penalties, which there are none of."""

    def apply_logits_bias(self, logits: torch.Tensor) -> None:
        """Change logits by penalties, biases and grammars, which there are none of."""

    def filter_batch(self, keep_indices: list[int], keep_indices_device: torch.Tensor) -> None:
        """Keep these rows."""
        for name in _TENSORS:
            setattr(self, name, getattr(self, name)[keep_indices_device])

    def merge_batch(self, other: SamplingBatchInfo) -> None:
        """Append another batch's rows."""
        for name in _TENSORS:
            setattr(self, name, torch.cat([getattr(self, name), getattr(other, name)]))
        self.is_all_greedy &= other.is_all_greedy
        self.is_any_greedy |= other.is_any_greedy
        self.need_top_p_sampling |= other.need_top_p_sampling
        self.need_top_k_sampling |= other.need_top_k_sampling
        self.need_min_p_sampling |= other.need_min_p_sampling

    def copy_for_forward(self) -> SamplingBatchInfo:
        """A copy for a forward that runs while the batch changes."""
        self.update_penalties()
        return dataclasses.replace(self)
