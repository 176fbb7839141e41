"""What came of one check on every rank of a group, and how to tell it to a person.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..probes.result import Failure, readable
from .board import Disagreement

_LEFT = re.compile(r"connection (closed|reset) by peer", re.IGNORECASE)  # gloo's words, and the system's


@dataclass(frozen=True)
class RankReport:
    """One rank: its value or how it failed; ``output`` is what it printed, ``call`` what it said last on the
    board, ``waits`` whether it waited there for the others.

    ``order`` counts the failures of a group in the order in which they were seen: 0 for the first, and for no failure;
    less for a rank that ended on another machine, which its peers may have noticed first.
    ``part`` is the number of the part of the check that it had come to.
    A rank that was still running when another one's failure ended the check has the kind ``stopped``;
    one of another machine that is gone, with its agent or its host, ``lost``.
    """

    rank: int
    value: Any = None
    failure: Failure | None = None
    output: str = ""
    call: str = ""
    waits: bool = False
    part: int = 0
    order: int = 0

    @property
    def follows(self) -> bool:
        """Whether it failed, as far as can be told, only because another rank did."""
        if self.failure is None or self.failure.kind in ("stopped", "hung"):
            return self.failure is None or self.failure.kind == "stopped" or self.waits
        disagrees = Disagreement.__name__ in (self.failure.type, *self.failure.bases)
        return disagrees or _LEFT.search(self.failure.message) is not None


@dataclass(frozen=True)
class GroupReport:
    """A check on a whole group. ``usable``: the group is as it was, and may run the next one."""

    ranks: tuple[RankReport, ...]
    usable: bool
    seconds: float = 0.0
    changed: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[RankReport, ...]:
        """The ranks that failed, the first to fail first; those that only followed another one after it."""
        return tuple(sorted((r for r in self.ranks if r.failure is not None), key=lambda r: (r.follows, r.order)))

    @property
    def values(self) -> tuple[Any, ...]:
        """Every rank's value, by rank; raises ValueError where a rank failed."""
        if self.failures:
            raise ValueError(f"there is no value of every rank: {self.summary()}")
        return tuple(rank.value for rank in self.ranks)

    def summary(self) -> str:
        """One line: which rank did what first, and where the others then were."""
        return "; ".join(_line(rank) for rank in self.failures)

    def text(self, lines: int = 40) -> str:
        """Everything that a person may need, rank by rank, the first to fail first, each cut to so many lines."""
        parts = []
        for rank in (*self.failures, *(r for r in self.ranks if r.failure is None and r.output.strip())):
            parts.append(f"rank {rank.rank}: {_line(rank) if rank.failure else 'done'}")
            detail = "\n".join(filter(None, (rank.failure.traceback if rank.failure else "", rank.output.rstrip())))
            parts += [f"    {line}" for line in readable(detail, lines).splitlines()]
        return "\n".join(parts)


def _line(rank: RankReport) -> str:
    failure = rank.failure
    if failure is None:
        return f"rank {rank.rank} is done"
    what = f"{failure.type}: {failure.message}" if failure.kind == "raised" else failure.message
    where = f" ({rank.call})" if rank.call and failure.type != "Disagreement" else ""
    return f"rank {rank.rank} {_DID[failure.kind]}{what}{where}"


_DID: Mapping[str, str] = {
    "raised": "raised ",
    "exited": "exited: ",
    "killed": "died: ",
    "hung": "hung: ",
    "stopped": "was stopped: ",
    "lost": "was lost: ",
}
