"""The checks that run on ranks: their groups, their cases, and what came of them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from .cases import Case, Search, dealt, drawn
from .config import WORLD_SIZES
from .grounds import Ground
from .probes.result import Result
from .ranked_result import agreed, cause, failed, found
from .ranks.group import GroupError, Setup
from .ranks.pool import Pool
from .ranks.report import GroupReport
from .ranks.store import Keeper
from .suite import jobs
from .suite.areas import SERVING
from .suite.declare import Check


class RankedChecks:
    """The ranks of one world, made when first needed. Whoever makes it closes it.

    ``sizes``: those of the groups that were asked for, or None. ``serving``: the seconds that a check has in which
    models are served.
    """

    def __init__(
        self, ground: Ground, *, sizes: Sequence[int] | None, examples: int, deadline: float, serving: float
    ) -> None:
        self._ground = ground
        self._sizes = sizes
        self._examples = examples
        self._deadline = deadline
        self._serving = serving
        self._pools: dict[tuple[bool, bool], Pool] = {}
        self._obstacles: dict[bool, str] = {}

    def run(self, check: Check) -> Result:
        """What came of a check on groups of each of its sizes, the smallest first, as of a probe."""
        sizes = self._sizes_of(check)
        if not sizes:
            return found("not-run", self._too_few(check))
        if obstacle := self._obstacles.get(check.joined):
            return found("blocked", obstacle)
        body = getattr(importlib.import_module(check.module), check.name)
        cases = dealt(drawn(body, self._examples_of(check)), sizes)
        results = []
        for size, mine in zip(sizes, cases, strict=True):
            try:
                result = self._run_on(check, body, mine, size)
            except GroupError as error:
                self._obstacles[check.joined] = str(error)  # it is not tried again
                return found("blocked", str(error))
            if result.failure is not None or result.value["outcome"] not in ("pass", "unsupported"):
                return result
            results.append(result)
        usual = self._sizes or WORLD_SIZES
        # One rank alone, without a group, has nothing that wakes.
        self._pool(check).keep(usual if check.joined else (1, *usual))
        return next((result for result in results if result.value["outcome"] != "pass"), results[0])

    def close(self) -> None:
        """End every rank, and the store in which they met."""
        while self._pools:
            self._pools.popitem()[1].close()
        if "_store" in vars(self):
            vars(self).pop("_store").close()
        self._ground.close()

    @cached_property
    def _store(self) -> Keeper:
        return self._ground.keeper()

    def _sizes_of(self, check: Check) -> list[int]:
        """The sizes asked for, even where ranks must then share devices; else the check's own, as far as these go."""
        least = min(check.sizes)
        if self._sizes is not None and check.sizes != (1,):
            return [size for size in check.sizes if size == 1] + [s for s in self._sizes if s >= max(2, least)]
        return [size for size in check.sizes if self._ground.devices is None or size <= self._ground.devices]

    def _examples_of(self, check: Check) -> int:
        return max(1, self._examples // check.worth)

    def _too_few(self, check: Check) -> str:
        needed = min(check.sizes)
        if self._sizes is not None:
            return f"it needs a group of at least {needed} ranks, which --world-size does not allow"
        there = f"it needs {needed} devices, and the platform has {self._ground.devices} here"
        return f"{there}; where its backend lets ranks share one, say --world-size={needed}"

    def _run_on(self, check: Check, body: Callable[..., Any], cases: Sequence[Case], size: int) -> Result:
        report = self._send(check, cases, size)
        if not report.failures:
            return agreed(report)
        first = cause(report)
        failed_case = cases[min(first.part, len(cases) - 1)]
        if len(cases) > 1 and first.failure is not None and first.failure.kind == "raised":
            smaller = Search(lambda case: self._send(check, [case], size), failed_case, report)
            smaller.run(body, self._examples_of(check))
            failed_case, report = smaller.case, smaller.report
        return failed(check.name, failed_case, size, report)

    def _send(self, check: Check, cases: Sequence[Case], size: int) -> GroupReport:
        seconds = self._serving if check.area in SERVING else self._deadline
        body = {
            "module": check.module,
            "name": check.name,
            "cases": list(cases),
            "deadline": 0.9 * seconds,
            "watched": check.watched,
        }
        return self._pool(check).run(jobs.RUN_ON_RANK, body, size=size, seconds=seconds)

    def _pool(self, check: Check) -> Pool:
        joined, serving = check.joined, self._ground.serves_apart and check.area in SERVING
        if (joined, serving) not in self._pools:
            arguments = {
                "address": self._store.address,
                "joined": joined,
                "seconds": self._deadline,
                "entering": self._ground.entering,
            }
            patience = self._deadline if self._ground.entering is None else 3 * self._deadline
            setup = Setup(jobs.PREPARE_RANK, arguments, seconds=patience)
            self._pools[joined, serving] = self._ground.pool(setup, serving=serving)
        return self._pools[joined, serving]
