"""Why a request has ended. Facts: SGLang 0.5.11 and 0.5.23, srt/managers/schedule_batch.py."""

from __future__ import annotations

from typing import Any

from ._placing import placed


@placed("schedule_batch")
class BaseFinishReason:
    """A reason, and how it is told."""

    def to_json(self) -> dict[str, Any]:
        """The reason as plain data."""
        raise NotImplementedError


@placed("schedule_batch")
class FINISH_MATCHED_TOKEN(BaseFinishReason):  # noqa: N801
    """The model said a token that ends a text."""

    def __init__(self, matched: int | list[int]) -> None:
        self.matched = matched

    def to_json(self) -> dict[str, Any]:
        """The token."""
        return {"type": "stop", "matched": self.matched}


@placed("schedule_batch")
class FINISH_LENGTH(BaseFinishReason):  # noqa: N801
    """As many tokens as were wanted."""

    def __init__(self, length: int) -> None:
        self.length = length

    def to_json(self) -> dict[str, Any]:
        """How many."""
        return {"type": "length", "length": self.length}


@placed("schedule_batch")
class FINISH_ABORT(BaseFinishReason):  # noqa: N801
    """The request was given up."""

    def __init__(self, message: str | None = None, status_code: Any = None, err_type: str | None = None) -> None:
        self.message = message or "Aborted"
        self.status_code = status_code
        self.err_type = err_type

    def to_json(self) -> dict[str, Any]:
        """Why, and what a server would answer."""
        return {
            "type": "abort",
            "message": self.message,
            "status_code": self.status_code,
            "err_type": self.err_type,
        }
