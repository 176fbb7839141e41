"""Acme's pool of latent attention, up to SGLang 0.5.21."""

from __future__ import annotations

from typing import Any

from sglang.srt.mem_cache.memory_pool import MLATokenToKVPool


class AcmeLatentPool(MLATokenToKVPool):
    def __init__(self, *args: Any, index_head_dim: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
