"""What comes in, and what is done when there is nothing to do.

Facts: SGLang 0.5.11 and 0.5.23, srt/managers/scheduler.py;
srt/managers/scheduler_runtime_checker_mixin.py (up to 0.5.12), scheduler_components/invariant_checker.py (later).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sglang_reference._errors import not_covered

from .._contract import since
from .._partial import Partial
from .._released import Lifetime, Parameters, released
from ..mem_cache import _requests

# As in SGLang, where importing the scheduler resolves the platform.
from ..platforms import current_platform
from ._finish import FINISH_ABORT
from ._request import Req
from .io_struct import AbortReq, FlushCacheReqInput, FlushCacheReqOutput, TokenizedGenerateReqInput

if TYPE_CHECKING:
    from ._batch import ScheduleBatch
    from ._estimates import Ratio

logger = logging.getLogger("sglang.srt.managers.scheduler")

_IDLE_SECONDS = 0.02
"""How long the first rank waits for something to come in where nothing is to be done."""


@dataclass(frozen=True)
class MemoryState:
    """Slots that are free, that the tree cache can give up, and that it cannot; of how many; and rows likewise."""

    available: int
    evictable: int
    protected: int
    total: int
    rows_available: int
    rows_total: int

    def leak(self) -> str:
        """What is missing while no request runs; empty where nothing is."""
        parts = []
        if self.available + self.evictable + self.protected != self.total:
            parts.append(
                f"token_to_kv_pool_allocator memory leak detected! total={self.total}, available={self.available}, "
                f"evictable={self.evictable}, protected={self.protected}"
            )
        if self.rows_available != self.rows_total:
            parts.append(
                f"req_to_token_pool memory leak detected! available_size={self.rows_available}, "
                f"total_size={self.rows_total}"
            )
        return "; ".join(parts)


class Serving(Partial):
    """The part of a scheduler that takes requests in, gives them up, and looks after memory while it is idle."""

    waiting_queue: list[Req]
    running_batch: ScheduleBatch
    last_batch: ScheduleBatch | None
    chunked_req: Req | None
    gracefully_exit: bool
    _ratio: Ratio

    def event_loop_normal(self) -> None:
        """Take in, compute, send out, until there is no more to come."""
        while not self.gracefully_exit:
            came = self._receive()
            if came is None:
                self.gracefully_exit = True
                continue
            self.process_input_requests(came)
            self._step()

    def event_loop_pp(self) -> None:
        """The same on the stages of a pipeline, which compute one batch after another."""
        self.event_loop_normal()

    @torch.no_grad()
    def run_event_loop(self) -> None:
        """Serve, on a stream of its own, until the server is shut down."""
        from . import scheduler

        module = torch.get_device_module(self.device)
        self.schedule_stream = module.Stream(priority=0)
        with module.StreamContext(self.schedule_stream):
            scheduler.dispatch_event_loop(self)

    def _receive(self) -> list[Any] | None:
        """What has come in, the same on every rank; None where the launching process has left."""
        seconds = _IDLE_SECONDS if self.is_fully_idle() else 0.0
        came: list[Any] | None = self._channel.receive(seconds)
        if self.world_group.world_size > 1:
            came = self.world_group.broadcast_object(came, src=0)
        return came

    def process_input_requests(self, recv_reqs: Sequence[Any]) -> None:
        """Do what each asks for, and answer where there is an answer."""
        for recv_req in recv_reqs:
            answer = self._dispatch(recv_req)
            if answer is not None:
                self._channel.send_output(answer, recv_req)

    def _dispatch(self, recv_req: Any) -> Any:
        if isinstance(recv_req, TokenizedGenerateReqInput):
            return self.handle_generate_request(recv_req)
        if isinstance(recv_req, AbortReq):
            return self.abort_request(recv_req)
        if isinstance(recv_req, FlushCacheReqInput):
            return FlushCacheReqOutput(success=self.flush_cache())
        if type(recv_req).__name__ == "ShutdownReq":
            return self.handle_shutdown(recv_req)
        raise not_covered(f"a request of type {type(recv_req).__name__}")

    @released(Parameters({"mm_input_error": Lifetime("0.5.19")}))
    def handle_generate_request(
        self, recv_req: TokenizedGenerateReqInput, *, mm_input_error: str | None = None
    ) -> None:
        """Have a request wait; one that is too long is answered at once."""
        req = Req(
            recv_req.rid,
            recv_req.input_text,
            recv_req.input_ids or (),
            recv_req.sampling_params,
            return_logprob=recv_req.return_logprob,
            stream=recv_req.stream,
            lora_id=recv_req.lora_id,
            input_embeds=recv_req.input_embeds,
            custom_logit_processor=recv_req.custom_logit_processor,
            return_hidden_states=recv_req.return_hidden_states,
            return_routed_experts=recv_req.return_routed_experts,
            eos_token_ids=self.model_config.hf_eos_token_id,
            vocab_size=self.model_config.vocab_size,
            priority=recv_req.priority,
            extra_key=recv_req.extra_key,
        )
        length = len(req.origin_input_ids)
        if not length or length >= self.max_req_input_len:
            limit = self.max_req_input_len
            self._refuse_request(req, f"Input length ({length} tokens) is not between 1 and {limit - 1} tokens.")
            return
        self.init_req_max_new_tokens(req)
        self.waiting_queue.append(req)

    def init_req_max_new_tokens(self, req: Req) -> None:
        """A request says at most as much as there is room for."""
        room = self.max_req_len - len(req.origin_input_ids) - 1
        given = req.sampling_params.max_new_tokens
        req.sampling_params.max_new_tokens = min(given if given is not None else 1 << 30, room)

    def _refuse_request(self, req: Req, message: str) -> None:
        req.finished_reason = FINISH_ABORT(message, 400, "BadRequestError")
        self._send_finished([req])

    def abort_request(self, recv_req: AbortReq) -> None:
        """Give requests up: those that wait at once, those that run after their next token."""
        waiting = [req for req in self.waiting_queue if _meant(recv_req, req)]
        self.waiting_queue = [req for req in self.waiting_queue if req not in waiting]
        for req in waiting:
            req.finished_reason = FINISH_ABORT()
        self._send_finished(waiting)
        for req in self._computed():
            if not req.finished() and _meant(recv_req, req):
                req.to_finish = FINISH_ABORT(recv_req.abort_message)

    def _computed(self) -> list[Req]:
        """The requests that run, or have been computed in the last step."""
        last = self.last_batch.reqs if self.last_batch is not None else []
        return [*self.running_batch.reqs, *last, *([] if self.chunked_req is None else [self.chunked_req])]

    def _drop_aborted_chunk(self) -> None:
        """Let a request go that was given up between two parts of its prefill."""
        req = self.chunked_req
        if req is None or req.to_finish is None:
            return
        req.finished_reason, req.to_finish = req.to_finish, None
        req.inflight_middle_chunks = 0
        _requests.give_back(req, self.tree_cache, kept=False)
        self.chunked_req = None
        self._send_finished([req])

    @released(Parameters({"ignore_waiting": Lifetime("0.5.21")}))
    def is_fully_idle(self, for_health_check: bool = False, ignore_waiting: bool = False) -> bool:
        """Whether no request waits or runs."""
        waits = bool(self.waiting_queue) and not ignore_waiting
        return not waits and self.chunked_req is None and all(req.finished() for req in self._computed())

    def on_idle(self) -> None:
        """While nothing runs, all memory must be there: raises ValueError where some is not."""
        if self.waiting_queue or self.chunked_req is not None or not self.running_batch.is_empty():
            return
        leak = self._memory().leak()
        if leak:
            raise ValueError(leak)
        self._ratio.reset()

    def _memory(self) -> MemoryState:
        tree = self.tree_cache
        return MemoryState(
            available=self.token_to_kv_pool_allocator.available_size(),
            evictable=tree.evictable_size(),
            protected=tree.protected_size(),
            total=self.max_total_num_tokens,
            rows_available=self.req_to_token_pool.available_size(),
            rows_total=self.req_to_token_pool.size,
        )

    def flush_cache(self, empty_cache: bool = True) -> bool:
        """Forget what the tree cache keeps; whether that could be done, which it cannot while requests are served."""
        if not self.is_fully_idle():
            logger.warning("Cache not flushed: %d requests wait, and others run", len(self.waiting_queue))
            return False
        self.last_batch = None
        self.running_batch.filter_batch()
        self.tree_cache.reset()
        self.req_to_token_pool.clear()
        self.token_to_kv_pool_allocator.clear()
        self._ratio.reset()
        if empty_cache and since("0.5.13"):
            current_platform.empty_cache()
        return True

    def handle_shutdown(self, recv_req: Any) -> None:
        """End after this."""
        self.gracefully_exit = True


def _meant(recv_req: AbortReq, req: Req) -> bool:
    return recv_req.abort_all or req.rid.startswith(recv_req.rid)
