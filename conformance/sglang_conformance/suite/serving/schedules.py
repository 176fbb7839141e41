"""Schedules of requests that press on a server: what each asks, when it comes, and when it is given up. Plain data.

A schedule is a list of requests, each of which is a dict:

- ``text`` and ``length``: its prompt is the beginning, so long, of one of a few texts that have nothing in common;
- ``new``: how many tokens it asks for;
- ``arrives``: at which step of the server it comes;
- ``stays``: after how many steps it is cancelled; None where it is not.

Lengths are at the borders of pages, and just beside them: there allocators are asked for a page more, or are not. The
pool has so few pages that the requests of most schedules cannot all have what they want.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ...journey.checkpoints import Checkpoint
from ...journey.leg import Request

Schedule = list[dict[str, Any]]

PAGE = 16
PAGES = 8
LENGTHS = (15, 16, 17, 31, 32, 33, 1)
"""Of prompts, in tokens."""
MOST = 48
"""No prompt is longer: with what it asks for it fits into the pool, if it is alone."""
ARGUMENTS: Mapping[str, Any] = {
    "page_size": PAGE,
    "max_total_tokens": PAGES * PAGE,
    "schedule_conservativeness": 0.01,
    "prefill_max_requests": 1,
}
"""What a user asks for who has a small pool, and wants it filled: a request at a time, with little kept back."""

_FEW, _MANY = 3, 10
FEW_ROWS = 4
"""So few requests run at once that rows are soon another's."""

_NEW = (2, 9)
_COUNTS = (1, 2, 3, 4, 6, 8, 9, 10, 10, 11, 11, 12, 12)


def asked(text: int, length: int, new: int, arrives: int = 0, stays: int | None = None) -> dict[str, Any]:
    """One request of a schedule."""
    return {"text": text, "length": length, "new": new, "arrives": arrives, "stays": stays}


def crowds() -> SearchStrategy[Schedule]:
    """Requests that have nothing in common, for more slots than there are."""
    return _schedules(_MANY)


def families() -> SearchStrategy[Schedule]:
    """Requests of few texts: the prefix cache has of most what others have left, as long as it has room for that."""
    return _schedules(_FEW)


def leavers() -> SearchStrategy[Schedule]:
    """Requests of which some are cancelled: while they wait, in prefill, or in decode."""
    return _schedules(_FEW, stays=st.none() | st.integers(0, 8), lengths=(*LENGTHS, MOST))


def _schedules(
    texts: int, *, stays: SearchStrategy[int | None] | None = None, lengths: Sequence[int] = LENGTHS
) -> SearchStrategy[Schedule]:
    one = st.builds(
        asked,
        text=st.integers(0, texts - 1),
        length=st.sampled_from(lengths),
        new=st.integers(*_NEW),
        arrives=st.integers(0, 8),
        stays=st.none() if stays is None else stays,
    )
    return st.sampled_from(_COUNTS).flatmap(lambda count: st.lists(one, min_size=count, max_size=count))


def requests(schedule: Schedule, checkpoint: Checkpoint) -> tuple[Request, ...]:
    """The schedule's requests, of a model. No name begins with another: SGLang cancels by the beginning of names."""
    return tuple(
        Request(
            f"r{number:02}",
            text(checkpoint, each["text"])[: each["length"]],
            each["new"],
            each["arrives"],
            None if each["stays"] is None else each["arrives"] + each["stays"],
        )
        for number, each in enumerate(schedule)
    )


def text(checkpoint: Checkpoint, number: int) -> tuple[int, ...]:
    """One of the texts that prompts are the beginnings of."""
    whole: tuple[int, ...] = checkpoint.prompt(MOST, number)
    return whole


CROWD: Schedule = [asked(number, 15 + number % 2, 5, number) for number in range(8)]
"""Eight requests of a page each, all of which soon want another one: some must give way."""

FAMILY: Schedule = [
    asked(0, 33, 2, 0),
    asked(0, 33, 3, 1),
    asked(0, 17, 2, 3),
    asked(1, 32, 2, 4),
    asked(1, 33, 4, 6),
    asked(2, MOST, 2, 7),
    asked(3, 33, 2, 9),
    asked(0, 33, 2, 12),
    asked(1, MOST, 2, 13),
]
"""Beginnings of four texts, some again and again; the pool has no room for all of them, so some are evicted."""

LEAVERS: Schedule = [
    asked(2, 17, 4, 0),
    asked(0, 16, 6, 1, stays=5),
    asked(1, MOST, 6, 2, stays=1),
    asked(3, 33, 6, 2, stays=1),
    asked(2, 33, 3, 3),
    asked(1, 17, 3, 5),
    asked(2, 33, 2, 6),
    asked(0, 33, 2, 8),
    asked(1, MOST, 2, 9),
]
"""One is cancelled in decode, one in prefill, and one while it waits; what they had goes to those after them."""

HANDFUL: Schedule = [asked(0, 15, 3), asked(1, 33, 2, 1), asked(2, 16, 2, 1)]
"""A few short requests."""
