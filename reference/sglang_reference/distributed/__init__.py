"""``sglang.srt.distributed``: what of it the reference covers, which is the choice of a backend."""

from __future__ import annotations

from .parallel_state import get_default_distributed_backend

__all__ = ["get_default_distributed_backend"]
