"""How many cases a check takes: as many as fit into its time, so that a platform may take its own for each call.

A platform that asks its driver by a command takes a good part of a second for what others do in microseconds.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import takewhile
from typing import TypeVar

Case = TypeVar("Case")

SHARE = 0.25
"""Of the check's deadline: the rest is for a machine that is busy, and for finding the least example of a fault."""

LEAST = 4
"""Cases that are taken however long they take."""


class Pace:
    """The time since a check began its cases, and their number."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._cases = 0

    def allows(self, deadline: float) -> bool:
        """Whether one more case is to be taken, of a check that may take ``deadline`` seconds in all."""
        self._cases += 1
        return self._cases <= LEAST or time.monotonic() - self._begun < SHARE * deadline


@cache
def pace() -> Pace:
    """The pace of this probe's check, which is the only one that it runs."""
    return Pace()


def in_time(cases: Iterable[Case], deadline: float) -> Iterator[Case]:
    """The cases from the first on, as many as there is time for."""
    return takewhile(lambda _: pace().allows(deadline), cases)
