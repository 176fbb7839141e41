"""``sglang.srt.mem_cache.memory_pool``: rows of slots for requests, and pools of keys and values."""

from __future__ import annotations

from typing import Any

from .._contract import since
from .._released import Lifetime, withdraw
from ._kv_pools import KVCache, MHATokenToKVPool
from ._latent_pools import DSATokenToKVPool, MLATokenToKVPool
from ._linear_pool import HybridLinearKVPool
from ._request_pool import ReqToTokenPool
from ._write_loc import KVWriteLoc

__all__ = [
    "DSATokenToKVPool",
    "HybridLinearKVPool",
    "KVCache",
    "KVWriteLoc",
    "MHATokenToKVPool",
    "MLATokenToKVPool",
    "NSATokenToKVPool",
    "ReqToTokenPool",
    "unwrap_write_loc",
]

NSATokenToKVPool = DSATokenToKVPool


def unwrap_write_loc(loc_info: Any) -> tuple[Any, ...]:
    """The slots, and those in the sliding window's pool; from 0.5.15 on also those in full attention's."""
    if isinstance(loc_info, KVWriteLoc):
        told: tuple[Any, ...] = (loc_info.loc, loc_info.swa_loc, vars(loc_info).get("full_loc"))
    else:
        told = (loc_info, None, None)
    return told if since("0.5.15") else told[:2]


_ABSENT = withdraw(
    globals(),
    {
        "DSATokenToKVPool": Lifetime("0.5.13"),
        "NSATokenToKVPool": Lifetime(gone="0.5.13"),
        "KVWriteLoc": Lifetime("0.5.14"),
        "unwrap_write_loc": Lifetime("0.5.14"),
    },
)
