"""One rank's view of the memory that ranks share: how they tell each other where they are, and wait.

Every step of a rank's work has a number. A rank that has *published* step t has written what it gives in t, and is done
with all that it read in t - 1; so before it writes for t into the buffer that t - 2 had used too, it waits until all
have published t - 1. What a rank is about to do stands beside its number (:meth:`Segment.agree`).
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import threading
import time
from collections.abc import Callable

from . import processes
from .layout import (
    ABSENT,
    FAILED,
    HEAD_REFUSED,
    HERE,
    LEFT,
    PROCESS,
    SAID,
    SAID_WORDS,
    SPACE,
    STARTED,
    STATE,
    STEP,
    Layout,
)
from .troubles import AbsentError, StoppedError

_LOOKS = 100  # before the first yield, where each rank has a core
_TURNS = 1000  # yields before it sleeps
_PAUSE, _LONGEST_PAUSE = 50e-6, 1e-3
_PART = 1 / 16  # of what it has waited, that a longer pause may last
_LOOK = 0.02  # seconds between looks at whether the others live


class Segment:
    """A rank's place among the others; for one thread at a time, but for :meth:`stop`.

    ``others`` are the other ranks, ``step`` the present one, ``words`` all words.
    """

    def __init__(self, memory: mmap.mmap, rank: int, layout: Layout, seconds: float) -> None:
        self.rank = rank
        self.layout = layout
        self.others = tuple(place for place in range(layout.size) if place != rank)
        self.step = 0
        self.words = memoryview(memory).cast("Q")
        self._memory = memory
        self._anchor: ctypes.c_char | None = ctypes.c_char.from_buffer(memory)
        self._address = ctypes.addressof(self._anchor)
        self._steps = tuple(layout.row(place) + STEP for place in range(layout.size))
        self._said = tuple(layout.row(place) + SAID for place in range(layout.size))
        self._saying: list[tuple[int, int, int]] = [(0, 0, 0), (0, 0, 0)]
        self._seen = 0  # all have published this step
        self._seconds = seconds
        self._stopped = ""
        self._process, self._space = os.getpid(), processes.space()
        self._looks = _LOOKS if layout.size <= len(os.sched_getaffinity(0)) else 0

    # Where things lie.

    def buffer(self, rank: int, step: int) -> int:
        """The address of a rank's buffer for a step."""
        return self._address + self.layout.buffer_at(rank, step)

    def pair_buffer(self, source: int, target: int, number: int) -> int:
        """The address of a pair's buffer for the piece of that number."""
        return self._address + self.layout.pair_buffer_at(source, target, number)

    def process_of(self, rank: int) -> int:
        """The number of a rank's process."""
        return self.words[self.layout.row(rank) + PROCESS]

    # Going on together.

    def begin(self) -> int:
        """Begin the next step: wait until this rank's buffer for it is free; gives the step's number."""
        before = self.step
        if self._seen < before:
            self.await_others(before)
        self.step = before + 1
        return self.step

    def publish(self) -> None:
        """Say that all is written which this rank gives in the present step."""
        if not _IN_ORDER:
            order_memory()
        self.words[self._steps[self.rank]] = self.step

    def agree(self, what: int, count: int, beside: int = 0) -> int | None:
        """Publish the present step and what it begins; wait for all. Gives a rank that says otherwise, or None.

        Ranks agree where they say the same ``what`` and ``count``. What they say ``beside`` these may differ.
        """
        words, step, said, odd = self.words, self.step, self._said, self.step % 2
        saying, first = (what, count, beside), odd * SAID_WORDS
        if self._saying[odd] != saying:
            self._saying[odd], own = saying, said[self.rank] + first
            words[own], words[own + 1], words[own + 2] = saying
        self.publish()
        for place in self.others:
            self.await_step(place, step)
            theirs = said[place] + first
            if words[theirs] != what or words[theirs + 1] != count:
                return place
        self._seen = step
        return None

    def said_by(self, rank: int) -> tuple[int, int, int]:
        """What a rank says of the present step, which it has published."""
        first = self._said[rank] + self.step % 2 * SAID_WORDS
        return self.words[first], self.words[first + 1], self.words[first + 2]

    def await_others(self, step: int) -> None:
        """Wait until all have published a step."""
        for place in self.others:
            self.await_step(place, step)
        self._seen = max(self._seen, step)

    def await_step(self, rank: int, step: int) -> None:
        """Wait until a rank has published a step."""
        words, place = self.words, self._steps[rank]
        if words[place] < step:
            for _ in range(self._looks):
                if words[place] >= step:
                    break
            else:
                self.await_until(lambda: words[place] >= step, (rank,))
        if not _IN_ORDER:
            order_memory()

    def await_until(self, ready: Callable[[], object], ranks: tuple[int, ...]) -> None:
        """Wait for something that these ranks do.

        Raises AbsentError where one of them cannot do it any more, as it has ended, has left or has failed, or where
        the time is up; StoppedError where this rank's own work is stopped.
        """
        for _ in range(_TURNS):
            if ready():
                return
            os.sched_yield()
        began = look = time.monotonic()
        while not ready():
            now = time.monotonic()
            waited = now - began
            if now >= look:
                look = now + _LOOK
                self._require_peers(ready, ranks)
                if waited >= self._seconds:
                    names = ", ".join(map(str, ranks))
                    raise AbsentError(f"rank {names} did not come within {self._seconds:g} s")
            time.sleep(min(max(_PAUSE, waited * _PART), _LONGEST_PAUSE))

    def _require_peers(self, ready: Callable[[], object], ranks: tuple[int, ...]) -> None:
        if self._stopped:
            raise StoppedError(self._stopped)
        for rank in ranks:
            obstacle = self._obstacle(rank)
            if obstacle and not ready():  # it may have done its part, and then gone
                raise AbsentError(obstacle)

    def _obstacle(self, rank: int) -> str:
        """Why a rank cannot do any more; empty where nothing is known to be wrong with it."""
        if self.words[HEAD_REFUSED]:
            return f"process {self.words[HEAD_REFUSED]} could not join"
        row = self.layout.row(rank)
        state, process = self.words[row + STATE], self.words[row + PROCESS]
        if state == LEFT:
            return f"rank {rank} (process {process}) has left"
        if state == FAILED:
            return f"rank {rank} (process {process}) has failed"
        seen = state == HERE and self.words[row + SPACE] == self._space  # else its number says nothing here
        if seen and processes.started(process) != self.words[row + STARTED]:
            return f"rank {rank} (process {process}) has ended"
        return ""

    # Coming and going.

    def await_all(self) -> None:
        """Wait until every rank has come."""
        states = [self.layout.row(place) + STATE for place in self.others]
        self.await_until(lambda: all(self.words[state] != ABSENT for state in states), self.others)

    def stop(self, reason: str) -> None:
        """Let waits of this process's other threads end with this reason."""
        self._stopped = reason

    def fail(self) -> None:
        """Say that this rank goes no further."""
        self.words[self.layout.row(self.rank) + STATE] = FAILED

    def close(self, *, failed: bool = False) -> None:
        """Leave, and let go of the memory. A fork of the rank's process only lets go."""
        own = self.layout.row(self.rank) + STATE
        if self._process == os.getpid():
            self.words[own] = FAILED if failed or self.words[own] == FAILED else LEFT
        self.words.release()
        self._anchor = None
        with contextlib.suppress(BufferError):  # another thread still looks at it: it goes with the process
            self._memory.close()


# x86 shows writes to others in the order in which they were made, and reads in order too.
_IN_ORDER = platform.machine().lower() in ("x86_64", "amd64", "i686")
_barrier = threading.Lock()


def order_memory() -> None:
    """Let no read and no write pass this point, in the eyes of the other processes."""
    if not _IN_ORDER:
        for _ in range(2):  # a release, and an acquisition after it
            with _barrier:
                pass
