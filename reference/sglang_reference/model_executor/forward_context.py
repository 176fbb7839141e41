"""``sglang.srt.model_executor.forward_context``: what holds for one forward pass, as layers ask for it (from 0.5.13).

Facts: SGLang 0.5.13 and 0.5.23, srt/model_executor/forward_context.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from .._contract import since
from .._released import Lifetime, Parameters, released

__all__ = [
    "ForwardContext",
    "forward_context",
    "get_attn_backend",
    "get_forward_context",
    "get_req_to_token_pool",
    "get_token_to_kv_pool",
    "has_forward_context",
    "set_forward_context",
]

if since("0.5.23"):

    @dataclass(frozen=True, slots=True)
    class ForwardContext:
        """The attention backend of this pass, and how many tokens of it are real, as the experts ask."""

        attn_backend: Any
        moe_num_token_non_padded: Callable[[], torch.Tensor | None] | None = None

else:

    @dataclass(frozen=True, slots=True)
    class ForwardContext:  # type: ignore[no-redef]
        """The attention backend of this pass."""

        attn_backend: Any


_current: ForwardContext | None = None


def set_forward_context(ctx: ForwardContext | None) -> ForwardContext | None:
    """Put a context in place; returns what was there."""
    global _current
    before, _current = _current, ctx
    return before


def has_forward_context() -> bool:
    """Whether a pass is running."""
    return _current is not None


def get_forward_context() -> ForwardContext:
    """The pass that is running; AssertionError where none is."""
    assert _current is not None, "no forward pass is running: enter forward_context(ForwardContext(...)) first"
    return _current


def get_attn_backend() -> Any:
    """The attention backend of the pass that is running."""
    return get_forward_context().attn_backend


def get_token_to_kv_pool() -> Any:
    """The pool of keys and values that its backend has."""
    return get_attn_backend().token_to_kv_pool


def get_req_to_token_pool() -> Any:
    """The pool of requests that its backend has."""
    return get_attn_backend().req_to_token_pool


@contextmanager
@released(Parameters({"forward_batch": Lifetime("0.5.23")}))
def forward_context(ctx: ForwardContext, *, forward_batch: Any = None) -> Iterator[None]:
    """A context for a while, then what was there before."""
    before = set_forward_context(ctx)
    try:
        yield
    finally:
        set_forward_context(before)
