"""The board: shared memory on which every rank says what it is about to call, before it calls it.

A collective that not all ranks of its group enter, or that they enter with other sizes, types or roots, hangs, aborts
or gives wrong numbers, as the backend likes. On the board the ranks meet first: each waits until its peers have said
what they are about to call, and whoever sees a difference raises at once. That synchronises the ranks, and so can hide
a race of the backend under test: it must be possible to leave it out.

A row for each rank: a head, then two entries for each group that it has used, for its calls with even and odd numbers.
A rank writes its own row only. The number of a call is written last, and a rank comes to call n only when it has seen
all its peers at n - 1, so that what stands beside a number belongs to it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import mmap
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Counted in words of eight bytes, which are read and written whole.
_BEGUN, _FINISHED, _STAGE, _LATEST, _PART = range(5)  # the head: checks, a stage, where the latest call stands, a part
_GROUP, _AGREEMENT, _NUMBER, _LENGTH, _TEXT = range(5)  # an entry; its text fills the rest
_HEAD_WORDS = 8
_ENTRY_WORDS = 32
_GROUPS = 1024  # a page that is never written takes no memory
_ROW_WORDS = _HEAD_WORDS + 2 * _GROUPS * _ENTRY_WORDS
_TEXT_BYTES = 8 * (_ENTRY_WORDS - _TEXT)
_YIELDS = 200  # before it sleeps, where each rank may have a core of its own; else it takes the time from its peers
_PAUSE = 150e-6
_NEVER = (1 << 64) - 1

OUTSIDE, WAITING, INSIDE = range(3)
_STAGES = ("has returned from", "waits to enter", "is inside")


class Disagreement(RuntimeError):
    """The ranks of a group are about to call different things, or one of them does not come."""


@dataclass(frozen=True)
class Call:
    """What a rank said last: the call's ``number`` on its group, from 1, and whether it waits, is inside or past it."""

    number: int
    text: str
    stage: int

    def __str__(self) -> str:
        return f"{_STAGES[self.stage]} call {self.number}, {self.text}"


