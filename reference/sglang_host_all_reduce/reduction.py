"""How sums are made in the memory that ranks share.

Small tensors in one shot: each rank lays its own down and adds up all of them. Large ones in two, tile by tile: each
rank lays down the shares of the others, adds up its own share, and takes the sums of the others. While one tile is
added up the next is laid down already, so that each step does something for up to three tiles, and ends in one wait.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

from sglang_host_memory import Layout, Segment

from .arithmetic import Arithmetic
from .regions import Regions
from .shares import Tile, share_bytes, tiles

ONE_SHOT = 1 << 17
"""Bytes up to which a tensor is summed in one shot."""

TILE = 1 << 20
"""Bytes of the largest tile."""

_MOST_VIEWS = 64

_copy = ctypes.memmove


def layout(size: int) -> Layout:
    """The memory of so many ranks: in each buffer a tile, then the sum of a share."""
    return Layout(size, TILE + share_bytes(TILE, size))


class Plan:
    """What all sums of so many elements of one type have in common; ``what`` tells them apart from other calls."""

    def __init__(self, segment: Segment, arithmetic: Arithmetic, count: int, what: int) -> None:
        self.what = what
        self.count = count
        self.width = arithmetic.width
        self.length = count * arithmetic.width
        self.add: Callable[[Any, Sequence[Any]], None] = arithmetic.add
        self.view = arithmetic.view
        self._views: dict[int, Any] = {}
        size, odds, small = segment.layout.size, (0, 1), self.length <= ONE_SHOT
        self.own = [segment.buffer(segment.rank, odd) for odd in odds]
        room = count if small else TILE // self.width
        self.tiles = () if small else tiles(count, room, size, self.width)
        self.rooms = [[self.view(segment.buffer(place, odd), room) for place in range(size)] for odd in odds]
        share = share_bytes(TILE, size)
        self.sums = [self.view(own + TILE, share // self.width) for own in self.own]
        self.sums_at = [[segment.buffer(place, odd) + TILE for place in range(size)] for odd in odds]

    def at(self, address: int) -> Any:
        """The elements at an address."""
        found = self._views.get(address)
        if found is None:
            if len(self._views) >= _MOST_VIEWS:
                self._views.clear()
            found = self._views[address] = self.view(address, self.count)
        return found


Agree = Callable[[int, int, int], None]
"""Publishes the step with what it begins and what is said beside it, and ends once all have said the same."""


def in_one_shot(segment: Segment, plan: Plan, source: int, target: int, agree: Agree) -> None:
    """Sum what lies at ``source`` on every rank, to ``target``."""
    odd = segment.begin() & 1
    _copy(plan.own[odd], source, plan.length)
    agree(plan.what, plan.count, 0)
    if plan.count:
        plan.add(plan.at(target), plan.rooms[odd])


def in_two_shots(segment: Segment, regions: Regions, plan: Plan, source: int, target: int, agree: Agree) -> None:
    """The same tile by tile; what lies in a region on all ranks is read where it is, until all have done so."""
    work = _Tiled(segment, plan, source, target)
    claim, tiles = regions.claim(source, plan.length), plan.tiles
    step = segment.begin()
    if not claim:
        work.lay_down(tiles[0], step)
    agree(plan.what, plan.count, claim)
    claims = [segment.said_by(place)[2] for place in range(segment.layout.size)]
    work.look_at(regions.addresses(claims))
    first = 0 if any(claims) and not work.registered else 1  # some have laid down nothing yet
    for turn in range(first, len(tiles) + 2):
        step = segment.begin()
        if turn >= 2:
            work.take(tiles[turn - 2], step - 1)
        if 1 <= turn <= len(tiles):
            work.add_up(tiles[turn - 1], step)
        if turn < len(tiles) and not work.registered:
            work.lay_down(tiles[turn], step)
        segment.publish()


class _Tiled:
    """What a rank does with each tile. What it lays down or adds up in a step is for the others' next one."""

    def __init__(self, segment: Segment, plan: Plan, source: int, target: int) -> None:
        self.registered = False
        self._rank, self._size = segment.rank, segment.layout.size
        self._segment, self._plan = segment, plan
        self._source, self._target = source, target
        self._parts = [plan.at(source)]

    def look_at(self, addresses: list[int] | None) -> None:
        """Have the parts read at these addresses, where there are any."""
        if addresses is not None:
            self.registered = True
            self._parts = [self._plan.view(address, self._plan.count) for address in addresses]

    def lay_down(self, tile: Tile, step: int) -> None:
        """Copy the shares of the others to this rank's buffer."""
        width, room = self._plan.width, self._plan.own[step & 1]
        source, own = self._source + tile.first * width, tile.shares[self._rank]
        if own.begin:
            _copy(room, source, own.begin * width)
        if own.end < tile.length:
            _copy(room + own.end * width, source + own.end * width, (tile.length - own.end) * width)

    def add_up(self, tile: Tile, step: int) -> None:
        """Add up this rank's share of what was laid down in the step before."""
        begin, end = tile.shares[self._rank]
        if begin == end:
            return
        here = slice(tile.first + begin, tile.first + end)
        if self.registered:
            parts = [part[here] for part in self._parts]
        else:
            parts = [room[begin:end] for room in self._plan.rooms[(step - 1) & 1]]
            parts[self._rank] = self._parts[0][here]
        self._plan.add(self._plan.sums[step & 1][: end - begin], parts)

    def take(self, tile: Tile, step: int) -> None:
        """Copy the sums of all shares that were added up in a step to where they belong."""
        plan, odd = self._plan, step & 1
        target = self._target + tile.first * plan.width
        for place, (begin, end) in enumerate(tile.shares):
            _copy(target + begin * plan.width, plan.sums_at[odd][place], (end - begin) * plan.width)
