"""How ranks find the memory that they share, by a name.

The first rank to come makes the memory and listens, without ever answering, at a socket of that name, which is in no
folder. The others see by the socket which process that is, and open the memory through it. Once all have come the name
is free again. Socket and memory end with the processes, so that nothing is left however these end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import mmap
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from . import processes
from .layout import (
    ABSENT,
    HEAD_BUFFER,
    HEAD_PAIR_BUFFER,
    HEAD_REFUSALS,
    HEAD_REFUSED,
    HEAD_SIZE,
    HERE,
    PROCESS,
    SPACE,
    STARTED,
    STATE,
    Layout,
)
from .segment import Segment
from .troubles import AbsentError, MachineError, MisfitError, TakenError

TIMEOUT_VARIABLE = "SGLANG_HOST_MEMORY_TIMEOUT"
DEFAULT_TIMEOUT = 300.0

_CREDENTIALS = struct.Struct("3i")  # of a socket's other end: process, user, group
_PAUSE = 1e-3
_GRACE = 0.5  # seconds


def join(name: str, rank: int, layout: Layout, seconds: float | None = None) -> Segment:
    """Meet the other ranks at a name; gives the memory once all have come.

    ``seconds`` is how long this wait and every later one may last: those of ``TIMEOUT_VARIABLE`` where none are given,
    else 300. Raises AbsentError where not all come, MisfitError where they are not as many, share another layout or
    this place is taken, MachineError where the machine does not let them, ValueError for a rank or seconds that cannot
    be.
    """
    if not 0 <= rank < layout.size:
        raise ValueError(f"rank {rank} is none of {layout.size}")
    seconds = _seconds() if seconds is None else seconds
    if not seconds > 0:
        raise ValueError(f"{seconds} is not a number of seconds above 0")
    until = time.monotonic() + seconds
    place = f"sglang-host-memory-{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}"
    with contextlib.ExitStack() as held:  # until all have come
        try:
            while (memory := _guest(place, rank, layout) or _host(place, rank, layout, held)) is None:
                if time.monotonic() >= until:
                    raise AbsentError(f"others meet at {name!r}, and have not left that name within {seconds:g} s")
                time.sleep(_PAUSE)
        except OSError as error:
            raise MachineError(f"the ranks of {name!r} cannot meet: {error}") from error
        segment = Segment(memory, rank, layout, seconds)
        try:
            segment.await_all()
        except BaseException:
            _stay_for_the_late(segment, min(until, time.monotonic() + _GRACE))
            segment.close(failed=True)
            raise
    return segment


def _stay_for_the_late(segment: Segment, until: float) -> None:
    """Where a rank was refused, keep the name for those that are still to come: alone they would wait in vain."""
    words, layout = segment.words, segment.layout
    while words[HEAD_REFUSED] and time.monotonic() < until:
        here = sum(words[layout.row(rank) + STATE] != ABSENT for rank in range(layout.size))
        if here + words[HEAD_REFUSALS] >= layout.size:
            break
        time.sleep(_PAUSE)


def _guest(place: str, rank: int, layout: Layout) -> mmap.mmap | None:
    """Enter the memory of those who meet there; None where nobody does, or all have come already."""
    with socket.socket(socket.AF_UNIX) as line:
        line.setblocking(False)
        try:
            line.connect(f"\0{place}")
        except (ConnectionRefusedError, BlockingIOError):
            return None
        process = _CREDENTIALS.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
    if not process:
        raise MachineError("the first rank to come is in another space of processes, and cannot be seen from here")
    for descriptor in _descriptors_of(process, f"/memfd:{place} (deleted)"):
        with contextlib.ExitStack() as opened:
            opened.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            opened.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)  # a mapping holds the file open
            memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
            if _enter(memory, rank, layout):
                return memory
    return None


def _host(place: str, rank: int, layout: Layout, held: contextlib.ExitStack) -> mmap.mmap | None:
    """Make the memory, and let others come; None where another has done so at the same time."""
    with contextlib.ExitStack() as made:
        listener = made.enter_context(socket.socket(socket.AF_UNIX))
        try:
            listener.bind(f"\0{place}")
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return None
            raise
        descriptor = os.memfd_create(place, os.MFD_CLOEXEC)
        made.callback(os.close, descriptor)
        os.ftruncate(descriptor, layout.length)
        memory = mmap.mmap(descriptor, layout.length)
        with memoryview(memory).cast("Q") as words:
            words[HEAD_SIZE], words[HEAD_BUFFER], words[HEAD_PAIR_BUFFER] = dataclasses.astuple(layout)
        _enter(memory, rank, layout)
        listener.listen(socket.SOMAXCONN)  # until now others are refused
        held.push(made.pop_all())
    return memory


def _descriptors_of(process: int, link: str) -> Iterator[int]:
    """What a process has open under that name, opened here one by one: of earlier meetings too, while it holds them."""
    with contextlib.suppress(FileNotFoundError):  # it has ended, or let go
        for each in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(each) == link:
                    yield os.open(each, os.O_RDWR | os.O_CLOEXEC)


def _enter(memory: mmap.mmap, rank: int, layout: Layout) -> bool:
    """Take this rank's place; False where all have come already."""
    with memoryview(memory).cast("Q") as words:
        found = Layout(words[HEAD_SIZE], words[HEAD_BUFFER], words[HEAD_PAIR_BUFFER])
        if all(words[found.row(each) + STATE] != ABSENT for each in range(found.size)):
            return False
        refusal = _refusal(words, rank, layout, found)
        if refusal is not None:
            words[HEAD_REFUSED], words[HEAD_REFUSALS] = os.getpid(), words[HEAD_REFUSALS] + 1
            raise refusal
        row = layout.row(rank)
        words[row + PROCESS], words[row + STARTED] = os.getpid(), processes.started(os.getpid())
        words[row + SPACE] = processes.space()
        words[row + STATE] = HERE
    return True


def _refusal(words: memoryview, rank: int, layout: Layout, found: Layout) -> MisfitError | None:
    """Why a rank cannot come in; None where it can."""
    if found.size != layout.size:
        return MisfitError(f"rank {rank} comes for {layout.size} ranks, another came for {found.size}")
    if found != layout:
        return MisfitError(f"rank {rank} comes for {layout}, another came for {found}")
    row = layout.row(rank)
    if words[row + STATE] != ABSENT:
        return TakenError(f"there is a rank {rank} already, process {words[row + PROCESS]}")
    return None


def _seconds() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE, "").strip()
    try:
        seconds = float(text or DEFAULT_TIMEOUT)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ValueError(f"{TIMEOUT_VARIABLE}={text!r} is not a number of seconds above 0")
    return seconds
