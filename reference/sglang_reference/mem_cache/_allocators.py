"""Who hands out slots: what every allocator has, and the one that hands them out one by one.

Facts: srt/mem_cache/allocator.py of SGLang 0.5.11, srt/mem_cache/allocator/{base,token}.py of 0.5.13, 0.5.17 to 0.5.23.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from .._contract import since
from .._partial import Partial
from .._released import Lifetime, Parameters, released
from ._kv_pools import COPIED
from ._placing import placed

if TYPE_CHECKING:
    from .memory_pool import KVCache

_SEGMENTS, _FULL, _DISJOINT = Lifetime("0.5.17"), Lifetime("0.5.19"), Lifetime("0.5.20")
_STATE = Lifetime(gone="0.5.17")


def home(submodule: str) -> str:
    """The module of an allocator: that of all of them before 0.5.13."""
    return f"allocator.{submodule}" if since("0.5.13") else "allocator"


@placed(
    home("base"),
    size_full=Lifetime("0.5.12"),
    backup_state=_STATE,
    restore_state=_STATE,
    resize=Lifetime("0.5.16"),
    free_segment=_SEGMENTS,
    free_segments=_SEGMENTS,
    free_full=_FULL,
    check_decode_capacity=_FULL,
    evict_to_free_tokens=_FULL,
    verify_byte_accounting=_FULL,
    free_full_segment=_DISJOINT,
    free_full_segments=_DISJOINT,
    get_all_free_pages=_DISJOINT,
    get_extend_allocation_demand=Lifetime("0.5.23"),
)
class BaseTokenToKVPoolAllocator(Partial, abc.ABC):
    """Slots of a pool of ``size``, in pages of ``page_size``; those given back go to the end of the free ones.

    Where ``need_sort``, they wait in ``release_pages`` to be sorted in. Between ``free_group_begin`` and
    ``free_group_end``, what is freed is kept back.
    """

    @abc.abstractmethod
    def __init__(
        self, size: int, page_size: int, dtype: torch.dtype, device: str, kvcache: KVCache, need_sort: bool
    ) -> None:
        self.size = size
        self.page_size = page_size
        self.dtype = dtype
        self.device = device
        self._kvcache = kvcache
        self.need_sort = need_sort
        self.free_pages: torch.Tensor | Any = None
        self.release_pages: Any = None
        self._end_group()

    def _end_group(self) -> list[torch.Tensor]:
        """Hold nothing back any longer; what was held back."""
        held = vars(self).get("free_group") or []
        self.free_group: list[torch.Tensor] | None = None if since("0.5.19") else []
        self.is_not_in_free_group = True
        return held

    def _held_back(self, free_index: torch.Tensor) -> bool:
        """Keep slots back where a group is open; whether it is."""
        if self.is_not_in_free_group or self.free_group is None:
            return False
        self.free_group.append(free_index.clone() if since("0.5.18") else free_index)
        return True

    @property
    def size_full(self) -> int:
        """How many slots there are for full attention."""
        return self.size

    def debug_print(self) -> str:
        """What an error about memory says of this allocator besides."""
        return ""

    def available_size(self) -> int:
        """How many slots are free."""
        return (len(self.free_pages) + len(self.release_pages)) * self.page_size

    def get_kvcache(self) -> KVCache:
        """The pool whose slots these are."""
        return self._kvcache

    def get_all_free_pages(self) -> torch.Tensor | None:
        """Every free page, sorted in or not."""
        return None if self.free_pages is None else torch.cat((self.free_pages, self.release_pages))

    def backup_state(self) -> Any:
        """What is free now, for ``restore_state``."""
        return self.free_pages, self.release_pages

    def restore_state(self, state: Any) -> None:
        """Make free again what was."""
        self.free_pages, self.release_pages = state

    def resize(self, config: Any) -> None:
        """Be of ``config.max_total_num_tokens`` slots, all free."""
        self.size = config.max_total_num_tokens
        if self.page_size > 1:
            self.num_pages = self.size // self.page_size
        self.clear()

    def free_group_begin(self) -> None:
        """Keep back what is freed from now on."""
        if since("0.5.19"):
            assert self.free_group is None, "free groups do not nest"
        self.is_not_in_free_group = False
        self.free_group = []

    def free_group_end(self) -> None:
        """Free at once what was kept back."""
        held = self._end_group()
        if held:
            self.free(torch.cat(held))

    def merge_and_sort_free(self) -> None:
        """Sort in what was given back."""
        if len(self.release_pages):
            self.free_pages = torch.sort(torch.cat((self.free_pages, self.release_pages)))[0]
            self.release_pages = self._none()

    def _none(self) -> torch.Tensor:
        return torch.empty((0,), dtype=torch.int64, device=self.device)

    @released(COPIED)
    def get_cpu_copy(self, indices: torch.Tensor, mamba_indices: Any = None, req_pool_index: int | None = None) -> Any:
        """A copy on the host of what some slots hold."""
        raise NotImplementedError

    @released(COPIED)
    def load_cpu_copy(
        self, kv_cache_cpu: Any, indices: torch.Tensor, mamba_indices: Any = None, req_pool_index: int | None = None
    ) -> None:
        """Put such a copy into other slots."""
        raise NotImplementedError

    def alloc_extend(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Slots for prompts, page by page: NotImplementedError where slots are handed out one by one."""
        raise NotImplementedError("alloc_extend is only for paged allocator")

    def alloc_decode(self, *args: Any, **kwargs: Any) -> NoReturn:
        """A slot for each request, page by page: NotImplementedError where slots are handed out one by one."""
        raise NotImplementedError("alloc_decode is only for paged allocator")

    def verify_byte_accounting(self) -> list[str]:
        """What does not add up; nothing, where slots are all that is counted."""
        return []

    def get_extend_allocation_demand(
        self,
        prefix_lens_cpu: torch.Tensor,
        seq_lens_cpu: torch.Tensor,
        *,
        conservative_num_tokens: int,
        shard_size: int,
    ) -> int:
        """How many slots are to be free before prompts are given theirs."""
        return conservative_num_tokens

    @released(Parameters({"requests": Lifetime("0.5.20"), "spec_algorithm": Lifetime("0.5.20")}))
    def check_decode_capacity(
        self, *, num_tokens: int, tree_cache: Any, requests: Any = None, spec_algorithm: Any = None
    ) -> bool:
        """Whether so many slots are free, once what the tree cache can do without is evicted."""
        self.evict_to_free_tokens(tree_cache, num_tokens)
        return self.available_size() >= num_tokens

    def evict_to_free_tokens(self, tree_cache: Any, num_tokens: int) -> bool | None:
        """Have the tree cache evict what lacks to so many free slots."""
        from ._sharing import evict_what_lacks

        evict_what_lacks(tree_cache, self, num_tokens)
        return None

    @abc.abstractmethod
    def clear(self) -> None:
        """Every slot is free, and nothing is kept back."""

    @abc.abstractmethod
    def alloc(self, need_size: int) -> torch.Tensor | None:
        """So many slots; None where they are not free."""

    @abc.abstractmethod
    def free(self, free_index: torch.Tensor) -> None:
        """Take slots back."""

    def free_full(self, free_index: torch.Tensor) -> None:
        """Take slots of full attention back whose part of the sliding window is free already."""
        self.free(free_index)

    def free_segment(self, free_index: torch.Tensor, *, start_pos: int) -> None:
        """Take back what a request's row holds from ``start_pos``, a page's border, on."""
        self._check_border(start_pos)
        self.free(free_index)

    def free_segments(self, segments: Iterable[tuple[torch.Tensor, int]]) -> None:
        """Take back several segments of one request's row, none of which shares a page with another."""
        for free_index, start_pos in self._apart(segments):
            self.free_segment(free_index, start_pos=start_pos)

    def free_full_segment(self, free_index: torch.Tensor, *, start_pos: int) -> None:
        """As ``free_full``, from a page's border on."""
        self._check_border(start_pos)
        self.free_full(free_index)

    def free_full_segments(self, segments: Iterable[tuple[torch.Tensor, int]]) -> None:
        """As ``free_segments``, for full attention alone."""
        for free_index, start_pos in self._apart(segments):
            self.free_full_segment(free_index, start_pos=start_pos)

    def _check_border(self, start_pos: int) -> None:
        assert start_pos % self.page_size == 0, f"position {start_pos} begins no page of {self.page_size}"

    def _apart(self, segments: Iterable[tuple[torch.Tensor, int]]) -> Iterator[tuple[torch.Tensor, int]]:
        last_page = -1
        for free_index, start_pos in segments:
            number = free_index.numel()
            if number:
                assert start_pos // self.page_size > last_page, f"position {start_pos} is in a page freed already"
                last_page = (start_pos + number - 1) // self.page_size
                yield free_index, start_pos