class Board:
    """One process's view of the board: a rank's, or (``rank`` None) the controller's, which makes no calls."""

    def __init__(self, descriptor: int, size: int, rank: int | None = None) -> None:
        self._memory = mmap.mmap(descriptor, 8 * size * _ROW_WORDS)
        self._bytes = memoryview(self._memory)
        self._words = self._bytes.cast("Q")
        self._rank = rank
        self._yields = _YIELDS if size <= len(os.sched_getaffinity(0)) else 1
        self._slots: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._found: dict[tuple[int, int], int] = {}

    @staticmethod
    def make(size: int) -> int:
        """A descriptor of the memory for so many ranks, which ends with the last process that holds it."""
        descriptor = os.memfd_create("sglang-conformance-board", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, 8 * size * _ROW_WORDS)
        return descriptor

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._bytes.release()
        self._memory.close()

    def begin(self, check: int) -> None:
        """Say that this rank begins a check; its checks are numbered upwards from 1, as its peers' are."""
        head = self._head(self._own)
        self._words[head + _LATEST] = 0
        self._words[head + _STAGE] = OUTSIDE
        self._words[head + _PART] = 0
        self._words[head + _BEGUN] = check

    def reach(self, part: int) -> None:
        """Say which part of its check this rank has come to, counted from 0."""
        self._words[self._head(self._own) + _PART] = part

    def part(self, rank: int) -> int:
        """Which part of its check a rank came to last."""
        return self._words[self._head(rank) + _PART]

    def finish(self) -> None:
        """Say that this rank is done with its check, so that nobody waits for it any more."""
        head = self._head(self._own)
        self._words[head + _FINISHED] = self._words[head + _BEGUN]

    @contextlib.contextmanager
    def entering(self, group: str, members: Sequence[int], text: str, agree: str, seconds: float) -> Iterator[None]:
        """Around a call on a group: first wait until every member has come to the same one.

        ``text`` says what is called, for people; ``agree`` is what must be the same on all members. Raises Disagreement
        where it is not, where a member has finished its check without coming, or has not come after ``seconds``.
        """
        slot = self._slots.setdefault(group, len(self._slots))
        if slot >= _GROUPS:  # too many groups to watch them all
            yield
            return
        number = self._numbers[group] = self._numbers.get(group, 0) + 1
        self._say(2 * slot + number % 2, _hash(group), _hash(agree), number, text)
        for member in members:
            if member != self._own:
                self._meet(member, _hash(group), _hash(agree), number, text, seconds)
        stage = self._head(self._own) + _STAGE
        self._words[stage] = INSIDE
        yield  # where it raises, the rank stays inside: that is where it failed
        self._words[stage] = OUTSIDE

    def bury(self, rank: int) -> None:
        """Say, for a rank whose process has ended, that it is done for good; the controller's to say."""
        self._words[self._head(rank) + _FINISHED] = _NEVER

    def latest(self, rank: int) -> Call | None:
        """What a rank said last in the check that it is in, or was in; None where it said nothing."""
        head = self._head(rank)
        if not self._words[head + _LATEST]:
            return None
        place = self._words[head + _LATEST] - 1
        number = self._words[self._entry(rank, place) + _NUMBER]
        return Call(number, self._text(rank, place), self._words[head + _STAGE])

    @property
    def _own(self) -> int:
        if self._rank is None:
            raise ValueError("the controller makes no calls")
        return self._rank

    def _say(self, place: int, group: int, agreement: int, number: int, text: str) -> None:
        entry, head = self._entry(self._own, place), self._head(self._own)
        said = text.encode()[:_TEXT_BYTES]
        start = 8 * (entry + _TEXT)
        self._bytes[start : start + len(said)] = said
        self._words[entry + _LENGTH] = len(said)
        self._words[entry + _AGREEMENT] = agreement
        self._words[entry + _GROUP] = group
        self._words[entry + _NUMBER] = number
        self._words[head + _LATEST] = place + 1
        self._words[head + _STAGE] = WAITING

    def _meet(self, member: int, group: int, agreement: int, number: int, text: str, seconds: float) -> None:
        turns, until = 0, time.monotonic() + seconds
        while not self._has_met(member, group, agreement, number, text):
            if time.monotonic() > until:
                raise Disagreement(f"rank {member} has not come to call {number}, {text}, after {seconds:g} s")
            turns += 1
            if turns < self._yields:
                os.sched_yield()
            else:
                time.sleep(_PAUSE)

    def _has_met(self, member: int, group: int, agreement: int, number: int, text: str) -> bool:
        # Asked before looking at its calls: what it said before it finished must not be overlooked.
        finished = self._words[self._head(member) + _FINISHED] >= self._words[self._head(self._own) + _BEGUN]
        slot = self._slot_of(member, group)
        if slot is not None:
            place = 2 * slot + number % 2
            entry = self._entry(member, place)
            if self._words[entry + _NUMBER] == number:
                if self._words[entry + _AGREEMENT] == agreement:
                    return True
                raise Disagreement(
                    f"this rank comes to call {number} with {text}, rank {member} with {self._text(member, place)}"
                )
            if self._words[self._entry(member, 2 * slot + (number + 1) % 2) + _NUMBER] > number:
                return True  # it is past this call, so it has seen here that we agree
        if finished:
            raise Disagreement(f"rank {member} ended its check without call {number}, {text}")
        return False

    def _slot_of(self, member: int, group: int) -> int | None:
        """Which of a member's slots is a group's; None while it has not used that group."""
        known = self._found.get((member, group))
        if known is not None:
            return known
        for slot in range(_GROUPS):
            groups = {self._words[self._entry(member, 2 * slot + parity) + _GROUP] for parity in (0, 1)}
            if group in groups:
                self._found[member, group] = slot
                return slot
            if groups == {0}:
                break
        return None

    def _text(self, rank: int, place: int) -> str:
        entry = self._entry(rank, place)
        start = 8 * (entry + _TEXT)
        return bytes(self._bytes[start : start + self._words[entry + _LENGTH]]).decode(errors="replace")

    @staticmethod
    def _head(rank: int) -> int:
        return rank * _ROW_WORDS

    @staticmethod
    def _entry(rank: int, place: int) -> int:
        return rank * _ROW_WORDS + _HEAD_WORDS + place * _ENTRY_WORDS


@functools.lru_cache(maxsize=4096)
def _hash(text: str) -> int:
    """Never zero, and the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") | 1
