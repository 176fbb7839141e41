"""What is computed next, and computing it. Facts: SGLang 0.5.11, 0.5.16 and 0.5.23, srt/managers/scheduler.py."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

from .._arguments.resolving import settled
from .._contract import since
from .._partial import Partial
from .._released import Lifetime, Parameters, released
from ..mem_cache import _requests
from . import _pipeline
from ._batch import NextBatchPlan, ScheduleBatch
from ._estimates import Ratio
from .schedule_policy import AddReqResult, PrefillAdder
from .utils import GenerationBatchResult

if TYPE_CHECKING:
    from ._request import Req

logger = logging.getLogger("sglang.srt.managers.scheduler")

_PLANS = since("0.5.16")
"""Whether methods are handed the batches that they work on, and return a plan; before, they are attributes."""
_HANDED = Lifetime("0.5.16")


class Stepping(Partial):
    """The part of a scheduler that makes batches, and has them computed."""

    server_args: Any
    waiting_queue: list[Req]
    running_batch: ScheduleBatch
    last_batch: ScheduleBatch | None
    chunked_req: Req | None
    forward_ct: int
    _ratio: Ratio

    @torch.no_grad()
    def _step(self) -> tuple[ScheduleBatch | None, GenerationBatchResult | None]:
        """One step: what was computed, and what came of it; None twice where nothing was to be done."""
        batch = self._next_batch()
        result = None
        if batch is not None:
            result = _pipeline.run(self, batch) if self.pp_group.world_size > 1 else self.run_batch(batch)
            self.process_batch_result(batch, result)
        else:
            self.on_idle()
        self.last_batch = batch
        return batch, result

    def _next_batch(self) -> ScheduleBatch | None:
        batches: dict[str, Any] = {"running_batch": self.running_batch, "last_batch": self.last_batch} if _PLANS else {}
        plan: Any = self.get_next_batch_to_run(**batches)
        if not _PLANS:
            alone: ScheduleBatch | None = plan
            return alone
        self.running_batch = plan.running_batch
        next_batch: ScheduleBatch | None = plan.batch_to_run
        return next_batch

    @released(Parameters({"running_batch": _HANDED, "last_batch": _HANDED}))
    def get_next_batch_to_run(self, running_batch: ScheduleBatch, last_batch: ScheduleBatch | None) -> Any:
        """A prefill where requests wait and have room, else a step of the requests that run."""
        running = running_batch if _PLANS else self.running_batch
        last = last_batch if _PLANS else self.last_batch
        self._drop_aborted_chunk()
        if self.chunked_req is not None:
            self.stash_chunked_request(self.chunked_req)
        if last is not None and last.forward_mode.is_extend():
            running = self._join_prefilled(running, last)
        before = running.batch_size()
        running.filter_batch()
        if running.batch_size() < before or running.is_empty():
            running.batch_is_full = False
        self.running_batch = running
        prefill: Any = self.get_new_batch_prefill(**({"running_batch": running} if _PLANS else {}))
        batch: ScheduleBatch | None = prefill.batch_to_run if _PLANS else prefill
        if batch is None and not running.is_empty() and not running.is_prefill_only:
            decoding = self.update_running_batch(running)
            batch = decoding if decoding is not None and not decoding.is_empty() else None
        if _PLANS:
            return NextBatchPlan(batch_to_run=batch, running_batch=running)
        return batch

    def _join_prefilled(self, running: ScheduleBatch, last: ScheduleBatch) -> ScheduleBatch:
        """The running batch, with what the last prefill has brought to its end."""
        unfinished = [req for req in (self.chunked_req, last.chunked_req) if req is not None]
        before = last.batch_size()
        last.filter_batch(unfinished)
        if last.batch_size() < before:
            running.batch_is_full = False
        if last.is_empty():
            return running
        if running.is_empty():
            return last
        running.merge_batch(last)
        return running

    def stash_chunked_request(self, req: Req) -> None:
        """Let the tree cache have what has been computed of a request that is not at its end."""
        if req.extend_end > req.prefix_len:
            _requests.keep(req, self.tree_cache, chunked=True)

    def get_num_allocatable_reqs(self, running_bs: int, *_: Any) -> int:
        """How many requests may join ``running_bs`` running ones."""
        values = settled(self.server_args)
        each = values.pp_max_micro_batch_size or max(self.max_running_requests // values.pp_size, 1)
        return int(min(each - running_bs, self.req_to_token_pool.available_size()))

    @released(Parameters({"running_batch": _HANDED}))
    def get_new_batch_prefill(self, running_batch: ScheduleBatch) -> Any:
        """A prefill of requests that wait; none where there are none, or no room for them."""
        running = running_batch if _PLANS else self.running_batch
        batch = self._fill(running)
        return NextBatchPlan(batch_to_run=batch, running_batch=running) if _PLANS else batch

    def _fill(self, running: ScheduleBatch) -> ScheduleBatch | None:
        if (running.batch_is_full or not self.waiting_queue) and self.chunked_req is None:
            return None
        room = self._room(running)
        if room <= 0 and self.chunked_req is None:
            running.batch_is_full = True
            return None
        self.policy.calc_priority(self.waiting_queue, running)
        adder = self._adder(running)
        if self.chunked_req is not None:
            self.chunked_req.init_next_round_input()
            self.chunked_req = adder.add_chunked_req(self.chunked_req)
        for req in self.waiting_queue:
            if adder.budget_state() is AddReqResult.OTHER:
                break
            held = sum(each.kv.holds_kv for each in adder.can_run_list)
            if len(adder.can_run_list) >= room + held:
                running.batch_is_full = True
                break
            req.init_next_round_input(self.tree_cache)
            verdict = adder.add_one_req(req, has_chunked_req=self.chunked_req is not None, truncation_align_size=None)
            if verdict is not AddReqResult.CONTINUE:
                if verdict is AddReqResult.NO_TOKEN:
                    running.batch_is_full = bool(adder.can_run_list) or not running.is_empty()
                break
        return self._prefill(adder)

    def _room(self, running: ScheduleBatch) -> int:
        return self.get_num_allocatable_reqs(len(running.reqs))

    def _adder(self, running: ScheduleBatch) -> PrefillAdder:
        return PrefillAdder(
            self.page_size,
            self.tree_cache,
            self.token_to_kv_pool_allocator,
            running,
            self._ratio.current,
            self.max_prefill_tokens,
            self.chunked_prefill_size,
            max_running_requests=self.max_running_requests,
            prefill_max_requests=settled(self.server_args).prefill_max_requests,
        )

    def _prefill(self, adder: PrefillAdder) -> ScheduleBatch | None:
        if not adder.can_run_list:
            return None
        self.waiting_queue = [req for req in self.waiting_queue if req not in adder.can_run_list]
        if adder.new_chunked_req is not None:
            self.chunked_req = adder.new_chunked_req
        if self.chunked_req is not None:
            self.chunked_req.inflight_middle_chunks += 1
        batch = ScheduleBatch.init_new(
            adder.can_run_list,
            self.req_to_token_pool,
            self.token_to_kv_pool_allocator,
            self.tree_cache,
            self.model_config,
            self.enable_overlap,
            self.spec_algorithm,
            chunked_req=self.chunked_req,
        )
        batch.prepare_for_extend()
        return batch

    def update_running_batch(self, batch: ScheduleBatch) -> ScheduleBatch | None:
        """Prepare the next step of the running requests; where slots lack, some give way and wait again."""
        before = batch.batch_size()
        batch.filter_batch()
        if batch.is_empty():
            batch.batch_is_full = False
            return batch
        if batch.check_decode_mem():
            self._ratio.decay_step()
        else:
            self._retract(batch)
        if batch.batch_size() < before:
            batch.batch_is_full = False
        if not batch.is_empty():
            batch.prepare_for_decode()
        return batch

    def _retract(self, batch: ScheduleBatch) -> None:
        given = () if since("0.5.19") else (self.server_args,)
        retracted, self._ratio.current, aborted = batch.retract_decode(*given)
        logger.warning("KV cache pool is full. Retract requests. #retracted_reqs: %d", len(retracted))
        for req in aborted:
            req.update_finish_state() if since("0.5.13") else req.check_finished()
            self._send_finished([req])
        self.waiting_queue += retracted

    def run_batch(self, batch: ScheduleBatch, pp_proxy_tensors: Any = None) -> GenerationBatchResult:
        """Compute a batch; its next tokens are what it goes on with."""
        self.forward_ct += 1
        batch.forward_iter = self.forward_ct
        handed = batch if since("0.5.13") else batch.get_model_worker_batch()
        result: GenerationBatchResult = self.model_worker.forward_batch_generation(
            handed, pp_proxy_tensors=pp_proxy_tensors
        )
        if result.next_token_ids is not None:
            batch.input_ids = result.next_token_ids.to(torch.int64)
        return result
