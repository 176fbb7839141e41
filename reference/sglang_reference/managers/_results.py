"""What becomes of what was computed. Facts: SGLang 0.5.11, srt/managers/scheduler_output_processor_mixin.py; 0.5.23,
srt/managers/scheduler_components/batch_result_processor.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._contract import since
from .._partial import Partial
from ..mem_cache import _requests
from .io_struct import BatchTokenIDOutput

if TYPE_CHECKING:
    from ._batch import ScheduleBatch
    from ._request import Req
    from .utils import GenerationBatchResult


class Results(Partial):
    """The part of a scheduler that gives requests their tokens, and lets those go that have ended."""

    tree_cache: Any
    token_to_kv_pool_allocator: Any
    chunked_req: Req | None

    def process_batch_result(self, batch: ScheduleBatch, result: GenerationBatchResult) -> None:
        """Give each request its next token; what has ended gives back what it holds, and is sent out.

        After a prefill, slots are given back in one group from 0.5.18 on, where allocators copy what they keep back:
        the rows that it stands in are written to before the group ends.
        """
        tokens = result.next_token_ids.tolist()
        prefill = batch.forward_mode.is_extend()
        grouped = not prefill or since("0.5.18")
        if grouped:
            self.token_to_kv_pool_allocator.free_group_begin()
        told = [
            req for req, token in zip(batch.reqs, tokens, strict=True) if self._give(req, token, after_prefill=prefill)
        ]
        if grouped:
            self.token_to_kv_pool_allocator.free_group_end()
        self._send(told)

    def _give(self, req: Req, token: int, *, after_prefill: bool) -> bool:
        """Whether there is something new to tell of the request."""
        if req.inflight_middle_chunks > 0:
            req.inflight_middle_chunks -= 1
            return False
        if req.finished() or req.is_retracted:
            return False
        req.output_ids.append(token)
        req._settle()
        if req.finished():
            _requests.give_back(req, self.tree_cache)
        elif after_prefill:
            _requests.keep(req, self.tree_cache)
        return True

    def _send(self, reqs: list[Req]) -> None:
        """Tell of those that have ended, and of those that are told token by token."""
        self._send_finished([req for req in reqs if req.finished() or req.stream])

    def _send_finished(self, reqs: list[Req]) -> None:
        if not reqs:
            return
        self._channel.send_output(
            BatchTokenIDOutput(
                rids=[req.rid for req in reqs],
                finished_reasons=[req.finished_reason.to_json() if req.finished_reason else None for req in reqs],
                output_ids=[list(req.output_ids) for req in reqs],
                prompt_tokens=[len(req.origin_input_ids) for req in reqs],
                completion_tokens=[len(req.output_ids) for req in reqs],
                cached_tokens=[req.cached_tokens for req in reqs],
            )
        )
