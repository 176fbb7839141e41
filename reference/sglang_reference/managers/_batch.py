"""Requests that are computed together. Facts: SGLang 0.5.11, 0.5.16 and 0.5.23, srt/managers/schedule_batch.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from .._partial import Partial
from .._released import Lifetime, Parameters, Renamed, released
from ..model_executor.forward_batch_info import ForwardMode
from ..sampling.sampling_batch_info import SamplingBatchInfo
from . import _keeping, _retraction
from ._placing import placed
from ._request import Req


@dataclass
class _Inputs(Partial):
    """What a forward pass is made of: one entry a request, and ``input_ids`` one a token.

    ``seq_lens_cpu`` and ``req_pool_indices_cpu`` are the same values on the host.
    """

    reqs: list[Req] = field(default_factory=list)
    model_config: Any = None
    device: str = "cpu"
    forward_mode: Any = None
    input_ids: Any = None
    req_pool_indices: Any = None
    req_pool_indices_cpu: Any = None
    seq_lens: Any = None
    seq_lens_cpu: Any = None
    orig_seq_lens: Any = None
    seq_lens_sum: int | None = None
    out_cache_loc: Any = None
    prefix_lens: list[int] | None = None
    extend_lens: list[int] | None = None
    extend_num_tokens: int | None = None
    extend_logprob_start_lens: list[int] | None = None
    extend_input_logprob_token_ids: Any = None
    return_logprob: bool = False
    top_logprobs_nums: list[int] | None = None
    token_ids_logprobs: list[list[int]] | None = None
    return_hidden_states: bool = False
    sampling_info: Any = None
    spec_algorithm: Any = None
    spec_info: Any = None
    input_embeds: Any = None
    multimodal_inputs: list[Any] | None = None
    is_prefill_only: bool = False
    is_extend_in_batch: bool = False
    global_num_tokens: list[int] | None = None
    can_run_dp_cuda_graph: bool = False
    has_grammar: bool = False


@dataclass
class ModelWorkerBatch(_Inputs):
    """What the worker is handed, up to 0.5.12: a batch without what schedules it, and with names of its own."""

    extend_seq_lens: list[int] | None = None
    extend_prefix_lens: list[int] | None = None


@placed("schedule_batch", get_model_worker_batch=Lifetime(gone="0.5.13"), retract_all=Lifetime(gone="0.5.16"))
@dataclass
class ScheduleBatch(_Inputs):
    """A batch, as the scheduler keeps it from step to step; a decode batch grows and shrinks."""

    req_to_token_pool: Any = None
    token_to_kv_pool_allocator: Any = None
    tree_cache: Any = None
    enable_overlap: bool = False
    batch_is_full: bool = False
    chunked_req: Req | None = None
    decoding_reqs: list[Req] | None = None
    forward_iter: int | None = None
    hisparse_coordinator: Any = None

    @classmethod
    def init_new(
        cls,
        reqs: list[Req],
        req_to_token_pool: Any,
        token_to_kv_pool_allocator: Any,
        tree_cache: Any,
        model_config: Any,
        enable_overlap: bool,
        spec_algorithm: Any,
        chunked_req: Req | None = None,
        dllm_config: Any = None,
    ) -> ScheduleBatch:
        """A batch of these requests, of which ``chunked_req`` is not computed to its end."""
        return cls(
            reqs=reqs,
            req_to_token_pool=req_to_token_pool,
            token_to_kv_pool_allocator=token_to_kv_pool_allocator,
            tree_cache=tree_cache,
            model_config=model_config,
            enable_overlap=enable_overlap,
            # With its index, which SGLang leaves out: what is copied there lands on the rank's own device either way.
            device=str(req_to_token_pool.req_to_token.device),
            spec_algorithm=spec_algorithm,
            is_prefill_only=all(req.is_prefill_only for req in reqs),
            chunked_req=chunked_req,
        )

    def batch_size(self) -> int:
        """How many requests."""
        return len(self.reqs)

    def is_empty(self) -> bool:
        """Whether there are none."""
        return not self.reqs

    def is_dllm(self) -> bool:
        """Whether the model is a diffusion model: none here is."""
        return False

    def prepare_for_extend(self) -> None:
        """Take rows and slots for the tokens of this prefill, and lay out what goes in."""
        self.forward_mode = ForwardMode.EXTEND
        lengths = [req.extend_end for req in self.reqs]
        self.prefix_lens = [req.prefix_len for req in self.reqs]
        self.extend_lens = [req.extend_len for req in self.reqs]
        self.extend_num_tokens = sum(self.extend_lens)
        self.extend_logprob_start_lens = list(self.extend_lens)
        self.seq_lens_cpu = torch.tensor(lengths, dtype=torch.int64)
        self.seq_lens = self.seq_lens_cpu.to(self.device, non_blocking=True)
        given = [max(req.extend_end, len(req.origin_input_ids)) for req in self.reqs]
        self.orig_seq_lens = torch.tensor(given, dtype=torch.int32).to(self.device, non_blocking=True)
        self.seq_lens_sum = sum(lengths)
        self.out_cache_loc, self.req_pool_indices, self.req_pool_indices_cpu = _keeping.alloc_for_extend(self)
        tokens = [token for req in self.reqs for token in req.fill_ids[req.prefix_len :]]
        self.input_ids = torch.tensor(tokens, dtype=torch.int64).to(self.device, non_blocking=True)
        for req in self.reqs:
            req.extend_batch_idx += 1
            if not req.retraction_count:
                req.cached_tokens += req.prefix_len - req.already_computed
                req.already_computed = req.extend_end
            req.is_retracted = False
        self.multimodal_inputs = [None] * len(self.reqs)
        self.sampling_info = SamplingBatchInfo.from_schedule_batch(self, self.model_config.vocab_size)

    def prepare_for_decode(self) -> None:
        """Take a slot for the next token of each request; ``input_ids`` are those that were said last."""
        self.forward_mode = ForwardMode.DECODE
        self.input_embeds = None
        self.out_cache_loc = _keeping.alloc_for_decode(self)
        for req in self.reqs:
            req.decode_batch_idx += 1
        self.seq_lens = self.seq_lens + 1
        self.seq_lens_cpu = self.seq_lens_cpu + 1
        self.orig_seq_lens = self.orig_seq_lens + 1
        self.seq_lens_sum = int(self.seq_lens_cpu.sum())
        self.prefix_lens = self.extend_lens = self.extend_num_tokens = None

    @released(
        Parameters(
            {"v1_spec_info_filtered": Lifetime(gone="0.5.14")},
            renamed={"reqs_to_exclude": Renamed("chunked_req_to_exclude", "0.5.22")},
        )
    )
    def filter_batch(
        self,
        reqs_to_exclude: Req | Sequence[Req] | None = None,
        keep_indices: list[int] | None = None,
        v1_spec_info_filtered: bool = False,
    ) -> None:
        """Keep the requests of these places, or those that have not ended and are not excluded."""
        excluded = [reqs_to_exclude] if isinstance(reqs_to_exclude, Req) else list(reqs_to_exclude or ())
        if keep_indices is None:
            keep_indices = [place for place, req in enumerate(self.reqs) if not req.finished() and req not in excluded]
        if not keep_indices:
            self.reqs = []
            return
        if len(keep_indices) == len(self.reqs):
            return
        on_device = torch.tensor(keep_indices, dtype=torch.int64).to(self.device, non_blocking=True)
        self.reqs = [self.reqs[place] for place in keep_indices]
        self.req_pool_indices = self.req_pool_indices[on_device]
        self.req_pool_indices_cpu = self.req_pool_indices_cpu[keep_indices]
        self.seq_lens = self.seq_lens[on_device]
        self.seq_lens_cpu = self.seq_lens_cpu[keep_indices]
        self.orig_seq_lens = self.orig_seq_lens[on_device]
        self.out_cache_loc = self.seq_lens_sum = None
        self.multimodal_inputs = [None] * len(self.reqs)
        if self.input_ids is not None:
            self.input_ids = self.input_ids[on_device]
        self.sampling_info.filter_batch(keep_indices, on_device)

    def merge_batch(self, other: ScheduleBatch) -> None:
        """Take the requests of another batch in, behind these."""
        self.sampling_info.merge_batch(other.sampling_info)
        for name in (
            "req_pool_indices",
            "req_pool_indices_cpu",
            "seq_lens",
            "seq_lens_cpu",
            "orig_seq_lens",
            "input_ids",
        ):
            setattr(self, name, torch.cat([getattr(self, name), getattr(other, name)]))
        self.out_cache_loc = self.seq_lens_sum = None
        self.reqs = self.reqs + other.reqs
        self.multimodal_inputs = [None] * len(self.reqs)
        self.is_prefill_only = self.is_prefill_only and other.is_prefill_only

    def new_tokens_required_next_decode(self, selected_indices: list[int] | None = None) -> int:
        """How many slots the next tokens take: whole pages, of requests whose last one is full."""
        page_size: int = self.token_to_kv_pool_allocator.page_size
        return page_size * sum(req.kv.kv_committed_len % page_size == 0 for req in self._selected(selected_indices))

    def check_decode_mem(self, selected_indices: list[int] | None = None) -> bool:
        """Whether there are slots for the next tokens; the tree cache gives up what it must."""
        needed = self.new_tokens_required_next_decode(selected_indices)
        return _keeping.has_room(self, needed, self._selected(selected_indices))

    def _selected(self, indices: list[int] | None) -> list[Req]:
        return self.reqs if indices is None else [self.reqs[place] for place in indices]

    @released(Parameters({"server_args": Lifetime(gone="0.5.19")}))
    def retract_decode(self, server_args: Any) -> tuple[list[Req], float, list[Req]]:
        """Take back what requests hold until the next tokens of the others have room.

        Returns the requests that begin anew, the share of the tokens wanted that is expected of the others, and the
        request that has no room even alone.
        """
        return _retraction.retract_decode(self)

    @released(Parameters({"server_args": Lifetime(gone="0.5.16")}))
    def retract_all(self, server_args: Any) -> list[Req]:
        """Take back what all requests hold; returns them."""
        taken = list(self.reqs)
        for place in range(len(taken)):
            _retraction.take_back(self, taken[place], len(taken) - place)
        self.filter_batch(keep_indices=[])
        return taken

    @released(Parameters({"server_args": Lifetime(gone="0.5.19"), "offload_kv": Lifetime("0.5.18")}))
    def release_req(self, idx: int, remaing_req_count: int, server_args: Any, offload_kv: bool = True) -> bool:
        """Take back what a request holds; it begins anew."""
        _retraction.take_back(self, self.reqs[idx], remaing_req_count)
        return True

    def maybe_evict_swa(self) -> None:
        """Give back what has left a sliding window: no model here has one."""

    def get_model_worker_batch(self, seq_lens_cpu_cache: Any = None) -> ModelWorkerBatch:
        """What the worker is handed."""
        same = {each.name: getattr(self, each.name) for each in dataclasses.fields(_Inputs)}
        return ModelWorkerBatch(**same, extend_seq_lens=self.extend_lens, extend_prefix_lens=self.prefix_lens)

    def copy(self) -> ScheduleBatch:
        """The same, with a list of requests of its own."""
        return dataclasses.replace(self, reqs=self.reqs[:])

    def __str__(self) -> str:
        return f"ScheduleBatch(forward_mode={self.forward_mode}, #req={len(self.reqs)})"


@placed("schedule_batch")
@dataclass
class NextBatchPlan:
    """What is computed next, and the batch that decodes."""

    batch_to_run: ScheduleBatch | None
    running_batch: ScheduleBatch


ModelWorkerBatch.__module__ = ScheduleBatch.__module__
