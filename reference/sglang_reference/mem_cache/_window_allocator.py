"""Who hands out the slots of a pool of two: the same tokens in both, until they leave the window.

Facts: srt/mem_cache/swa_memory_pool.py of SGLang 0.5.11, srt/mem_cache/allocator/swa.py of 0.5.13, 0.5.17 to 0.5.23.
"""

from __future__ import annotations

from typing import Any

import torch

from sglang_reference._errors import not_covered

from .. import platforms
from .._contract import since
from .._released import Lifetime, Parameters, released
from ..utils.common import get_num_new_pages
from ._allocators import BaseTokenToKVPoolAllocator, TokenToKVPoolAllocator
from ._kv_pools import COPIED
from ._paged_allocator import PagedTokenToKVPoolAllocator
from ._placing import placed

_STATE = Lifetime(gone="0.5.17")


@placed(
    "allocator.swa" if since("0.5.13") else "swa_memory_pool",
    backup_state=_STATE,
    restore_state=_STATE,
    set_full_to_swa_mapping=Lifetime("0.5.12"),
    new_pages_available=Lifetime("0.5.14"),
    free_full=Lifetime("0.5.19"),
    free_segment=Lifetime("0.5.20"),
    free_swa_segment=Lifetime("0.5.20"),
    free_full_segment=Lifetime("0.5.20"),
)
class SWATokenToKVPoolAllocator(BaseTokenToKVPoolAllocator):
    """An allocator for each pool; slots are told as those of full attention have them.

    From 0.5.22 on both are of the platform's class of allocators, if it has one and a page has several slots. Frees are
    not grouped by pool: a group holds back slots of full attention alone.
    """

    @released(Parameters({"req_to_token_pool": Lifetime("0.5.20")}))
    def __init__(
        self,
        size: int,
        size_swa: int,
        page_size: int,
        dtype: torch.dtype,
        device: str,
        kvcache: Any,
        need_sort: bool,
        req_to_token_pool: Any = None,
    ) -> None:
        if getattr(kvcache, "swa_req_ring_size", None) is not None:
            raise not_covered("windows that are rings of a request's own")
        self._size_full, self._size_swa = size, size_swa
        self.dtype, self.device, self.page_size, self.need_sort = dtype, device, page_size, need_sort
        self._kvcache = kvcache
        self.free_pages = self.release_pages = None
        self.full_attn_allocator = self._of(size, kvcache.full_kv_pool)
        self.swa_attn_allocator = self._of(size_swa, kvcache.swa_kv_pool)
        # One more than there are slots: the last, which -1 finds, is -1.
        self.full_to_swa_index_mapping = torch.zeros(size + page_size + 1, dtype=torch.int64, device=device)
        self.full_to_swa_index_mapping[-1] = -1
        self.clear()
        kvcache.register_mapping(self.full_to_swa_index_mapping)

    def _of(self, size: int, pool: Any) -> BaseTokenToKVPoolAllocator:
        if self.page_size == 1:
            return TokenToKVPoolAllocator(size, self.dtype, self.device, pool, self.need_sort)
        found: Any = platforms.current_platform.get_paged_allocator_cls() if since("0.5.22") else None
        made: BaseTokenToKVPoolAllocator = (found or PagedTokenToKVPoolAllocator)(
            size, self.page_size, self.dtype, self.device, pool, self.need_sort
        )
        return made

    def clear(self) -> None:
        """Every slot is free in both pools, and nothing is kept back."""
        self.full_attn_allocator.clear()
        self.swa_attn_allocator.clear()
        self.full_to_swa_index_mapping[:-1] = 0
        self._end_group()

    @property
    def size(self) -> int:  # type: ignore[override]
        """How many slots the smaller pool has."""
        return min(self._size_full, self._size_swa)

    @property
    def size_full(self) -> int:
        """How many slots there are for full attention."""
        return self._size_full

    @property
    def size_swa(self) -> int:
        """How many slots there are for the window."""
        return self._size_swa

    def available_size(self) -> int:
        """How many slots are free in both pools."""
        return min(self.full_available_size(), self.swa_available_size())

    def full_available_size(self) -> int:
        """How many slots are free for full attention."""
        return self.full_attn_allocator.available_size()

    def swa_available_size(self) -> int:
        """How many slots are free for the window."""
        return self.swa_attn_allocator.available_size()

    def debug_print(self) -> str:
        """What an error about memory says of this allocator besides."""
        return (
            f"#swa-available-size: {self.swa_available_size()}, "
            f"#full-attn-available-size: {self.full_available_size()}, "
        )

    def translate_loc_from_full_to_swa(self, kv_indices: torch.Tensor) -> torch.Tensor:
        """The numbers that slots have in the window's pool."""
        window: torch.Tensor = self._kvcache.translate_loc_from_full_to_swa(kv_indices)
        return window

    def set_full_to_swa_mapping(self, full_indices: torch.Tensor, swa_indices: torch.Tensor) -> None:
        """Say which slots of the window's pool belong to which of full attention's."""
        self._pair(full_indices, swa_indices)

    def _pair(self, full: torch.Tensor | None, window: torch.Tensor | None) -> torch.Tensor:
        assert full is not None, "a pool that had room gave no slots"
        assert window is not None, "a pool that had room gave no slots"
        self.full_to_swa_index_mapping[full] = window.to(torch.int64)
        return full

    def new_pages_available(self, num_full_pages: int, num_swa_pages: int) -> bool:
        """Whether so many pages are free in each pool."""
        return self._have(num_full_pages, num_swa_pages)

    def _have(self, full: int, window: int) -> bool:
        return (
            full <= self.full_available_size() // self.page_size
            and window <= self.swa_available_size() // self.page_size
        )

    def alloc(self, need_size: int) -> torch.Tensor | None:
        """So many slots, in both pools; None where they are not free."""
        assert self.page_size == 1, "slots are handed out one by one only where a page is one"
        if need_size > self.available_size():
            return None
        return self._pair(self.full_attn_allocator.alloc(need_size), self.swa_attn_allocator.alloc(need_size))

    def alloc_extend(  # type: ignore[override]
        self,
        prefix_lens: torch.Tensor,
        prefix_lens_cpu: torch.Tensor,
        seq_lens: torch.Tensor,
        seq_lens_cpu: torch.Tensor,
        last_loc: torch.Tensor,
        extend_num_tokens: int,
    ) -> torch.Tensor | None:
        """The slots of prompts, in both pools; None where pages lack in one."""
        pages = get_num_new_pages(seq_lens_cpu, self.page_size, prefix_lens_cpu)
        if not self._have(pages, pages):
            return None
        lens = (prefix_lens, prefix_lens_cpu, seq_lens, seq_lens_cpu)
        window_loc = self.translate_loc_from_full_to_swa(last_loc)
        full: Any = self.full_attn_allocator.alloc_extend(*lens, last_loc, extend_num_tokens)
        window: Any = self.swa_attn_allocator.alloc_extend(*lens, window_loc, extend_num_tokens)
        return self._pair(full, window)

    def alloc_decode(  # type: ignore[override]
        self, seq_lens: torch.Tensor, seq_lens_cpu: torch.Tensor, last_loc: torch.Tensor
    ) -> torch.Tensor | None:
        """A slot for each request's next token, in both pools; None where pages lack in one."""
        pages = get_num_new_pages(seq_lens_cpu, self.page_size, decode=True)
        if not self._have(pages, pages):
            return None
        window_loc = self.translate_loc_from_full_to_swa(last_loc)
        full: Any = self.full_attn_allocator.alloc_decode(seq_lens, seq_lens_cpu, last_loc)
        window: Any = self.swa_attn_allocator.alloc_decode(seq_lens, seq_lens_cpu, window_loc)
        return self._pair(full, window)

    def free(self, free_index: torch.Tensor) -> None:
        """Take slots back, and those of the window's pool that belong to them."""
        if free_index.numel() == 0 or self._held_back(free_index):
            return
        self.free_swa(free_index)
        self.full_attn_allocator.free(free_index)

    def free_swa(self, free_index: torch.Tensor) -> None:
        """Take back what belongs to these slots in the window's pool, which they have left."""
        window = self.full_to_swa_index_mapping[free_index]
        self.swa_attn_allocator.free(window[window > 0])
        self.full_to_swa_index_mapping[free_index] = 0

    def free_full(self, free_index: torch.Tensor) -> None:
        """Take slots back that have left the window."""
        self.full_attn_allocator.free(free_index)

    def free_segment(self, free_index: torch.Tensor, *, start_pos: int) -> None:
        """Take back what a request's row holds from ``start_pos``, a page's border, on."""
        self._check_border(start_pos)
        self.free(free_index)

    def free_swa_segment(self, free_index: torch.Tensor, *, start_pos: int) -> None:
        """As ``free_swa``, from a page's border on."""
        self._check_border(start_pos)
        self.free_swa(free_index)

    def free_full_segment(self, free_index: torch.Tensor, *, start_pos: int) -> None:
        """As ``free_full``, from a page's border on."""
        self._check_border(start_pos)
        self.free_full(free_index)

    def backup_state(self) -> Any:
        """What is free now in both pools, for ``restore_state``."""
        return [self.full_attn_allocator.backup_state(), self.swa_attn_allocator.backup_state()]

    def restore_state(self, state: Any) -> None:
        """Make free again what was."""
        self.full_attn_allocator.restore_state(state[0])
        self.swa_attn_allocator.restore_state(state[1])

    @released(COPIED)
    def get_cpu_copy(self, indices: torch.Tensor, mamba_indices: Any = None, req_pool_index: int | None = None) -> Any:
        """A copy on the host of what some slots hold."""
        return self._kvcache.get_cpu_copy(indices)

    @released(COPIED)
    def load_cpu_copy(
        self, kv_cache_cpu: Any, indices: torch.Tensor, mamba_indices: Any = None, req_pool_index: int | None = None
    ) -> None:
        """Put such a copy into other slots."""
        self._kvcache.load_cpu_copy(kv_cache_cpu, indices)
