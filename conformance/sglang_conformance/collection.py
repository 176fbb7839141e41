"""The suite as pytest items: one for each check whose requirements apply to the run.

The suite has collectors of its own, so that a project's settings (``python_functions``, a conftest's fixtures, an
assertion rewriter) cannot change which checks there are or what they do.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .certificate.model import Observation
from .suite.areas import AREAS, checks
from .suite.declare import Check

SUITE = Path(__file__).parent / "suite"
ATTRIBUTE = "conformance"


class CheckFailed(Exception):
    """A check failed on a required requirement; its text is the failure as a person reads it."""


class CheckItem(pytest.Item):
    """One check. Its body never runs in this process unless it sees plain data only."""

    def __init__(self, *, check: Check, judge: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.check = check
        self.observation: Observation | None = None
        self._judge = judge
        self.extra_keyword_matches.update(check.requirements)

    def runtest(self) -> None:
        """Judge the check, and tell pytest: a broken MUST fails, what could not be judged is skipped."""
        self.observation = observation = self._judge.judge(self.check)
        if observation.outcome == "fail" and self._judge.decides(self.check):
            raise CheckFailed(self._judge.failure_text(observation))
        if observation.outcome != "pass":
            pytest.skip(f"{self._judge.word(observation)}: {observation.message.splitlines()[0]}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The failure's own text; pytest's for what is not a failed check."""
        if isinstance(excinfo.value, CheckFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """Where the check stands."""
        return self.path, self.check.line - 1, self.check.name


class Area(pytest.File):
    """One module of the suite."""

    def collect(self) -> Iterator[CheckItem]:
        """Its checks, where they apply to this run."""
        judge = self.session.config.stash[JUDGE]
        for check in checks(self.path.stem):
            if judge.applies(check):
                yield CheckItem.from_parent(self, name=check.name, check=check, judge=judge)


class Suite(pytest.Directory):
    """The suite's folder. pytest's own collector would look at all that lies in it, once for each area asked for."""

    def collect(self) -> Iterator[Area]:
        """Its areas, in their order."""
        for area in AREAS:
            path = SUITE / f"{area}.py"
            yield Area.from_parent(self, path=path, nodeid=f"{__package__}/suite/{path.name}")


JUDGE = pytest.StashKey[Any]()


def collector(path: Path, parent: pytest.Collector) -> Suite | None:
    """The collector of the suite's folder; None for any other."""
    return Suite.from_parent(parent, path=path) if path == SUITE else None
