"""Which slots come next: the arithmetic of pages, in plain torch, on the device of what it is given.

A page is ``page_size`` slots that follow each other, page 0 the padding's. A request's tokens lie in its pages in
order, so the slots of a page that is begun are filled before a new one is taken. SGLang has Triton kernels for this
where a platform says that it has Triton (from 0.5.22 on; before, always).
"""

from __future__ import annotations

from typing import Any

import torch


def extended(
    prefix_lens: torch.Tensor, seq_lens: torch.Tensor, last_loc: torch.Tensor, pages: torch.Tensor, page_size: int
) -> torch.Tensor:
    """The slots of all tokens from ``prefix_lens`` up to ``seq_lens``, request by request.

    Both are on the host. ``last_loc`` has the slot of each request's last token so far, ``pages`` the new pages in
    order; they, and the slots, are on the device.
    """
    begun = -(-prefix_lens // page_size)  # how many pages each request has
    wanted = -(-seq_lens // page_size) - begun
    lengths = seq_lens - prefix_lens
    request = torch.repeat_interleave(lengths)
    nth = torch.arange(len(request)) - (torch.cumsum(lengths, 0) - lengths)[request]
    position = prefix_lens[request] + nth
    page = position // page_size
    in_last_page = page < begun[request]
    first_page = len(lengths) + torch.cumsum(wanted, 0) - wanted - begun
    start = torch.where(in_last_page, request, first_page[request] + page)
    offset = torch.where(in_last_page, nth, position % page_size)
    start, offset = torch.stack((start, offset)).to(pages.device)
    slots: torch.Tensor = _starts(last_loc, pages, page_size)[start] + offset
    return slots


def next_slots(seq_lens: torch.Tensor, last_loc: torch.Tensor, pages: torch.Tensor, page_size: int) -> torch.Tensor:
    """The slot of each request's newest token, ``seq_lens`` counting it: after the last, or the first of a new page.

    ``seq_lens`` is on the host; ``last_loc``, ``pages`` and the slots are on the device.
    """
    if not len(pages):
        return last_loc + 1
    fresh = (seq_lens - 1) % page_size == 0
    start = torch.where(fresh, len(seq_lens) - 1 + torch.cumsum(fresh, 0), torch.arange(len(seq_lens)))
    return _starts(last_loc, pages, page_size)[start.to(pages.device)]


def _starts(last_loc: torch.Tensor, pages: torch.Tensor, page_size: int) -> torch.Tensor:
    """Where slots are counted from: after each request's last one, then each new page's first."""
    return torch.cat((last_loc.to(torch.int64) + 1, pages * page_size))


def alloc_extend_naive(
    prefix_lens: torch.Tensor,
    seq_lens: torch.Tensor,
    last_loc: torch.Tensor,
    free_pages: torch.Tensor,
    out_indices: torch.Tensor,
    page_size: int,
    device: Any,
) -> None:
    """Write the slots of :func:`extended` into ``out_indices``; ``free_pages`` may have more pages than are new."""
    out_indices.copy_(extended(prefix_lens.cpu(), seq_lens.cpu(), last_loc, free_pages, page_size))