@placed(home("token"), free_page_ids=_DISJOINT)
class TokenToKVPoolAllocator(BaseTokenToKVPoolAllocator):
    """Slots one by one, from 1 on."""

    def __init__(self, size: int, dtype: torch.dtype, device: str, kvcache: KVCache, need_sort: bool) -> None:
        super().__init__(size, 1, dtype, device, kvcache, need_sort)
        self.clear()

    def clear(self) -> None:
        """Every slot is free, and nothing is kept back."""
        self.free_pages = torch.arange(1, self.size + 1, dtype=torch.int64, device=self.device)
        self.release_pages = self._none()
        self._end_group()

    def available_size(self) -> int:
        """How many slots are free."""
        return len(self.free_pages) + len(self.release_pages)

    def alloc(self, need_size: int) -> torch.Tensor | None:
        """So many slots; None where they are not free."""
        if self.need_sort and need_size > len(self.free_pages):
            self.merge_and_sort_free()
        if need_size > len(self.free_pages):
            return None
        taken, self.free_pages = self.free_pages[:need_size], self.free_pages[need_size:]
        return taken

    def free(self, free_index: torch.Tensor) -> None:
        """Take slots back."""
        if free_index.numel() == 0 or self._held_back(free_index):
            return
        if self.need_sort:
            self.release_pages = torch.cat((self.release_pages, free_index))
        else:
            self.free_pages = torch.cat((self.free_pages, free_index))

    def free_page_ids(self, page_ids: torch.Tensor) -> None:
        """Take slots back, which are the pages here."""
        self.free(page_ids)

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
