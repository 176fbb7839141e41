"""How ranks meet and keep in step; the ranks are threads here, as nothing of this asks for processes."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sglang_host_memory import (
    TIMEOUT_VARIABLE,
    AbsentError,
    Layout,
    MisfitError,
    Segment,
    StoppedError,
    TakenError,
    TroubleError,
    join,
)
from sglang_host_memory.layout import PAIR_WORDS, SAID, SAID_WORDS, WORD


@pytest.fixture
def name() -> str:
    return f"test-{uuid.uuid4()}"


def together(*calls: Callable[[], Any]) -> list[Any]:
    """What they give or raise, each in a thread of its own."""

    def outcome(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except TroubleError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(outcome, calls))


def meet(name: str, layout: Layout, seconds: float = 20.0) -> list[Segment]:
    made = together(*(lambda rank=rank: join(name, rank, layout, seconds) for rank in range(layout.size)))
    assert all(isinstance(each, Segment) for each in made), made
    return made


@settings(deadline=None)
@given(st.integers(1, 8), st.sampled_from([0, 1, 64, 4096, 100_001]), st.sampled_from([0, 8, 4096]))
def test_nothing_lies_where_something_else_does(size: int, buffer: int, pair_buffer: int) -> None:
    layout = Layout(size, buffer, pair_buffer)
    ranks, halves = range(size), range(2)
    rows = [(WORD * layout.row(rank), WORD * (layout.row(rank) + SAID + 2 * SAID_WORDS)) for rank in ranks]
    pairs = [
        (WORD * layout.pair(source, target), WORD * (layout.pair(source, target) + PAIR_WORDS))
        for source, target in itertools.product(ranks, ranks)
    ]
    buffers = [layout.buffer_at(rank, half) for rank, half in itertools.product(ranks, halves)]
    pair_buffers = [layout.pair_buffer_at(*place) for place in itertools.product(ranks, ranks, halves)]
    places = [*rows, *pairs, *((at, at + buffer) for at in buffers), *((at, at + pair_buffer) for at in pair_buffers)]
    taken = sorted(place for place in places if place[0] < place[1])
    assert taken[0][0] >= 4 * WORD
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(taken))
    assert taken[-1][1] <= layout.length


def test_ranks_see_what_the_others_have_written(name: str) -> None:
    layout = Layout(3, 64)

    def work(rank: int) -> list[int]:
        segment, seen = join(name, rank, layout, 20.0), []
        for number in range(200):
            step = segment.begin()
            ctypes.memset(segment.buffer(rank, step), (number + rank) % 256, 64)
            assert segment.agree(7, number, rank) is None
            assert [segment.said_by(each) for each in range(3)] == [(7, number, each) for each in range(3)]
            seen += [ctypes.string_at(segment.buffer(each, step), 64) for each in range(3)]
        segment.close()
        return [number for number, each in enumerate(seen) if each != bytes([(number // 3 + number % 3) % 256]) * 64]

    assert together(*(lambda rank=rank: work(rank) for rank in range(3))) == [[], [], []]


def test_who_says_otherwise_is_named(name: str) -> None:
    segments = meet(name, Layout(3))

    def say(segment: Segment) -> int | None:
        segment.begin()
        return segment.agree(1, 5 if segment.rank == 1 else 4)

    assert together(*(lambda each=each: say(each) for each in segments)) == [1, 0, 1]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (Layout(3, 64), "rank 1 comes for 3 ranks, another came for 2"),
        (Layout(2, 128), "rank 1 comes for Layout(size=2, buffer=128, pair_buffer=0), another came for Layout(size=2"),
        (Layout(2, 64, 8), "rank 1 comes for Layout(size=2, buffer=64, pair_buffer=8), another came for Layout"),
    ],
)
def test_ranks_that_do_not_fit_together_are_told(name: str, other: Layout, why: str) -> None:
    def late() -> Segment:
        time.sleep(0.1)
        return join(name, 1, other, 20.0)

    first, second = together(lambda: join(name, 0, Layout(2, 64), 20.0), late)
    assert isinstance(second, MisfitError)
    assert str(second).startswith(why)
    assert isinstance(first, AbsentError)
    assert str(first) == f"process {os.getpid()} could not join"


def test_who_comes_after_one_that_was_refused_does_not_wait_alone(name: str) -> None:
    def after(seconds: float, rank: int, size: int) -> Segment:
        time.sleep(seconds)
        return join(name, rank, Layout(size), 20.0)

    began = time.monotonic()
    first, refused, late = together(
        lambda: after(0, 0, 3),
        lambda: after(0.1, 1, 4),
        lambda: after(0.3, 2, 3),
    )
    assert isinstance(refused, MisfitError)
    assert str(first) == str(late) == f"process {os.getpid()} could not join"
    assert time.monotonic() - began < 10


def test_a_place_is_taken_once(name: str) -> None:
    def late() -> Segment:
        time.sleep(0.1)
        return join(name, 0, Layout(2), 20.0)

    first, second = together(lambda: join(name, 0, Layout(2), 20.0), late)
    assert isinstance(second, TakenError)
    assert str(second) == f"there is a rank 0 already, process {os.getpid()}"
    assert isinstance(first, AbsentError)


def test_a_rank_that_does_not_come_is_waited_for_as_long_as_is_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AbsentError, match=r"rank 1, 2 did not come within 0\.1 s"):
        join(name, 0, Layout(3), 0.1)
    monkeypatch.setenv(TIMEOUT_VARIABLE, "0.2")
    with pytest.raises(AbsentError, match=r"rank 1 did not come within 0\.2 s"):
        join(name, 0, Layout(2))


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
def test_seconds_that_are_none_are_refused(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIMEOUT_VARIABLE, text)
    with pytest.raises(ValueError, match=f"{TIMEOUT_VARIABLE}='{text}' is not a number of seconds above 0"):
        join(name, 0, Layout(2))
    with pytest.raises(ValueError, match="not a number of seconds above 0"):
        join(name, 0, Layout(2), 0.0)


def test_a_rank_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="rank 2 is none of 2"):
        join(name, 2, Layout(2), 1.0)


def test_a_name_is_free_once_all_have_come(name: str) -> None:
    layout = Layout(2, 8)
    earlier, later = meet(name, layout), meet(name, layout)
    ctypes.memset(earlier[0].buffer(0, 0), 1, 8)
    assert ctypes.string_at(earlier[1].buffer(0, 0), 8) == bytes([1] * 8)
    assert ctypes.string_at(later[1].buffer(0, 0), 8) == bytes(8)
    for each in earlier + later:
        each.close()


def test_a_name_that_others_keep_is_not_waited_for_longer_than_is_said(name: str) -> None:
    place = f"sglang-host-memory-{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}"
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(f"\0{place}")
        with pytest.raises(AbsentError, match=r"have not left that name within 0\.1 s"):
            join(name, 0, Layout(2), 0.1)
        stranger.listen(1)
        with pytest.raises(AbsentError, match=r"have not left that name within 0\.1 s"):
            join(name, 0, Layout(2), 0.1)


def test_a_rank_that_leaves_or_fails_is_told(name: str) -> None:
    for end, why in ((Segment.close, "has left"), (Segment.fail, "has failed")):
        first, second = meet(name, Layout(2), 20.0)
        second.begin()
        second.publish()
        end(second)
        first.await_step(1, 1)  # which it has done before
        with pytest.raises(AbsentError, match=rf"rank 1 \(process {os.getpid()}\) {why}"):
            first.await_step(1, 2)


def test_a_wait_can_be_stopped(name: str) -> None:
    first, _ = meet(name, Layout(2), 20.0)
    threading.Timer(0.1, first.stop, ("enough",)).start()
    with pytest.raises(StoppedError, match="enough"):
        first.await_step(1, 1)


def test_nothing_is_left_of_a_meeting(name: str) -> None:
    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), Path("/proc/self/maps").read_text().count("sglang-host-memory")

    before = held()
    for segment in meet(name, Layout(2, 4096, 64)):
        segment.close()
    with pytest.raises(AbsentError):
        join(name, 0, Layout(2), 0.05)
    assert held() == before
    assert hashlib.blake2b(name.encode(), digest_size=16).hexdigest() not in Path("/proc/net/unix").read_text()
