"""``sglang.srt.mem_cache.swa_memory_pool``: a pool of two, and before 0.5.13 who hands out its slots."""

from __future__ import annotations

from .._released import Lifetime, withdraw
from ._window_allocator import SWATokenToKVPoolAllocator
from ._window_pool import SWAKVPool

__all__ = ["SWAKVPool", "SWATokenToKVPoolAllocator"]

_ABSENT = withdraw(globals(), {"SWATokenToKVPoolAllocator": Lifetime(gone="0.5.13")})
