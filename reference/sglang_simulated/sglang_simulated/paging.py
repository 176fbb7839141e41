"""Slots in pages, for SGLang 0.5.11 to 0.5.21: there SGLang's own allocator finds them by Triton's kernels, which the
simulated device does not have, and does not ask whether it has.
"""
# SGLang is whatever host runs the plugin, and absent where it is type-checked.
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch

_Place = tuple[int, int, int]
"""A new token, which request or page it goes by, and how far on."""


@functools.cache
def paged_allocator() -> type:
    """SGLang's allocator of pages, but for how slots are found. Made when asked for: that loads much of SGLang."""
    from sglang.srt.mem_cache.allocator import PagedTokenToKVPoolAllocator

    base: Any = PagedTokenToKVPoolAllocator

    class SimPagedTokenToKVPoolAllocator(base):  # type: ignore[misc]
        """Which slots are wanted is said on the host, from the lengths that SGLang has there; the device looks up the
        pages. Nothing waits for the device.
        """

        free_pages: torch.Tensor

        def alloc_extend(
            self,
            prefix_lens: torch.Tensor,
            prefix_lens_cpu: torch.Tensor,
            seq_lens: torch.Tensor,
            seq_lens_cpu: torch.Tensor,
            last_loc: torch.Tensor,
            *_: Any,
            **__: Any,
        ) -> torch.Tensor | None:
            """The slots of each request's tokens from its prefix on; None where pages lack."""
            return self._slots(prefix_lens_cpu.tolist(), seq_lens_cpu.tolist(), last_loc)

        def alloc_decode(
            self, seq_lens: torch.Tensor, seq_lens_cpu: torch.Tensor, last_loc: torch.Tensor, *_: Any, **__: Any
        ) -> torch.Tensor | None:
            """The slot of each request's last token; None where pages lack."""
            lengths = seq_lens_cpu.tolist()
            return self._slots([length - 1 for length in lengths], lengths, last_loc)

        def _slots(self, begin: Sequence[int], end: Sequence[int], last: torch.Tensor) -> torch.Tensor | None:
            number = sum(_pages(end, self.page_size)) - sum(_pages(begin, self.page_size))
            if number > len(self.free_pages):
                self.merge_and_sort_free()
            if number > len(self.free_pages):
                return None
            taken, self.free_pages = self.free_pages[:number], self.free_pages[number:]
            behind, within = _places(begin, end, self.page_size)
            slots = torch.empty((len(behind) + len(within),), dtype=torch.int64, device=self.device)
            for places, known, width in ((behind, last, 1), (within, taken, self.page_size)):
                if places:
                    token, which, far = torch.tensor(places, dtype=torch.int64).t().to(self.device)
                    slots[token] = known[which].to(torch.int64) * width + far
            return slots

    return SimPagedTokenToKVPoolAllocator


def _places(begin: Sequence[int], end: Sequence[int], size: int) -> tuple[list[_Place], list[_Place]]:
    """Where each new token goes, of requests from these lengths to those: so far behind the last token that its request
    has, on the same page; or so far within a page that it takes, these numbered over all requests.
    """
    behind: list[_Place] = []
    within: list[_Place] = []
    taken = 0
    for request, (first, after, had, has) in enumerate(
        zip(begin, end, _pages(begin, size), _pages(end, size), strict=True)
    ):
        for position in range(first, after):
            token = len(behind) + len(within)
            if position < had * size:
                behind.append((token, request, position - first + 1))
            else:
                within.append((token, taken + position // size - had, position % size))
        taken += has - had
    return behind, within


def _pages(lengths: Sequence[int], size: int) -> list[int]:
    """How many pages hold so many tokens."""
    return [-(-length // size) for length in lengths]
