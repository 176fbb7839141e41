"""One request, from its arrival to its end. Facts: SGLang 0.5.11, 0.5.16 and 0.5.23, srt/managers/schedule_batch.py."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from sglang_reference._errors import not_covered

from .._contract import since
from .._partial import Partial
from .._released import Lifetime, Parameters, released
from ..mem_cache import _requests
from ._finish import FINISH_ABORT, FINISH_LENGTH, FINISH_MATCHED_TOKEN, BaseFinishReason
from ._kv_info import ReqKvInfo
from ._placing import placed

_PARAMETERS = Parameters(
    {
        "routed_experts_start_len": Lifetime("0.5.12"),
        "return_indexer_topk": Lifetime("0.5.12"),
        "session_id": Lifetime("0.5.15"),
        "return_sampling_mask": Lifetime("0.5.16"),
        "return_flat_raw_top_logprobs": Lifetime("0.5.17"),
        "cache_salt": Lifetime("0.5.18"),
        "sampling_logprobs_mode": Lifetime("0.5.21"),
        "kv_hints": Lifetime("0.5.21"),
        "token_indices_to_pool": Lifetime("0.5.21"),
        "decision_layout": Lifetime("0.5.22"),
    }
)


@placed(
    "schedule_batch",
    check_finished=Lifetime(gone="0.5.13"),
    update_finish_state=Lifetime("0.5.13"),
    get_fill_ids=Lifetime("0.5.13"),
    refresh_fill_ids=Lifetime("0.5.22"),
    set_extend_input_len=Lifetime(gone="0.5.15"),
    owned_kv_len=Lifetime("0.5.21"),
    pop_committed_kv_cache=Lifetime(gone="0.5.16"),
    pop_overallocated_kv_cache=Lifetime(gone="0.5.16"),
)
class Req(Partial):
    """A request: what came in, what has come out, and where its keys and values are.

    ``kv`` is what it holds of the pools; its row is ``kv.req_pool_idx``. A prefill computes the tokens from
    ``prefix_len`` to ``extend_end``, of all that are known (``full_untruncated_fill_ids``).
    """

    @released(_PARAMETERS)
    def __init__(
        self,
        rid: str,
        origin_input_text: str | None,
        origin_input_ids: Sequence[int],
        sampling_params: Any,
        return_logprob: bool = False,
        top_logprobs_num: int = 0,
        dllm_config: Any = None,
        token_ids_logprob: list[int] | None = None,
        return_sampling_mask: bool = False,
        sampling_logprobs_mode: Any = "selected",
        return_flat_raw_top_logprobs: bool = False,
        stream: bool = False,
        origin_input_ids_unpadded: Any = None,
        lora_id: str | None = None,
        input_embeds: Any = None,
        positional_embed_overrides: Any = None,
        token_type_ids: Any = None,
        session: Any = None,
        custom_logit_processor: str | None = None,
        require_reasoning: bool = False,
        return_hidden_states: Any = False,
        return_routed_experts: bool = False,
        routed_experts_start_len: int = 0,
        return_indexer_topk: bool = False,
        eos_token_ids: Collection[int] | None = None,
        bootstrap_host: str | None = None,
        bootstrap_port: int | None = None,
        bootstrap_room: int | None = None,
        disagg_mode: Any = None,
        routed_dp_rank: int | None = None,
        disagg_prefill_dp_rank: int | None = None,
        kv_hints: Any = None,
        vocab_size: int | None = None,
        priority: int | None = None,
        metrics_collector: Any = None,
        extra_key: str | None = None,
        routing_key: str | None = None,
        dimensions: int | None = None,
        http_worker_ipc: str | None = None,
        time_stats: Any = None,
        return_pooled_hidden_states: bool = False,
        multi_item_delimiter_indices: list[int] | None = None,
        token_indices_to_pool: list[int] | None = None,
        decision_layout: list[int] | None = None,
        session_id: str | None = None,
        cache_salt: str | None = None,
    ) -> None:
        _refuse(
            dllm_config=dllm_config,
            return_logprob=return_logprob,
            return_sampling_mask=return_sampling_mask,
            lora_id=lora_id,
            input_embeds=input_embeds,
            positional_embed_overrides=positional_embed_overrides,
            session=session,
            custom_logit_processor=custom_logit_processor,
            return_hidden_states=return_hidden_states,
            return_routed_experts=return_routed_experts,
            return_indexer_topk=return_indexer_topk,
            token_indices_to_pool=token_indices_to_pool,
        )
        self.rid = rid
        self.origin_input_text = origin_input_text
        self.origin_input_ids = array("q", origin_input_ids)
        self.origin_input_ids_unpadded = origin_input_ids_unpadded or self.origin_input_ids
        self.output_ids: array[int] = array("q")
        self.full_untruncated_fill_ids: array[int] = array("q")
        self.extend_end = 0
        self.sampling_params = sampling_params
        self.stream = stream
        self.eos_token_ids = frozenset(eos_token_ids or ())
        self.vocab_size = vocab_size
        self.priority = priority
        self.extra_key = extra_key
        self.lora_id = lora_id
        self.kv = ReqKvInfo()
        self.last_node: Any = None
        self.lock: Any = None
        self.host_hit_length = 0
        self.skip_radix_cache_insert = False
        self.prefix_len = 0
        self.prefix_indices = torch.empty((0,), dtype=torch.int64)
        self.finished_reason: BaseFinishReason | None = None
        self.finished_len: int | None = None
        self.to_finish: BaseFinishReason | None = None
        self.inflight_middle_chunks = 0
        self.is_retracted = False
        self.retraction_count = 0
        self.cached_tokens = 0
        self.already_computed = 0
        self.extend_batch_idx = 0
        self.decode_batch_idx = 0
        for name, value in _SERVED_BY_NOTHING.items():
            setattr(self, name, value)

    @property
    def extend_len(self) -> int:
        """How many tokens this prefill computes."""
        return self.extend_end - self.prefix_len

    @property
    def seqlen(self) -> int:
        """How many tokens there are: given, and said."""
        return len(self.origin_input_ids) + len(self.output_ids)

    @property
    def is_prefill_only(self) -> bool:
        """Whether nothing is to be said."""
        return bool(self.sampling_params.max_new_tokens == 0)

    @property
    def fill_ids(self) -> array[int]:
        """The tokens up to the end of this prefill."""
        return self.full_untruncated_fill_ids[: self.extend_end]

    @property
    def extend_input_len(self) -> int:
        """How many tokens this prefill computes, as releases up to 0.5.14 name it."""
        return self.extend_len

    @property
    def grammar(self) -> None:
        """What constrains the answer: nothing here does."""
        return None

    def finished(self) -> bool:
        """Whether the request has ended."""
        return self.finished_reason is not None

    def get_fill_ids(self) -> array[int]:
        """The tokens up to the end of this prefill."""
        return self.fill_ids

    def refresh_fill_ids(self) -> None:
        """Take what has been said among the tokens that are known."""
        self._refresh()

    def _refresh(self) -> None:
        self.full_untruncated_fill_ids = self.origin_input_ids + self.output_ids

    def set_extend_input_len(self, extend_input_len: int) -> None:
        """Compute so many tokens in this prefill."""
        self.extend_end = self.prefix_len + extend_input_len

    def init_next_round_input(self, tree_cache: Any = None, cow_mamba: bool | None = None) -> None:
        """Prepare a prefill: of all tokens that are known, but those whose beginning the tree cache has.

        The last token is always computed, as the next one follows from it.
        """
        self._refresh()
        self.extend_end = len(self.full_untruncated_fill_ids)
        if tree_cache is not None:
            _requests.match(self, tree_cache, self.full_untruncated_fill_ids)

    def _compute_max_prefix_len(self, input_len: int) -> int:
        return max(input_len - 1, 0)

    def owned_kv_len(self) -> int:
        """Up to where keys and values are this request's."""
        return self._owned()

    def _owned(self) -> int:
        return self.kv.kv_committed_len

    def pop_committed_kv_cache(self) -> int:
        """Up to where keys and values are this request's, as it gives them up."""
        return self._owned()

    def pop_overallocated_kv_cache(self) -> tuple[int, int]:
        """From where to where slots were taken for nothing."""
        return self.kv.kv_committed_len, self.kv.kv_allocated_len

    def check_finished(self, new_accepted_len: int = 1) -> None:
        """Say whether the request has ended, after so many new tokens."""
        self._settle(new_accepted_len)

    def update_finish_state(self, new_accepted_len: int = 1) -> None:
        """Say whether the request has ended, after so many new tokens."""
        self._settle(new_accepted_len)

    def _settle(self, new_accepted_len: int = 1) -> None:
        if self.finished():
            return
        if self.to_finish is not None:
            self.finished_reason, self.to_finish = self.to_finish, None
            return
        ends = self.eos_token_ids | frozenset(self.sampling_params.stop_token_ids or ())
        for said, token in enumerate(self.output_ids[len(self.output_ids) - new_accepted_len :], 1):
            if token in ends and not self.sampling_params.ignore_eos:
                self.finished_reason = FINISH_MATCHED_TOKEN(matched=token)
                self.finished_len = len(self.output_ids) - new_accepted_len + said
                return
        if len(self.output_ids) >= self.sampling_params.max_new_tokens:
            self.finished_reason = FINISH_LENGTH(length=self.sampling_params.max_new_tokens)
            self.finished_len = self.sampling_params.max_new_tokens

    @released(Parameters({"status_code": Lifetime("0.5.19"), "err_type": Lifetime("0.5.19")}))
    def set_finish_with_abort(self, error_msg: str, status_code: Any = 400, err_type: str = "BadRequestError") -> None:
        """Have the request end after a prefill of one token, with this message."""
        self.origin_input_ids = array("q", self.origin_input_ids[:1] or [0])
        self.to_finish = FINISH_ABORT(error_msg, status_code, err_type)

    def reset_for_retract(self) -> None:
        """Begin anew, with what has been said so far as given: its keys and values have been taken back."""
        assert not self.kv.holds_kv, f"request {self.rid} is retracted and still holds row {self.kv.req_pool_idx}"
        self.retraction_count += 1
        self.kv = ReqKvInfo()
        self.prefix_len, self.last_node, self.lock = 0, None, None
        self.prefix_indices = torch.empty((0,), dtype=torch.int64)
        self.extend_end = 0
        self.is_retracted = True
        self.inflight_middle_chunks = 0
        self.already_computed = 0
        self.extend_batch_idx = self.decode_batch_idx = 0

    def __repr__(self) -> str:
        return f"Req(rid={self.rid}, input_ids={list(self.origin_input_ids)}, output_ids={list(self.output_ids)})"


