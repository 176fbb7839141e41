"""``sglang.srt.mem_cache.base_prefix_cache``: what every cache of prefixes has."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class EvictParams:
    """How much to evict: slots of full attention, of the sliding window, and states of Mamba."""

    num_tokens: int
    swa_num_tokens: int = 0
    mamba_num: int = 0
