"""``sglang.srt.layers.logits_processor``: the logits of the next tokens, from a model's last hidden states.

Of each request's new tokens the last one counts in prefill, and every row in decode; logits are float32, of the whole
vocabulary, gathered from all ranks. Log-probabilities of inputs and kept hidden states are not covered. Facts: SGLang
0.5.11 to 0.5.23, srt/layers/logits_processor.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sglang_reference._errors import not_covered

from .._contract import since
from .._partial import Partial
from ..distributed import tensor_model_parallel_all_gather
from ._partition import tensor_parallel
from .utils._operator import PartialModule

_UNQUANTISED = ("UnquantizedEmbeddingMethod", "UnquantizedLinearMethod", "PackWeightMethod")


@dataclass
class LogitsProcessorOutput(Partial):
    """What a forward of the model ends in; the sampler adds the log-probabilities of what it chose."""

    next_token_logits: torch.Tensor | None
    hidden_states: torch.Tensor | None = None
    next_token_logprobs: torch.Tensor | None = None
    next_token_top_logprobs_val: list[Any] | None = None
    next_token_top_logprobs_idx: list[Any] | None = None
    next_token_token_ids_logprobs_val: list[Any] | None = None
    next_token_token_ids_logprobs_idx: list[Any] | None = None
    input_token_logprobs: torch.Tensor | None = None
    input_top_logprobs_val: list[Any] | None = None
    input_top_logprobs_idx: list[Any] | None = None
    input_token_ids_logprobs_val: list[Any] | None = None
    input_token_ids_logprobs_idx: list[Any] | None = None
    full_logits: torch.Tensor | None = None
    customized_info: dict[str, list[Any]] | None = None
    mm_input_embeds: torch.Tensor | None = None


@dataclass
class LogitsMetadata(Partial):
    """What of a batch the logits processor goes by."""

    forward_mode: Any
    capture_hidden_mode: Any = None
    next_token_logits_buffer: torch.Tensor | None = None
    extend_return_logprob: bool = False
    extend_seq_lens: torch.Tensor | None = None
    extend_seq_lens_cpu: list[int] | None = None
    is_prefill_only: bool = False

    @classmethod
    def from_forward_batch(cls, forward_batch: Any) -> LogitsMetadata:
        """That of a batch; NotCovered where input log-probabilities are asked for."""
        mode = forward_batch.forward_mode
        if mode.is_extend() and getattr(forward_batch, "return_logprob", False):
            starts = getattr(forward_batch, "extend_logprob_start_lens_cpu", None) or []
            lengths = forward_batch.extend_seq_lens_cpu or []
            if any(start < length for start, length in zip(starts, lengths, strict=False)):
                raise not_covered("log-probabilities of input tokens")
        return cls(
            forward_mode=mode,
            capture_hidden_mode=getattr(forward_batch, "capture_hidden_mode", None),
            next_token_logits_buffer=getattr(forward_batch, "next_token_logits_buffer", None),
            extend_seq_lens=forward_batch.extend_seq_lens,
            extend_seq_lens_cpu=getattr(forward_batch, "extend_seq_lens_cpu", None),
            is_prefill_only=getattr(forward_batch, "is_prefill_only", False),
        )


class LogitsProcessor(PartialModule):
    """The last operator of a model."""

    def __init__(
        self,
        config: Any,
        skip_all_gather: bool = False,
        logit_scale: float | None = None,
        return_full_logits: bool = False,
    ) -> None:
        super().__init__()
        if return_full_logits or (getattr(config, "final_logit_softcapping", None) or 0) > 0:
            raise not_covered("a logits processor with all logits, or with a cap on them")
        self.config = config
        self.vocab_size = config.vocab_size
        self.logit_scale = logit_scale
        self.return_full_logits = return_full_logits
        self.do_tensor_parallel_all_gather = not skip_all_gather and tensor_parallel().size > 1

    def forward(
        self,
        input_ids: torch.Tensor,
        hidden_states: torch.Tensor,
        lm_head: Any,
        logits_metadata: Any,
        aux_hidden_states: Any = None,
        hidden_states_before_norm: torch.Tensor | None = None,
    ) -> LogitsProcessorOutput:
        """The logits of the next token of each request."""
        metadata = (
            logits_metadata
            if isinstance(logits_metadata, LogitsMetadata)
            else LogitsMetadata.from_forward_batch(logits_metadata)
        )
        mode, keep = metadata.forward_mode, metadata.capture_hidden_mode
        if aux_hidden_states is not None or (keep is not None and keep.need_capture()):
            raise not_covered("hidden states that are kept for speculative decoding")
        if not mode.is_decode_or_idle():
            if metadata.extend_seq_lens is None:
                raise not_covered(f"the logits of a forward in mode {mode}")
            hidden_states = hidden_states[torch.cumsum(metadata.extend_seq_lens, dim=0) - 1]
        return LogitsProcessorOutput(next_token_logits=self._get_logits(hidden_states, lm_head, metadata))

    def _get_logits(
        self, hidden_states: torch.Tensor, lm_head: Any, logits_metadata: LogitsMetadata, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """The logits of all given states: each rank's part of the vocabulary, gathered, without the padding."""
        if args or kwargs:
            raise not_covered("sglang.srt.layers.logits_processor.LogitsProcessor._get_logits with a bias or no buffer")
        logits = self._compute_lm_head(hidden_states, lm_head)
        if self.logit_scale is not None:
            logits = logits * self.logit_scale
        if self.do_tensor_parallel_all_gather:
            logits = tensor_model_parallel_all_gather(logits)
        logits = logits[:, : self.vocab_size]
        buffer = logits_metadata.next_token_logits_buffer
        return logits.float() if buffer is None else buffer.copy_(logits)

    def _compute_lm_head(self, hidden_states: torch.Tensor, lm_head: Any) -> Any:
        method = getattr(lm_head, "quant_method", None)
        # Up to 0.5.13 a head with a weight is multiplied with, whatever its method is.
        if method is not None and type(method).__name__ not in _UNQUANTISED and since("0.5.14"):
            return method.apply(lm_head, hidden_states, None)
        return torch.matmul(hidden_states.to(lm_head.weight.dtype), lm_head.weight.T)
