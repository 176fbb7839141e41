"""``sglang.srt.model_executor.runner.shape_key``: what a captured graph is found by (0.5.14 and later)."""

from __future__ import annotations

from dataclasses import dataclass

from ..._contract import since

__all__ = ["ShapeKey"]


@dataclass(frozen=True)
class ShapeKey:
    """A number of requests in decoding, of tokens in prefill; and which of several graphs of it."""

    size: int
    stream_idx: int | None = None
    variant_label: str | None = None
    if since("0.5.20"):
        attention_variant: str | None = None
    elif since("0.5.18"):
        dsa_variant: str | None = None
