"""Memory for tensors that all ranks see: each rank has a part of every region, and knows where the others' lie.

A region lives in a process as long as a tensor in it does. What a rank says of a tensor in a region, its *claim*, is
the region's number, which is the same on all ranks, and where in the rank's part it begins; 0 stands for none.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import weakref
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sglang_host_memory import MachineError, Segment

_OFFSET_BITS = 40
_LARGE_PAGE = 1 << 21
_POPULATE_WRITE = 23  # of madvise, since Linux 5.14


class _Region(NamedTuple):
    """Where it lies in this process, and the bytes of each rank's part."""

    address: int
    part: int


class Regions:
    """The regions of one engine, on one rank."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._regions: dict[int, _Region] = {}
        self._made = 0

    def make(self, length: int, agree: Callable[[int], None], confirm: Callable[[int], None]) -> memoryview:
        """Make a region together; gives this rank's part of it, of so many bytes, all zero.

        ``agree`` and ``confirm`` begin a step and end once all ranks have said something beside the call. Raises
        MachineError on all ranks where one has no such memory.
        """
        self._made += 1
        segment, part = self._segment, _part(length)
        with contextlib.ExitStack() as held:
            first, error = 0, ""
            if segment.rank == 0:
                try:
                    descriptor = held.enter_context(_memory(part * segment.layout.size))
                    first = descriptor + 1
                except (OSError, OverflowError) as failure:
                    error = str(failure)
            agree(first)
            process, first = segment.process_of(0), segment.said_by(0)[2]
            memory = None
            try:
                if first:
                    memory = _mapped(f"/proc/{process}/fd/{first - 1}", part, segment.rank)
            except (OSError, OverflowError, ValueError) as failure:
                error = str(failure)
            confirm(int(memory is not None))
        without = [place for place in range(segment.layout.size) if not segment.said_by(place)[2]]
        if memory is None or without:
            raise MachineError(f"ranks {without} cannot share {length} bytes a rank" + (f": {error}" if error else ""))
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._regions[self._made] = _Region(address, part)
        weakref.finalize(memory, self._regions.pop, self._made, None).atexit = False
        return memoryview(memory)[segment.rank * part :][:length]

    def claim(self, address: int, length: int) -> int:
        """What to say of so many bytes at an address."""
        for number, region in tuple(self._regions.items()):  # one may end meanwhile
            offset = address - region.address - self._segment.rank * region.part
            if offset >= 0 and offset + length <= region.part:
                return number << _OFFSET_BITS | offset
        return 0

    def addresses(self, claims: list[int]) -> list[int] | None:
        """Where the memory of each rank lies, by what they have said; None where it is not in one region."""
        numbers = {claim >> _OFFSET_BITS for claim in claims}
        if len(numbers) != 1 or 0 in numbers:
            return None
        region = self._regions[numbers.pop()]
        offsets = [claim & (1 << _OFFSET_BITS) - 1 for claim in claims]
        return [region.address + place * region.part + offset for place, offset in enumerate(offsets)]


def _part(length: int) -> int:
    page = _LARGE_PAGE if length >= _LARGE_PAGE else mmap.PAGESIZE
    return max(1, -(-length // page)) * page


@contextlib.contextmanager
def _memory(length: int) -> Iterator[int]:
    descriptor = os.memfd_create("sglang-host-all-reduce", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, length)
        yield descriptor
    finally:
        os.close(descriptor)


def _mapped(path: str, part: int, rank: int) -> mmap.mmap:
    """The memory there, of which the rank's own part is really had."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
    with contextlib.suppress(OSError):  # as the machine is set up
        memory.madvise(mmap.MADV_HUGEPAGE)
    try:
        memory.madvise(_POPULATE_WRITE, rank * part, part)
    except OSError as error:
        if error.errno != errno.EINVAL:  # which an older kernel says
            raise
    return memory
