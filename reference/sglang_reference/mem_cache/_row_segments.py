"""Parts of a request's row: the slots from one position up to another."""

from __future__ import annotations

from typing import Any

import torch

from .._contract import since


def segments_of(row: torch.Tensor, ranges: list[tuple[int, int]]) -> list[tuple[torch.Tensor, int]]:
    """The slots of each range of positions, ranges that touch made one, with the position that each begins at."""
    joined: list[tuple[int, int]] = []
    for start, end in ranges:
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]
        joined.append((start, end))
    return [(row[start:end], start) for start, end in joined]


def free_one(allocator: Any, row: torch.Tensor, start: int, end: int) -> None:
    """Give back what a row has from ``start`` up to ``end``, as the release does: as a segment from 0.5.17 on."""
    if since("0.5.17"):
        allocator.free_segment(row[start:end], start_pos=start)
    else:
        allocator.free(row[start:end])


def free_several(allocator: Any, row: torch.Tensor, ranges: list[tuple[int, int]]) -> None:
    """Give back several parts of a row, in order: at once from 0.5.17 on, before one by one."""
    if since("0.5.17"):
        allocator.free_segments([(row[start:end], start) for start, end in ranges])
        return
    for start, end in ranges:
        allocator.free(row[start:end])
