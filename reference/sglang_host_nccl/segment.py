"""The shared memory of one communicator: how its ranks find it, tell each other where they are, and wait.

The first rank to come makes the memory, and leaves word of it in a small file, which is removed once all have come: so
the memory ends with the processes, and no folder's size bounds it. Behind a head lies a row of words for each rank,
then a row for each ordered pair of ranks, then their buffers. A word has eight bytes, is written by one process, and is
read and written whole.

Every step of a rank's work has a number. A rank that has *published* step t has written what it gives in t, and is done
with all that it read in t - 1; so before it writes for t into the buffer that t - 2 had used too, it waits until all
have published t - 1. What a rank is about to do stands beside its number (:meth:`Segment.agree`).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import math
import mmap
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .codes import Failure, Result

TIMEOUT_VARIABLE = "SGLANG_HOST_NCCL_TIMEOUT"
DEFAULT_TIMEOUT = 300.0

BUFFER = 1 << 20  # bytes, of which each rank has two
PAIR_BUFFER = 1 << 18  # bytes, of which each ordered pair of ranks has two

_WORD = 8
_HEAD_SIZE, _HEAD_REFUSED = 0, 1
_HEAD_WORDS = 8  # a line of the cache
_STATE, _PROCESS, _STARTED, _SPACE, _STEP, _SAID = 0, 1, 2, 3, 8, 16  # a row: who it is, then lines for what changes
_ROW_WORDS = 24
_SAID_WORDS = 4  # what a rank says, for steps of even and odd numbers: two words each
PAIR_WORDS = 8

_ABSENT, _HERE, _LEFT, _FAILED = range(4)
_TURNS = 500  # yields before it sleeps
_PAUSE = 50e-6
_LOOK = 0.02  # seconds between looks at whether the others live


class Segment:
    """One rank's view of its communicator's memory."""

    def __init__(self, memory: mmap.mmap, rank: int, size: int, seconds: float) -> None:
        self.rank = rank
        self.size = size
        self.others = tuple(place for place in range(size) if place != rank)
        self.step = 0
        self._memory = memory
        self._anchor: ctypes.c_char | None = ctypes.c_char.from_buffer(memory)
        self.address = ctypes.addressof(self._anchor)
        self.words = memoryview(memory).cast("Q")
        self._seconds = seconds
        self._stopped = ""
        self._space = _space()
        self._turns = _TURNS if size <= len(os.sched_getaffinity(0)) else 2

    # Where things lie.

    def buffer(self, rank: int, step: int) -> int:
        """The address of a rank's buffer for a step."""
        return self.address + _buffers_at(self.size) + (2 * rank + step % 2) * BUFFER

    def pair(self, source: int, target: int) -> int:
        """The index of the first of the words that a sender and a receiver share."""
        return _HEAD_WORDS + self.size * _ROW_WORDS + (source * self.size + target) * PAIR_WORDS

    def pair_buffer(self, source: int, target: int, number: int) -> int:
        """The address of the buffer for the piece of that number."""
        first = self.address + _buffers_at(self.size) + 2 * self.size * BUFFER
        return first + (2 * (source * self.size + target) + number % 2) * PAIR_BUFFER

    # Going on together.

    def begin(self) -> int:
        """Begin the next step: wait until this rank's buffer for it is free; gives the step's number."""
        before = self.step
        for place in self.others:
            self.await_step(place, before)
        self.step = before + 1
        return self.step

    def publish(self) -> None:
        """Say that all is written which this rank gives in the present step."""
        order_memory()
        self.words[self._row(self.rank) + _STEP] = self.step

    def agree(self, what: int, count: int) -> int | None:
        """Publish the present step and what it begins; wait for all. Gives a rank that says otherwise, or None."""
        said = self._row(self.rank) + _SAID + 2 * (self.step % 2)
        self.words[said], self.words[said + 1] = what, count
        self.publish()
        for place in self.others:
            self.await_step(place, self.step)
            theirs = self._row(place) + _SAID + 2 * (self.step % 2)
            if self.words[theirs] != what or self.words[theirs + 1] != count:
                return place
        return None

    def said_by(self, rank: int) -> tuple[int, int]:
        """What a rank says of the present step."""
        said = self._row(rank) + _SAID + 2 * (self.step % 2)
        return self.words[said], self.words[said + 1]

    def await_step(self, rank: int, step: int) -> None:
        """Wait until a rank has published a step."""
        place = self._row(rank) + _STEP
        if self.words[place] < step:
            self.await_until(lambda: self.words[place] >= step, (rank,))
        order_memory()

    def await_until(self, ready: Callable[[], object], ranks: tuple[int, ...]) -> None:
        """Wait for something that these ranks do. Raises Failure where one of them cannot do it any more.

        That is: it has ended, has left or has failed; this rank's own work is stopped; or the time is up.
        """
        turns, until, look = 0, math.inf, math.inf
        while not ready():
            turns += 1
            if turns < self._turns:
                os.sched_yield()
                continue
            now = time.monotonic()
            if turns == self._turns:
                until, look = now + self._seconds, now + _LOOK
            if now >= look:
                look = now + _LOOK
                self._require_peers(ready, ranks)
                if now >= until:
                    names = ", ".join(map(str, ranks))
                    raise Failure(Result.REMOTE_ERROR, f"rank {names} did not come within {self._seconds:g} s")
            time.sleep(_PAUSE)

    def _require_peers(self, ready: Callable[[], object], ranks: tuple[int, ...]) -> None:
        if self._stopped:
            raise Failure(Result.INTERNAL_ERROR, self._stopped)
        for rank in ranks:
            obstacle = self._obstacle(rank)
            if obstacle and not ready():  # it may have done its part, and then gone
                raise Failure(Result.REMOTE_ERROR, obstacle)

    def _obstacle(self, rank: int) -> str:
        """Why a rank cannot do any more; empty where nothing is known to be wrong with it."""
        if self.words[_HEAD_REFUSED]:
            return f"process {self.words[_HEAD_REFUSED]} could not join the communicator"
        row = self._row(rank)
        state, process = self.words[row + _STATE], self.words[row + _PROCESS]
        if state == _LEFT:
            return f"rank {rank} (process {process}) has left the communicator"
        if state == _FAILED:
            return f"rank {rank} (process {process}) has failed"
        seen = state == _HERE and self.words[row + _SPACE] == self._space  # else its number says nothing here
        if seen and _started(process) != self.words[row + _STARTED]:
            return f"rank {rank} (process {process}) has ended"
        return ""

    # Coming and going.

    def await_all(self) -> None:
        """Wait until every rank has come."""
        states = [self._row(place) + _STATE for place in self.others]
        self.await_until(lambda: all(self.words[state] != _ABSENT for state in states), self.others)

    def stop(self, reason: str) -> None:
        """Let waits of this process's other threads end with this reason."""
        self._stopped = reason

    def fail(self) -> None:
        """Say that this rank goes no further."""
        self.words[self._row(self.rank) + _STATE] = _FAILED

    def close(self, *, failed: bool = False) -> None:
        """Leave, and let go of the memory."""
        own = self._row(self.rank) + _STATE
        self.words[own] = _FAILED if failed or self.words[own] == _FAILED else _LEFT
        self.words.release()
        self._anchor = None
        with contextlib.suppress(BufferError):  # another thread still looks at it: it goes with the process
            self._memory.close()

    @staticmethod
    def _row(rank: int) -> int:
        return _HEAD_WORDS + rank * _ROW_WORDS


