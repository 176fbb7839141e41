"""The groups of a rank, asked for as each release's own core does: in the context from 0.5.21 on, else by functions."""

from __future__ import annotations

from typing import Any

from .._contract import since
from . import parallel_state


def group(kind: str) -> Any:
    """The group of that kind: ``world``, ``tp``, ``pp``, ``attn_tp``."""
    if since("0.5.21"):
        from ..runtime_context import get_parallel

        return getattr(get_parallel(), f"{kind}_group")
    return getattr(parallel_state, f"get_{kind}_group")()
