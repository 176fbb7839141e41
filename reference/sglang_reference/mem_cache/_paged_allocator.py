"""Who hands out slots page by page.

Facts: srt/mem_cache/allocator.py of SGLang 0.5.11, srt/mem_cache/allocator/paged.py of 0.5.13, 0.5.17, 0.5.20, 0.5.23.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from .._contract import since
from .._released import Lifetime, Parameters, released
from ..utils.common import get_num_new_pages
from ._allocators import BaseTokenToKVPoolAllocator, home
from ._kv_pools import COPIED
from ._page_slots import extended, next_slots
from ._placing import placed

if TYPE_CHECKING:
    from .memory_pool import KVCache

_SEGMENTS, _STAGED = Lifetime("0.5.17"), Lifetime("0.5.20")


@placed(
    home("paged"),
    free_segment=_SEGMENTS,
    free_group_begin=_SEGMENTS,
    free_group_end=_SEGMENTS,
    available_size=_STAGED,
    free_page_ids=_STAGED,
    get_all_free_pages=_STAGED,
    merge_and_sort_free=_STAGED,
)
class PagedTokenToKVPoolAllocator(BaseTokenToKVPoolAllocator):
    """Slots page by page, from page 1 on; a page is nobody else's while one of its slots is in use.

    With SGLANG_DEBUG_MEMORY_POOL, it checks what it is given and holds, as SGLang does.
    """

    def __init__(
        self, size: int, page_size: int, dtype: torch.dtype, device: str, kvcache: KVCache, need_sort: bool
    ) -> None:
        super().__init__(size, page_size, dtype, device, kvcache, need_sort)
        self.num_pages = size // page_size
        self.debug_mode = os.environ.get("SGLANG_DEBUG_MEMORY_POOL", "false").lower() in ("true", "1")
        self.clear()

    def clear(self) -> None:
        """Every page is free, and nothing is kept back."""
        self.free_pages = torch.arange(1, self.num_pages + 1, dtype=torch.int64, device=self.device)
        self._end_group()
        self.free_page_ids_group: list[torch.Tensor] = []
        if since("0.5.20"):
            self.staged_pages: list[torch.Tensor] = []
            self.num_staged_pages = 0
        else:
            self.release_pages = self._none()

    def available_size(self) -> int:
        """How many slots are free."""
        return (len(self.free_pages) + self.num_staged_pages) * self.page_size

    def get_all_free_pages(self) -> torch.Tensor:
        """Every free page, sorted in or not."""
        return torch.cat((self.free_pages, *self.staged_pages))

    def merge_and_sort_free(self) -> None:
        """Sort in what was given back."""
        if self.staged_pages:
            self.free_pages = torch.sort(self.get_all_free_pages())[0]
            self.staged_pages, self.num_staged_pages = [], 0

    def _take(self, pages: int, at_most: int) -> torch.Tensor | None:
        """So many free pages; what was given back is sorted in first where ``at_most`` might be wanted and lack."""
        if at_most > len(self.free_pages) and (self.need_sort or since("0.5.20")):
            self.merge_and_sort_free()
        if pages > len(self.free_pages):
            return None
        taken, self.free_pages = self.free_pages[:pages], self.free_pages[pages:]
        return taken

    def alloc(self, need_size: int) -> torch.Tensor | None:
        """The slots of whole pages, as many as ``need_size`` fills; None where they are not free."""
        if self.debug_mode:
            assert need_size % self.page_size == 0, f"{need_size} slots are not whole pages of {self.page_size}"
        number = need_size // self.page_size
        pages = self._take(number, number)
        if pages is None:
            return None
        return (pages[:, None] * self.page_size + torch.arange(self.page_size, device=self.device)).reshape(-1)

    @released(Parameters({"num_new_pages": Lifetime("0.5.12")}))
    def alloc_extend(  # type: ignore[override]
        self,
        prefix_lens: torch.Tensor,
        prefix_lens_cpu: torch.Tensor,
        seq_lens: torch.Tensor,
        seq_lens_cpu: torch.Tensor,
        last_loc: torch.Tensor,
        extend_num_tokens: int,
        num_new_pages: int | None = None,
    ) -> torch.Tensor | None:
        """The slots of the tokens from ``prefix_lens`` to ``seq_lens``, request by request; None where pages lack.

        ``last_loc`` is the slot of each request's last token so far, -1 where it has none.
        """
        if self.debug_mode:
            assert torch.all((last_loc + 1) % self.page_size == prefix_lens % self.page_size), (
                "last_loc is not the last"
            )
        if num_new_pages is None:
            num_new_pages = get_num_new_pages(seq_lens_cpu, self.page_size, prefix_lens_cpu)
        pages = self._take(num_new_pages, extend_num_tokens // self.page_size + len(prefix_lens) + 1)
        if pages is None:
            return None
        return extended(prefix_lens_cpu, seq_lens_cpu, last_loc, pages, self.page_size)

    def alloc_decode(  # type: ignore[override]
        self, seq_lens: torch.Tensor, seq_lens_cpu: torch.Tensor, last_loc: torch.Tensor
    ) -> torch.Tensor | None:
        """A slot for each request's next token, which ``seq_lens`` counts; None where pages lack."""
        if self.debug_mode:
            assert torch.all((last_loc + 2) % self.page_size == seq_lens % self.page_size), "last_loc is not the last"
        pages = self._take(get_num_new_pages(seq_lens_cpu, self.page_size, decode=True), len(seq_lens))
        return None if pages is None else next_slots(seq_lens_cpu, last_loc, pages, self.page_size)

    def free(self, free_index: torch.Tensor) -> None:
        """Take back every page that one of these slots is in."""
        if free_index.numel() == 0 or self._held_back(free_index):
            return
        self._give_back(torch.unique(free_index // self.page_size))

    def free_segment(self, free_index: torch.Tensor, *, start_pos: int) -> None:
        """Take back the pages of what a request's row holds from ``start_pos``, a page's border, on."""
        self._check_border(start_pos)
        pages = free_index[:: self.page_size] // self.page_size
        if pages.numel():
            self._free_pages(pages)

    def free_page_ids(self, page_ids: torch.Tensor) -> None:
        """Take back these pages, each named once."""
        if page_ids.numel():
            self._free_pages(page_ids)

    def _free_pages(self, pages: torch.Tensor) -> None:
        if self.is_not_in_free_group:
            self._give_back(pages)
        else:
            self.free_page_ids_group.append(pages.clone())

    def _give_back(self, pages: torch.Tensor) -> None:
        if not self.need_sort:
            self.free_pages = torch.cat((pages, self.free_pages))
        elif since("0.5.20"):
            self.staged_pages.append(pages)
            self.num_staged_pages += len(pages)
        else:
            self.release_pages = torch.cat((pages, self.release_pages))
        if self.debug_mode:
            free = self.get_all_free_pages() if since("0.5.20") else self.free_pages
            assert len(torch.unique(free)) == len(free), "a page was given back twice"

    def free_group_begin(self) -> None:
        """Keep back what is freed from now on."""
        super().free_group_begin()
        self.free_page_ids_group = []

    def free_group_end(self) -> None:
        """Free at once what was kept back."""
        super().free_group_end()
        held, self.free_page_ids_group = self.free_page_ids_group, []
        if held:
            self._give_back(torch.cat(held))

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
