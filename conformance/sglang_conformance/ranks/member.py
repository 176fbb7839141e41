"""One rank as its group sees it, wherever it runs: how it is spoken to, and what is known of its present check.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..probes.result import Failure
from .board import WAITING, Call
from .report import RankReport
from .setup import Setup


@dataclass(frozen=True)
class Said:
    """What a rank has said on its board: its latest call, whether it waits there for its peers, the part reached."""

    call: str = ""
    waits: bool = False
    part: int = 0

    @classmethod
    def of(cls, call: Call | None, part: int) -> Said:
        """From what stands on the board."""
        return cls(str(call) if call else "", call is not None and call.stage == WAITING, part)


class Member(abc.ABC):
    """A rank of a group, ``open`` while it owes an answer. Whoever makes it ends it, and closes it after that."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.ended = False
        self.begin()

    def begin(self) -> None:
        """A new check begins; what was printed between the two is dropped with the last one's."""
        self.open = True
        self.value: Any = None
        self.failure: Failure | None = None
        self.order = 0
        self.counts: dict[str, int] | None = None
        self.changed: list[str] = []

    @property
    def lag(self) -> float:
        """How long a question to it and the answer are on their way, in seconds, beside what it does itself."""
        return 0.0

    @abc.abstractmethod
    def ask(self, request: Mapping[str, Any]) -> None:
        """Send it a check; raises OSError where it is gone."""

    @abc.abstractmethod
    def sources(self) -> list[tuple[Any, str]]:
        """Where to listen, and what comes there. Waits for the rank to be there; raises ZygoteError if it never is."""

    @abc.abstractmethod
    def take(self, what: str, *, order: int) -> bool:
        """Take in what is there to read; ``order`` is that of a failure seen now. Whether its end has come."""

    @abc.abstractmethod
    def ask_for_stacks(self) -> None:
        """Have it print every thread's stack; :attr:`has_stacks` tells when it has."""

    @property
    @abc.abstractmethod
    def has_stacks(self) -> bool:
        """Whether its stacks are in its output."""

    @abc.abstractmethod
    def kill(self) -> None:
        """Kill it, and do not wait for its end: :meth:`end` must follow."""

    @abc.abstractmethod
    def end(self, order: int) -> None:
        """End its process, and with it what it may still owe: a failure of that order. ``ended`` from then on."""

    @abc.abstractmethod
    def said(self) -> Said:
        """What it has said on its board."""

    @abc.abstractmethod
    def output(self) -> str:
        """What it has printed in its present check, cut."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of what is left of it, once it has ended and its last report was asked for."""

    def give_up(self, seconds: float, *, alone: bool) -> None:
        """It is still running: at the end of its time, or (not ``alone``) when another one has failed."""
        message = f"still running after {seconds:g} s" if alone else "still running when another rank had failed"
        failure = Failure("hung" if alone else "stopped", "Hung" if alone else "Stopped", message)
        self.fail(failure, 0 if alone else 1 << 16)

    def fail(self, failure: Failure, order: int) -> None:
        """It has failed, where it still owed an answer."""
        if self.open:
            self.open = False
            self.failure, self.order = failure, order

    def answered(self, message: Any, order: int) -> None:
        """It has said that it is ready, or how its check ended."""
        if not self.open:
            return
        try:
            failure = Failure.raised(message["failure"]) if "failure" in message else None
            self.value, self.counts = message.get("value"), message.get("counts")
            self.changed = list(message.get("changed", ()))
        except (AttributeError, KeyError, TypeError, ValueError):  # not the rank's own words, but those of a vendor
            failure = Failure("exited", "Unreadable", "it sent something that is no answer")
        if failure is not None:
            self.fail(failure, order)
        self.open = False

    def report(self) -> RankReport:
        """What came of its check."""
        text, said = self.output(), self.said()
        return RankReport(
            self.number,
            self.value,
            self.failure,
            output=text,
            call=said.call,
            waits=said.waits,
            part=said.part,
            order=self.order,
        )


class Starter(Protocol):
    """Whatever starts the ranks of groups: a warm process of this machine, or agents on many."""

    def start(self, size: int, setup: Setup, meeting: str) -> Iterator[Member]:
        """Start so many ranks, one after another, by number, for a group that meets under that name.

        Raises ZygoteError where there are not so many to be had.
        """

    def close(self) -> None:
        """Free what was taken in order to start ranks; there are none any more."""
