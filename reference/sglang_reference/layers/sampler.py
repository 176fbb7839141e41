"""``sglang.srt.layers.sampler``: the next token of each request, from its logits.

The greatest, where all requests are greedy; else one drawn by temperature, and by top-k, top-p and min-p where any
request has them. Logits that are no numbers are found: up to 0.5.12 where the server's arguments ask for it, and
replaced; from 0.5.14 on by ``SGLANG_ENABLE_ASYNC_ASSERT`` (and ``SGLANG_ENABLE_NAN_LOGITS_CHECK``), while
``SGLANG_SANITIZE_NAN_LOGITS`` replaces them. Facts: SGLang 0.5.11 to 0.5.23, srt/layers/sampler.py and
srt/utils/async_probe.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import torch
import torch.distributed

from sglang_reference._errors import not_covered

from .._arguments.published import published
from .._contract import since
from .._released import Lifetime, Parameters, released
from ..sampling.sampling_batch_info import SamplingBatchInfo
from ._partition import tensor_parallel_group
from .logits_processor import LogitsProcessorOutput
from .utils._operator import PartialModule

logger = logging.getLogger(__name__)

_BUILT_IN = ("flashinfer", "pytorch", "ascend", "intel_xpu")
_CUSTOM_SAMPLER_FACTORIES: dict[str, Callable[[], Sampler]] = {}
_FORWARD = Parameters({"logprob_logits": Lifetime("0.5.22")})
_DRAWN = Parameters({"return_filtered_probs": Lifetime("0.5.20"), "max_top_k": Lifetime("0.5.22")})


def _switched_on(name: str, default: str = "false") -> bool:
    return os.environ.get(name, default).lower() in ("true", "1", "yes", "y")


class Sampler(PartialModule):
    """Chooses tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.tp_sync_group = tensor_parallel_group().device_group
        self.use_nan_detection = not since("0.5.13") and bool(getattr(published(), "enable_nan_detection", False))

    def _preprocess_logits(self, logits: torch.Tensor, sampling_info: SamplingBatchInfo) -> torch.Tensor:
        if sampling_info.has_custom_logit_processor:
            raise not_covered("processors of logits")
        if since("0.5.14"):
            _find_no_numbers(logits)
            return logits
        if self.use_nan_detection and torch.any(torch.isnan(logits)):
            logger.warning("the logits have values that are no numbers; they are replaced")
            logits = torch.where(torch.isnan(logits), torch.full_like(logits, -1e5), logits)
            if _switched_on("SGLANG_IS_IN_CI"):
                raise ValueError("the logits have values that are no numbers")
        return logits

    @released(_FORWARD)
    def forward(
        self,
        logits_output: LogitsProcessorOutput,
        sampling_info: SamplingBatchInfo,
        return_logprob: bool,
        top_logprobs_nums: list[int],
        token_ids_logprobs: list[list[int]],
        positions: torch.Tensor,
        *,
        logprob_logits: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One token a request; where it is asked, the log-probability of each is put into ``logits_output``."""
        if logprob_logits is not None or any(top_logprobs_nums or ()) or any(token_ids_logprobs or ()):
            raise not_covered("log-probabilities of tokens that were not chosen")
        assert logits_output.next_token_logits is not None
        logits = self._preprocess_logits(logits_output.next_token_logits, sampling_info)
        if sampling_info.is_all_greedy:
            tokens = torch.argmax(logits, -1)
        else:
            logits = logits / sampling_info.temperatures
            tokens = self._drawn(torch.softmax(logits, dim=-1), sampling_info, positions)
        if return_logprob:
            chosen = torch.log_softmax(logits, dim=-1).gather(1, tokens.view(-1, 1).long())
            logits_output.next_token_logprobs = chosen.view(-1)
        if _switched_on("SYNC_TOKEN_IDS_ACROSS_TP"):
            torch.distributed.all_reduce(tokens, op=torch.distributed.ReduceOp.MIN, group=self.tp_sync_group)
        return tokens

    def _drawn(self, probs: torch.Tensor, info: SamplingBatchInfo, positions: torch.Tensor) -> torch.Tensor:
        if not (info.need_top_p_sampling or info.need_top_k_sampling or info.need_min_p_sampling):
            return sampling_from_probs_torch(probs, info.sampling_seed, positions)
        drawn: torch.Tensor = top_k_top_p_min_p_sampling_from_probs_torch(
            probs, info.top_ks, info.top_ps, info.min_ps, info.need_min_p_sampling, info.sampling_seed, positions
        )
        return drawn


def _find_no_numbers(logits: torch.Tensor) -> None:
    checks = ["SGLANG_ENABLE_ASYNC_ASSERT", *(["SGLANG_ENABLE_NAN_LOGITS_CHECK"] if since("0.5.22") else [])]
    if any(_switched_on(name) for name in checks):
        torch._assert_async(~torch.isnan(logits).any(), "the logits have values that are no numbers")
    if _switched_on("SGLANG_SANITIZE_NAN_LOGITS"):
        torch.nan_to_num_(logits, nan=-1e30, posinf=1e30, neginf=-1e30)


def register_sampler_backend(backend: str, factory: Callable[[], Sampler]) -> None:
    """Have :func:`create_sampler` make samplers by ``factory`` for the name ``backend``.

    Raises ValueError for an empty name; a name given before is warned of, and the later factory holds.
    """
    if not backend:
        raise ValueError("a sampling backend needs a name")
    if backend in _CUSTOM_SAMPLER_FACTORIES:
        logger.warning("the sampling backend %r was registered before; the later one holds", backend)
    _CUSTOM_SAMPLER_FACTORIES[backend] = factory


def create_sampler(backend: str | None = None) -> Sampler:
    """The sampler of a registered backend, or SGLang's own; the server's arguments say which, unless it is given.

    Raises TypeError where the factory makes something else, ValueError for an unknown name.
    """
    backend = backend or getattr(published(), "sampling_backend", None)
    if backend in _CUSTOM_SAMPLER_FACTORIES:
        sampler = _CUSTOM_SAMPLER_FACTORIES[backend]()
        if not isinstance(sampler, Sampler):
            made = type(sampler).__name__
            raise TypeError(f"the factory of the sampling backend {backend!r} must make a Sampler, and made: {made}")
        return sampler
    if backend is None or backend in _BUILT_IN:
        return Sampler()
    raise ValueError(f"unknown sampling backend {backend!r}; give it to register_sampler_backend first")


def sampling_from_probs_torch(
    probs: torch.Tensor, sampling_seed: torch.Tensor | None = None, positions: torch.Tensor | None = None
) -> torch.Tensor:
    """One of each row, drawn by its probabilities."""
    if sampling_seed is not None:
        raise not_covered("sampling by seeds of requests")
    return torch.multinomial(probs, num_samples=1).view(-1).to(torch.int32)


@released(_DRAWN)
def top_k_top_p_min_p_sampling_from_probs_torch(
    probs: torch.Tensor,
    top_ks: torch.Tensor,
    top_ps: torch.Tensor,
    min_ps: torch.Tensor,
    need_min_p_sampling: bool,
    sampling_seed: torch.Tensor | None,
    positions: torch.Tensor,
    *,
    return_filtered_probs: bool = False,
    max_top_k: int | None = None,
) -> torch.Tensor:
    """One of each row, drawn by its probabilities from the ``top_k`` greatest that together make up ``top_p``."""
    if return_filtered_probs or sampling_seed is not None:
        raise not_covered("sampling by seeds of requests, or with the probabilities that were drawn from")
    sorted_probs, numbers = probs.sort(dim=-1, descending=True)
    before = torch.cumsum(sorted_probs, dim=-1) - sorted_probs
    rank = torch.arange(sorted_probs.shape[-1], device=probs.device).view(1, -1)
    dropped = (rank >= top_ks.view(-1, 1)) | (before > top_ps.view(-1, 1))
    if need_min_p_sampling:
        dropped = dropped | (sorted_probs < sorted_probs[:, :1] * min_ps.view(-1, 1))
    drawn = torch.multinomial(sorted_probs.masked_fill(dropped, 0.0), num_samples=1)
    return torch.gather(numbers, 1, drawn).view(-1).to(torch.int32)
