"""What can go wrong with an engine, beside the troubles of the memory that it stands on."""

from __future__ import annotations

from sglang_host_memory import TroubleError


class MismatchError(TroubleError):
    """The ranks make calls that do not belong together; the text says who calls what."""


class UnusableError(RuntimeError):
    """An engine that takes no calls now: another thread is in one, or it has failed, is closed or is a fork's copy."""
