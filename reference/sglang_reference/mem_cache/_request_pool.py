"""Rows of slots: which slots of the token pools each running request has, position by position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .._contract import since
from .._partial import Partial
from .._released import Lifetime
from ._placing import placed
from ._saving import MemorySaver

_ROWS = Lifetime("0.5.19")
_LAST_FIRST = since("0.5.18")
"""Free rows are taken from the end of the list; before, from its front."""


@placed("memory_pool", alloc_rows=_ROWS, free_rows=_ROWS, register_on_alloc_rows=Lifetime("0.5.20"))
class ReqToTokenPool(Partial):
    """For ``size`` requests of up to ``max_context_len`` tokens: ``req_to_token[row, position]`` is a slot.

    Row 0 is nobody's: what pads a batch reads and writes there. Facts: srt/mem_cache/memory_pool.py of SGLang 0.5.11,
    0.5.18, 0.5.19 and 0.5.23. A request's row is ``req.kv.req_pool_idx``.
    """

    if since("0.5.21"):
        pre_alloc_size = 0
    _on_alloc_rows: Callable[[list[int]], None] | None = None

    def __init__(self, size: int, max_context_len: int, device: str, enable_memory_saver: bool) -> None:
        MemorySaver(enable_memory_saver)
        self.size = size
        self.max_context_len = max_context_len
        self.device = device
        self.req_to_token = torch.zeros((size + 1, max_context_len), dtype=torch.int32, device=device)
        self.free_slots = list(range(1, size + 1))

    def write(self, indices: Any, values: torch.Tensor) -> None:
        """Put slots in: ``indices`` are of ``req_to_token``."""
        self.req_to_token[indices] = values

    def available_size(self) -> int:
        """How many rows are free."""
        return len(self.free_slots)

    def alloc(self, reqs: list[Any]) -> list[int] | None:
        """The row of each request, a new one for those that have none; None, and nothing done, where rows lack."""
        new = [req for req in reqs if req.kv.req_pool_idx is None]
        rows = self._take(len(new))
        if rows is None:
            return None
        for req, row in zip(new, rows, strict=True):
            req.kv.req_pool_idx = row
        return [req.kv.req_pool_idx for req in reqs]

    def free(self, req: Any) -> None:
        """Take the request's row back."""
        assert req.kv.req_pool_idx is not None, f"request {req.rid} has no row to give back"
        self.free_slots.append(req.kv.req_pool_idx)
        req.kv.req_pool_idx = None

    def alloc_rows(self, need_size: int) -> list[int] | None:
        """Rows without requests; None where so many are not free."""
        return self._take(need_size)

    def free_rows(self, indices: list[int]) -> None:
        """Take rows back that have no request."""
        self.free_slots.extend(indices)

    def register_on_alloc_rows(self, hook: Callable[[list[int]], None]) -> None:
        """Have ``hook`` called with the rows of each allocation."""
        assert self._on_alloc_rows is None, "the pool of rows already has a hook"
        self._on_alloc_rows = hook

    def clear(self) -> None:
        """Every row is free."""
        self.free_slots = list(range(1, self.size + 1))

    def _take(self, number: int) -> list[int] | None:
        if number > len(self.free_slots):
            return None
        cut = len(self.free_slots) - number if _LAST_FIRST else number
        first, last = self.free_slots[:cut], self.free_slots[cut:]
        rows, self.free_slots = (last, first) if _LAST_FIRST else (first, last)
        if rows and self._on_alloc_rows is not None:
            self._on_alloc_rows(rows)
        return rows
