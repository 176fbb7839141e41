"""``sglang.srt.managers.schedule_policy``: which waiting requests are computed next.

Facts: SGLang 0.5.11 and 0.5.23, srt/managers/schedule_policy.py. Requests are served as they came, or those first of
which the tree cache has most.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from sglang_reference._errors import not_covered

from .._contract import since
from .._partial import Partial
from .._released import Lifetime, Parameters, released
from ..mem_cache import _requests
from . import _keeping
from ._batch import ScheduleBatch
from ._estimates import wanted
from ._request import Req

_POLICIES = ("fcfs", "lpm")
_TOO_MANY = 128
"""Of more waiting requests it is not asked what the tree cache has of each."""


class SchedulePolicy(Partial):
    """The order of the waiting requests."""

    def __init__(
        self,
        policy: str,
        tree_cache: Any,
        enable_hierarchical_cache: bool,
        enable_priority_scheduling: bool,
        schedule_low_priority_values_first: bool,
    ) -> None:
        if policy not in _POLICIES:
            raise not_covered(f"the schedule policy {policy!r}")
        if enable_hierarchical_cache or enable_priority_scheduling:
            raise not_covered("scheduling by priority, or with a hierarchical cache")
        self.policy = policy
        self.tree_cache = tree_cache

    @released(Parameters({"processed_tokens": Lifetime("0.5.20")}))
    def calc_priority(
        self, waiting_queue: list[Req], running_batch: ScheduleBatch | None = None, processed_tokens: int = 0
    ) -> bool | None:
        """Put the waiting requests in order, in place; up to 0.5.12, whether their prefixes have been looked up."""
        by_prefix = (
            self.policy == "lpm" and len(waiting_queue) <= _TOO_MANY and _keeping.shares_prefixes(self.tree_cache)
        )
        if by_prefix:
            for req in waiting_queue:
                req.init_next_round_input(self.tree_cache)
            waiting_queue.sort(key=lambda req: -req.prefix_len)
        return None if since("0.5.13") else by_prefix


class AddReqResult(Enum):
    """Whether more requests may be added; if not, whether slots lack or something else."""

    CONTINUE = auto()
    NO_TOKEN = auto()
    OTHER = auto()


class PrefillAdder(Partial):
    """Fills a prefill: ``can_run_list``, of which ``new_chunked_req`` is not computed to its end.

    As many requests as have room for what they and the running ones are expected to say.
    """

    @released(Parameters({"waiting_queue_len": Lifetime("0.5.12"), "prefill_tile_block_m": Lifetime("0.5.18")}))
    def __init__(
        self,
        page_size: int,
        tree_cache: Any,
        token_to_kv_pool_allocator: Any,
        running_batch: ScheduleBatch | None,
        new_token_ratio: float,
        rem_input_tokens: int,
        rem_chunk_tokens: int | None,
        num_mixed_decode_tokens: int = 0,
        priority_scheduling_preemption_threshold: int = 0,
        max_prefill_bs: int = 0,
        max_running_requests: int | None = None,
        prefill_max_requests: int | None = None,
        prefill_delayer_single_pass: Any = None,
        dllm_config: Any = None,
        waiting_queue_len: int = 0,
        prefill_tile_block_m: int = 64,
    ) -> None:
        if num_mixed_decode_tokens or prefill_delayer_single_pass is not None or dllm_config is not None:
            raise not_covered("prefills mixed with decodes, delayed, or of diffusion models")
        self.page_size = page_size
        self.tree_cache = tree_cache
        self.token_to_kv_pool_allocator = token_to_kv_pool_allocator
        self.running_batch = running_batch
        self.rem_input_tokens = rem_input_tokens
        self.rem_chunk_tokens = rem_chunk_tokens
        self.prefill_max_requests = prefill_max_requests
        self.can_run_list: list[Req] = []
        self.preempt_list: list[Req] = []
        self.new_chunked_req: Req | None = None
        running = running_batch.reqs if running_batch is not None else []
        self._promised = sum(wanted(req, new_token_ratio) for req in running)
        self._taken = 0

    @property
    def rem_total_tokens(self) -> float:
        """How many slots are left, once all that is promised has been said."""
        return self.cur_rem_tokens - self._promised

    @property
    def cur_rem_tokens(self) -> int:
        """How many slots are left now, if the tree cache gives up all it can."""
        free: int = self.token_to_kv_pool_allocator.available_size() + self.tree_cache.evictable_size()
        return free - self._taken

    def ceil_paged_tokens(self, tokens: int) -> int:
        """Tokens in whole pages."""
        return -(-tokens // self.page_size) * self.page_size

    def budget_state(self) -> AddReqResult:
        """Whether more may be added."""
        if self.rem_total_tokens <= 0 or self.cur_rem_tokens <= 0:
            return AddReqResult.NO_TOKEN
        if self.rem_input_tokens <= 0 or (self.rem_chunk_tokens is not None and self.rem_chunk_tokens <= 0):
            return AddReqResult.OTHER
        return AddReqResult.CONTINUE

    def add_chunked_req(self, req: Req) -> Req | None:
        """Go on with a request that was not computed to its end; returns it where it still is not."""
        assert self.rem_chunk_tokens is not None
        free = self.cur_rem_tokens
        # It holds what it has so far: it must go on even where nothing seems to be free.
        most = min(self.rem_chunk_tokens, free) if free > 0 else self.rem_chunk_tokens
        left = len(req.full_untruncated_fill_ids) - req.prefix_len
        cut = left > most
        req.extend_end = req.prefix_len + (most // self.page_size * self.page_size if cut else left)
        self.can_run_list.append(req)
        self._charge(req, 0 if cut else wanted(req))
        return req if cut else None

    def add_one_req(self, req: Req, has_chunked_req: bool, truncation_align_size: int | None) -> AddReqResult:
        """Add a request, or say why not; one that is too long for this step is cut at the end of a page."""
        if self.prefill_max_requests is not None and len(self.can_run_list) >= self.prefill_max_requests:
            return AddReqResult.OTHER
        with _keeping.locked(self.tree_cache, req.last_node):
            left = len(req.full_untruncated_fill_ids) - req.prefix_len
            whole = self.ceil_paged_tokens(left)
            if not self._has_room(req, left):
                return AddReqResult.NO_TOKEN
            if self.rem_chunk_tokens is None and self.can_run_list and whole >= self.rem_input_tokens:
                return AddReqResult.OTHER
            length = left
            if self.rem_chunk_tokens is not None and whole > self.rem_chunk_tokens:
                length = self._cut(req.prefix_len, truncation_align_size)
                if length <= 0 or has_chunked_req or self.new_chunked_req is not None:
                    return AddReqResult.OTHER
                self.new_chunked_req = req
            req.extend_end = req.prefix_len + length
            _requests.hold(req, self.tree_cache)
            self.can_run_list.append(req)
            self._charge(req, wanted(req) if length == left else 0)
        return self.budget_state()

    def _has_room(self, req: Req, left: int) -> bool:
        """Whether there is room for a request, and for what it is expected to say.

        One that is alone may have all there is; SGLang would leave it waiting for a page that it does not need.
        """
        if not self.can_run_list and (self.running_batch is None or self.running_batch.is_empty()):
            return self.ceil_paged_tokens(left + int(wanted(req))) <= self.cur_rem_tokens
        room = left + wanted(req) + self.page_size < self.rem_total_tokens
        return room and self.ceil_paged_tokens(left) < self.cur_rem_tokens

    def _cut(self, prefix_len: int, align: int | None) -> int:
        """How many tokens a request that is too long gets: the end is the end of a page."""
        assert self.rem_chunk_tokens is not None
        length = self.rem_chunk_tokens // self.page_size * self.page_size
        if align is not None:
            length = length // align * align
        return (prefix_len + length) // self.page_size * self.page_size - prefix_len

    def _charge(self, req: Req, promised: float) -> None:
        tokens = self.ceil_paged_tokens(req.extend_len)
        self._taken += tokens + self.page_size
        self._promised += promised
        self.rem_input_tokens -= tokens
        if self.rem_chunk_tokens is not None:
            self.rem_chunk_tokens -= tokens
