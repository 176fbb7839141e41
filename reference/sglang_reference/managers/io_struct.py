"""``sglang.srt.managers.io_struct``: what processes say to each other.

Facts: SGLang 0.5.11 and 0.5.23, srt/managers/io_struct.py. What a request may ask for besides is refused by name where
it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .._partial import Partial
from .._released import Lifetime, withdraw


@dataclass(kw_only=True)
class BaseReq(Partial):
    """Something said of one request: ``rid`` names it."""

    rid: Any = None
    http_worker_ipc: str | None = None


@dataclass(kw_only=True)
class TokenizedGenerateReqInput(BaseReq):
    """Have tokens generated after ``input_ids``."""

    input_text: Any = None
    input_ids: Sequence[int] | None = None
    input_embeds: Any = None
    mm_inputs: Any = None
    token_type_ids: Any = None
    sampling_params: Any = None
    return_logprob: bool = False
    logprob_start_len: int = -1
    top_logprobs_num: int = 0
    token_ids_logprob: list[int] | None = None
    stream: bool = False
    return_hidden_states: Any = False
    return_routed_experts: bool = False
    session_params: Any = None
    lora_id: str | None = None
    custom_logit_processor: str | None = None
    priority: int | None = None
    extra_key: str | None = None


@dataclass(kw_only=True)
class AbortReq(BaseReq):
    """Give a request up: all whose name begins with ``rid``, or all there are."""

    abort_all: bool = False
    finished_reason: dict[str, Any] | None = None
    abort_message: str | None = None

    def __post_init__(self) -> None:
        """No name is the empty one."""
        self.rid = self.rid or ""


@dataclass(kw_only=True)
class BatchTokenIDOutput(Partial):
    """What requests have come to: ``output_ids`` are all tokens of each so far, the reason None where it goes on."""

    rids: list[str] = field(default_factory=list)
    finished_reasons: list[dict[str, Any] | None] = field(default_factory=list)
    output_ids: list[list[int]] | None = None
    prompt_tokens: list[int] = field(default_factory=list)
    completion_tokens: list[int] = field(default_factory=list)
    cached_tokens: list[int] = field(default_factory=list)


@dataclass(kw_only=True)
class FlushCacheReqInput(BaseReq):
    """Forget what is cached of requests that have ended."""


@dataclass(kw_only=True)
class FlushCacheReqOutput(BaseReq):
    """Whether that could be done."""

    success: bool


@dataclass(kw_only=True)
class ShutdownReq(BaseReq):
    """End the process, once what it does is done."""


_ABSENT = withdraw(globals(), {"ShutdownReq": Lifetime("0.5.14")})
