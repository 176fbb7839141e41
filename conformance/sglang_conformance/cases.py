"""The cases of a property that runs on ranks: hypothesis draws them here, for all ranks alike.

First all are drawn and sent in one message, after those that the property itself names; only where one fails is the
property driven again, case by case, so that the smallest that fails is found.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from .ranks.report import GroupReport
from .suite.declare import parameters

_SECONDS = 10.0

Case = dict[str, Any]


def drawn(body: Any, examples: int) -> list[Case]:
    """The cases of a property; one empty case of a check that draws nothing."""
    if not hasattr(body, "hypothesis"):
        return [{}]
    cases: list[Case] = []
    _drive(body, cases.append, examples, shrink=False)
    return cases


def dealt(cases: Sequence[Case], sizes: Sequence[int]) -> list[list[Case]]:
    """The cases of each size: each case is of one, and a size has the fewer the larger it is, but one at least.

    A collective takes the longer the more ranks there are; what goes wrong on many shows in few cases.
    """
    if len(cases) < len(sizes):
        return [list(cases) for _ in sizes]
    hands: list[list[Case]] = [[] for _ in sizes]
    costs = [max(2, size) for size in sizes]
    for case in cases:  # to the size that has had the least of its share
        turn = min(range(len(sizes)), key=lambda turn: len(hands[turn]) * costs[turn])
        hands[turn].append(case)
    return hands


def _drive(body: Any, attempt: Callable[[Case], None], examples: int, *, shrink: bool) -> None:
    """Have hypothesis draw what the body takes, and hand each case to ``attempt``: the same ones each time.

    With ``shrink``, only those that it can make smaller: none that the property itself names.
    """
    from hypothesis import given

    from .suite.drawing import alike, drawing

    fixed = parameters(body)
    handle = body.hypothesis

    @functools.wraps(handle.inner_test)  # hypothesis seeds its choices by what stands in the source
    def one(**given_values: Any) -> None:
        attempt({name: value for name, value in given_values.items() if name not in fixed})

    with alike():
        drawing(examples, shrink=shrink, given=not shrink)(given(**handle._given_kwargs)(one))(**dict.fromkeys(fixed))


class Search:
    """Hypothesis's search for the smallest case that fails, within a time: what it has not tried by then passes."""

    def __init__(self, send: Callable[[Case], GroupReport], case: Case, report: GroupReport) -> None:
        self.case, self.report = case, report
        self._send = send
        self._tried: dict[str, GroupReport | None] = {}
        self._until = time.monotonic() + _SECONDS

    def run(self, body: Any, examples: int) -> None:
        """Search; afterwards ``case`` and ``report`` are the smallest failure's, if one failed alone."""

        def attempt(case: Case) -> None:
            report = self._try(case)
            if report is not None:
                self.case, self.report = case, report
                raise _StillFails

        from hypothesis.errors import HypothesisException

        # Where it fails now and then, hypothesis says so: the last failure seen is the one to tell.
        with contextlib.suppress(_StillFails, HypothesisException):
            _drive(body, attempt, examples, shrink=True)

    def _try(self, case: Case) -> GroupReport | None:
        key = json.dumps(case, sort_keys=True)
        if key not in self._tried:
            if time.monotonic() > self._until:
                return None
            report = self._send(case)
            self._tried[key] = report if report.failures else None
        return self._tried[key]


class _StillFails(Exception):
    """The case fails on the ranks."""
