"""The launching process's end of the line to the first rank: requests out, tokens in."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from sglang_reference import _lines

from .._partial import Partial
from ..managers.io_struct import (
    AbortReq,
    BatchTokenIDOutput,
    FlushCacheReqInput,
    FlushCacheReqOutput,
    TokenizedGenerateReqInput,
)
from ..sampling.sampling_params import SamplingParams

_LOOK_SECONDS = 0.1
"""How long it is listened before it is looked whether the ranks still live."""
_CAUSE_SECONDS = 5.0


class Client(Partial):
    """What SGLang's engine has as ``tokenizer_manager``: here, prompts are tokens already."""

    def __init__(self, connection: _lines.Connection[Any, Any], check: Callable[[], None], vocabulary: int) -> None:
        self._connection = connection
        self._check = check
        self._vocabulary = vocabulary
        self._count = itertools.count()
        self._own = uuid.uuid4().hex[:8]

    def new_rid(self) -> str:
        """A name for a request."""
        return f"{self._own}-{next(self._count)}"

    def submit(self, rid: str, input_ids: Sequence[int], sampling_params: Mapping[str, Any]) -> None:
        """Send a request. Raises ValueError for sampling parameters that make no sense."""
        params = SamplingParams(**sampling_params)
        params.normalize(None)
        params.verify(self._vocabulary)
        self._send(TokenizedGenerateReqInput(rid=rid, input_ids=list(input_ids), sampling_params=params))

    def abort_request(self, rid: str = "", abort_all: bool = False) -> None:
        """Give up the requests whose names begin so, or all."""
        self._send(AbortReq(rid=rid, abort_all=abort_all))

    def flush_cache(self, seconds: float) -> FlushCacheReqOutput:
        """Have the ranks forget what they keep of requests that have ended."""
        self._send(FlushCacheReqInput())
        while True:
            came = self._next(time.monotonic() + seconds, "the cache to be flushed")
            if isinstance(came, FlushCacheReqOutput):
                return came

    def collect(self, rids: Sequence[str], seconds: float) -> list[dict[str, Any]]:
        """What has come of these requests, once all have ended.

        Raises TimeoutError where they have not after so long, and RuntimeError where a rank has failed.
        """
        end = time.monotonic() + seconds
        found: dict[str, dict[str, Any]] = {}
        while not all(rid in found for rid in rids):
            missing = [rid for rid in rids if rid not in found]
            came = self._next(end, f"{len(missing)} of {len(rids)} requests")
            if isinstance(came, BatchTokenIDOutput):
                found |= {answer["meta_info"]["id"]: answer for answer in _answers(came)}
        return [found[rid] for rid in rids]

    def close(self) -> None:
        """Leave: the ranks end."""
        self._connection.close()

    def _next(self, end: float, what: str) -> Any:
        while not self._connection.poll(min(_LOOK_SECONDS, max(0.0, end - time.monotonic()))):
            self._check()
            if time.monotonic() >= end:
                raise TimeoutError(f"still waiting for {what}")
        try:
            return self._connection.recv()
        except (EOFError, ConnectionError):
            self._lost()

    def _send(self, message: Any) -> None:
        try:
            self._connection.send(message)
        except ConnectionError:
            self._lost()

    def _lost(self) -> NoReturn:
        """Raise what the first rank has ended of, which may come to be known a little later."""
        end = time.monotonic() + _CAUSE_SECONDS
        while time.monotonic() < end:
            self._check()
            time.sleep(_LOOK_SECONDS / 10)
        raise RuntimeError("the first rank has closed the line")


def _answers(output: BatchTokenIDOutput) -> list[dict[str, Any]]:
    """Those that have ended, in SGLang's form."""
    assert output.output_ids is not None
    return [
        {
            "output_ids": output.output_ids[place],
            "meta_info": {
                "id": rid,
                "finish_reason": output.finished_reasons[place],
                "prompt_tokens": output.prompt_tokens[place],
                "completion_tokens": output.completion_tokens[place],
                "cached_tokens": output.cached_tokens[place],
            },
        }
        for place, rid in enumerate(output.rids)
        if output.finished_reasons[place] is not None
    ]
