"""Which slots come next: the arithmetic of pages, in plain torch, on the device of what it is given.

A page is ``page_size`` slots that follow each other, page 0 the padding's. A request's tokens lie in its pages in
order, so the slots of a page that is begun are filled before a new one is taken. SGLang has Triton kernels for this
where a platform says that it has Triton (from 0.5.22 on; before, always).
"""

from __future__ import annotations

from typing import Any

import torch


def alloc_extend_naive(
    prefix_lens: torch.Tensor,
    seq_lens: torch.Tensor,
    last_loc: torch.Tensor,
    free_pages: torch.Tensor,
    out_indices: torch.Tensor,
    page_size: int,
    device: Any,
) -> None:
    """Write into ``out_indices`` the slots of all tokens from ``prefix_lens`` up to ``seq_lens``, request by request.

    ``last_loc`` is the slot of each request's last token so far, ``free_pages`` has the new pages in order.
    """
    number = out_indices.shape[0]
    if number == 0:
        return
    begun = (prefix_lens + page_size - 1) // page_size
    wanted = (seq_lens + page_size - 1) // page_size - begun
    first_page = torch.cumsum(wanted, 0) - wanted
    lengths = seq_lens - prefix_lens
    start = torch.cumsum(lengths, 0) - lengths
    request = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths, output_size=number)
    # Everything that is a request's own, for each of its tokens at once.
    start, prefix, begun, first_page, last = torch.stack((start, prefix_lens, begun, first_page, last_loc))[:, request]
    position = torch.arange(number, device=device) - start + prefix
    out_indices.copy_(last + 1 + position - prefix)
    if len(free_pages):
        page = (first_page + position // page_size - begun).clamp(0, len(free_pages) - 1)
        fresh = free_pages[page] * page_size + position % page_size
        out_indices.copy_(torch.where(position < begun * page_size, out_indices, fresh))


def next_slots(
    seq_lens: torch.Tensor, last_loc: torch.Tensor, free_pages: torch.Tensor, page_size: int
) -> torch.Tensor:
    """The slot of each request's newest token, ``seq_lens`` counting it: after the last, or the first of a new page."""
    following = last_loc + 1
    if not len(free_pages):
        return following
    fresh = (seq_lens - 1) % page_size == 0
    rank = (torch.cumsum(fresh, 0) - 1).clamp(0, len(free_pages) - 1)
    return torch.where(fresh, free_pages[rank] * page_size, following)