def join(name: str, rank: int, size: int) -> Segment:
    """Meet the other ranks at a name; gives the memory once all have come.

    Raises Failure where they do not, where they are not as many, or where this place is taken.
    """
    path, seconds = _folder() / f"sglang-host-nccl-{name}", _seconds()
    with _opened(path) as meeting:
        held = _memory_at(meeting, path, size)
        try:
            segment = Segment(_enter(held, rank, size), rank, size, seconds)
        except BaseException:
            os.close(held)
            raise
    try:
        segment.await_all()
    except BaseException:
        segment.close(failed=True)
        raise
    finally:
        os.close(held)  # a mapping needs it no more, and others have opened it
        path.unlink(missing_ok=True)  # any of them may be the first to see that all have come
    return segment


def _memory_at(meeting: int, path: Path, size: int) -> int:
    """A descriptor of the memory that the file speaks of; of memory made now, where it speaks of none."""
    told = os.pread(meeting, 64, 0).decode()
    if told:
        process, descriptor = told.split()
        try:
            return os.open(f"/proc/{process}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            path.unlink(missing_ok=True)
            text = f"the memory of the first rank to come, process {process}, cannot be opened: {error.strerror}"
            raise Failure(Result.REMOTE_ERROR, text) from None
    made = os.memfd_create("sglang-host-nccl", os.MFD_CLOEXEC)
    os.ftruncate(made, _length(size))
    os.pwrite(meeting, f"{os.getpid()} {made}".encode(), 0)
    return made


def _enter(held: int, rank: int, size: int) -> mmap.mmap:
    """Take this rank's place; the memory as this process sees it."""
    memory = mmap.mmap(held, os.fstat(held).st_size)
    with memoryview(memory).cast("Q") as words:
        if not words[_HEAD_SIZE]:
            words[_HEAD_SIZE] = size
        refusal = _refusal(words, rank, size)
        if refusal is not None:
            words[_HEAD_REFUSED] = os.getpid()
            raise refusal
        row = Segment._row(rank)
        words[row + _PROCESS], words[row + _STARTED] = os.getpid(), _started(os.getpid())
        words[row + _SPACE] = _space()
        words[row + _STATE] = _HERE
    return memory


def _refusal(words: memoryview, rank: int, size: int) -> Failure | None:
    """Why a rank cannot come in; None where it can."""
    if words[_HEAD_SIZE] != size:
        text = f"rank {rank} comes for {size} ranks, another came for {words[_HEAD_SIZE]}"
        return Failure(Result.INVALID_ARGUMENT, text)
    row = Segment._row(rank)
    if words[row + _STATE] != _ABSENT:
        return Failure(Result.INVALID_USAGE, f"there is a rank {rank} already, process {words[row + _PROCESS]}")
    return None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The file, for this process alone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failure(Result.SYSTEM_ERROR, f"{path}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a mapping holds the file open
        os.close(descriptor)


def _folder() -> Path:
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


def _buffers_at(size: int) -> int:
    words = _HEAD_WORDS + size * _ROW_WORDS + size * size * PAIR_WORDS
    return -(-_WORD * words // mmap.PAGESIZE) * mmap.PAGESIZE


def _length(size: int) -> int:
    return _buffers_at(size) + 2 * size * BUFFER + 2 * size * size * PAIR_BUFFER


def _seconds() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE, "").strip()
    try:
        seconds = float(text or DEFAULT_TIMEOUT)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise Failure(Result.INVALID_ARGUMENT, f"{TIMEOUT_VARIABLE}={text!r} is not a number of seconds above 0")
    return seconds


def _space() -> int:
    """What tells apart the spaces in which processes have their numbers; 0 where nobody can tell."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _started(process: int) -> int:
    """When a process was started, in the machine's ticks; 0 where it lives no more or cannot be seen."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


# x86 shows writes to others in the order in which they were made, and reads in order too.
_IN_ORDER = platform.machine().lower() in ("x86_64", "amd64", "i686")
_barrier = threading.Lock()


def order_memory() -> None:
    """Let no read and no write pass this point, in the eyes of the other processes."""
    if not _IN_ORDER:
        for _ in range(2):  # a release, and an acquisition after it
            with _barrier:
                pass