def _of_the_pools(name: str) -> property:
    """An attribute that a request has itself in earlier releases: what ``kv`` has by that name."""

    def get(self: Req) -> Any:
        return getattr(self.kv, name)

    def put(self: Req, value: Any) -> None:
        setattr(self.kv, name, value)

    return property(get, put)


if not since("0.5.22"):
    for _name in ("req_pool_idx", "cache_protected_len", "kv_committed_len", "kv_allocated_len", "mamba_pool_idx"):
        setattr(Req, _name, _of_the_pools(_name))


_SERVED_BY_NOTHING: Mapping[str, Any] = {
    "return_logprob": False,
    "return_hidden_states": False,
    "multimodal_inputs": None,
    "input_embeds": None,
    "positional_embed_overrides": None,
    "session": None,
    "beam_group": None,
    "swa_branching_seqlen": None,
    "mamba_branching_seqlen": None,
    "last_host_node": None,
    "best_match_node": None,
    "swa_host_hit_length": 0,
    "mamba_host_hit_length": 0,
    "num_matched_prefix_tokens": 0,
}
"""What SGLang's own code asks of every request, and nothing here makes use of."""


def _refuse(**wanted: Any) -> None:
    for name, value in wanted.items():
        if value is not None and value is not False:
            raise not_covered(f"requests with {name}")
