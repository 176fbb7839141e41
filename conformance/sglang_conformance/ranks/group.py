"""The controller's side of one group: start its ranks, send them a check, watch them all at once, end them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..probes.channel import ChannelError
from ..probes.client import Child, Warm
from ..probes.result import Failure, Output, ZygoteError, ending
from ..probes.watch import send_signal
from ..probes.world import World
from .board import WAITING, Board
from .calls import POINT_TO_POINT
from .report import GroupReport, RankReport

_JOB = "sglang_conformance.ranks.rank:live"
_GRACE = 0.05
_LONG_GRACE = 1.0
_STACKS_GRACE = 0.1


@dataclass(frozen=True)
class Setup:
    """How ranks are made ready: a function named ``package.module:function``, its plain arguments, and their world.

    ``watched`` ranks say on the board what they are about to call. ``seconds`` is how long it may take.
    """

    function: str = ""
    arguments: Mapping[str, Any] | None = None
    world: World | None = None
    watched: bool = True
    seconds: float = 60.0


class GroupError(RuntimeError):
    """The ranks of a group could not be made ready; ``report`` tells why."""

    def __init__(self, report: GroupReport) -> None:
        super().__init__(f"the ranks could not be made ready: {report.summary()}")
        self.report = report


class Group:
    """So many ranks, forked from a warm process. Usable until a report says otherwise; whoever makes it closes it."""

    def __init__(self, warm: Warm, size: int, setup: Setup) -> None:
        self.size = size
        self._setup = setup
        self._warm = warm
        self._ready = False
        self._checks = 1  # the set-up is the first
        self._meeting = secrets.token_hex(8)
        self._members: list[_Member] = []
        self._selector = selectors.DefaultSelector()
        descriptor = Board.make(size)
        self._board = Board(descriptor, size)
        try:
            for number in range(size):
                member = _Member(number, self._start(number, descriptor))
                self._members.append(member)
                for source, what in member.sources():
                    self._selector.register(source, selectors.EVENT_READ, (member, what))
        except BaseException:
            self.close()
            raise
        finally:
            os.close(descriptor)

    def run(
        self, check: str, arguments: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (), *, seconds: float = 30.0
    ) -> GroupReport:
        """Run a check, ``package.module:function``, on every rank, with the same arguments or each rank's own.

        It has so many seconds. Raises GroupError where the ranks could not be made ready for it.
        """
        self.wait_until_ready()
        self._checks += 1
        each = [arguments] * self.size if isinstance(arguments, Mapping) else arguments
        for member, own in zip(self._members, each or [{}] * self.size, strict=True):
            member.begin()
            with contextlib.suppress(OSError):  # it is gone: its end is seen below
                request = {"id": self._checks, "check": check, "arguments": dict(own), "seconds": seconds}
                member.child.control.send(request)
        return self._watch(seconds)

    def worn(self, checks: int) -> bool:
        """Whether it has run more than so many checks, and had better be replaced."""
        return self._checks > checks

    def wait_until_ready(self) -> None:
        """Wait for the set-up of all ranks; raises GroupError where one failed."""
        if self._ready:
            return
        report = self._watch(self._setup.seconds)
        if report.failures:
            raise GroupError(report)
        self._ready = True

    def close(self) -> None:
        """End every rank, and whatever it has started."""
        for member in self._members:
            self._end(member)
        self._members.clear()
        self._selector.close()
        self._board.close()

    def _start(self, number: int, board: int) -> Child:
        arguments = {
            "number": number,
            "size": self.size,
            "meeting": self._meeting,
            "watched": self._setup.watched,
            "setup": self._setup.function,
            "arguments": dict(self._setup.arguments or {}),
            "seconds": self._setup.seconds,
        }
        return self._warm.start(_JOB, arguments, world=self._setup.world, descriptors=(board,))

    def _watch(self, seconds: float) -> GroupReport:
        """Take in what comes, until every rank has answered, one has failed for good, or the time is over."""
        started = time.monotonic()
        until = started + seconds
        failed_at = 0.0
        while any(member.open for member in self._members):
            moment = until if not self._failed() else min(until, failed_at + self._grace())
            if (left := moment - time.monotonic()) <= 0:
                break
            self._take(left)
            if self._failed() and not failed_at:
                failed_at = time.monotonic()
        stuck = [member for member in self._members if member.open]
        if stuck:
            self._collect_stacks(stuck)
            for member in stuck:
                member.give_up(seconds, alone=not self._failed())
        return self._report(time.monotonic() - started)

    def _grace(self) -> float:
        """How long the others have when one has failed. They may wait for it for ever; those that wait on the board see
        at once that it is gone, and only need their turn to say so.
        """
        calls = [self._board.latest(member.number) for member in self._members if member.open]
        return _LONG_GRACE if all(call is not None and call.stage == WAITING for call in calls) else _GRACE

    def _failed(self) -> int:
        return sum(member.failure is not None for member in self._members)

    def _take(self, seconds: float) -> None:
        for key, _ in self._selector.select(max(seconds, 0.0)):
            member, what = key.data
            if member.ended is None:
                member.take(what, order=self._failed())
            if what == "end":
                self._end(member)

    def _end(self, member: _Member) -> None:
        """End a rank, or take note of its end, and stop watching it."""
        if member.ended is not None:
            return
        order = self._failed()
        for source, _ in member.sources():
            self._selector.unregister(source)
        try:
            member.end(self._warm.end(member.child).status, order)
        except ZygoteError:  # the warm process is gone, and its forks with it
            member.end(-signal.SIGKILL, order)
        self._board.bury(member.number)

    def _collect_stacks(self, stuck: Sequence[_Member]) -> None:
        for member in stuck:
            send_signal(member.child.pidfd, signal.SIGUSR1)  # faulthandler writes every thread's stack to the output
        until = time.monotonic() + _STACKS_GRACE
        while any(not member.has_stacks for member in stuck) and (left := until - time.monotonic()) > 0:
            self._take(left)

    def _report(self, seconds: float) -> GroupReport:
        reports = []
        for member in self._members:
            member.drain()
            call = self._board.latest(member.number)
            reports.append(replace(member.report(), call=str(call) if call else ""))
        changed = tuple(dict.fromkeys(name for member in self._members for name in member.changed))
        usable = not changed and (not self._failed() or self._in_step())
        return GroupReport(tuple(reports), usable, seconds, changed)

    def _in_step(self) -> bool:
        """Whether all ranks, some of which raised, have made the same calls: then none waits in the backend."""
        counts = [member.counts for member in self._members]
        alike = all(count == counts[0] for count in counts)
        return counts[0] is not None and alike and POINT_TO_POINT not in counts[0]


class _Member:
    """What is known of one rank, of its present check."""

    def __init__(self, number: int, child: Child) -> None:
        self.number = number
        self.child = child
        self.ended: int | None = None
        os.set_blocking(child.reader, False)
        self.begin()

    def begin(self) -> None:
        """A new check begins; what was printed between the two is dropped with the last one's."""
        self.open = True
        self.value: Any = None
        self.failure: Failure | None = None
        self.order = 0
        self.counts: dict[str, int] | None = None
        self.changed: list[str] = []
        self._output = Output()

    def sources(self) -> list[tuple[Any, str]]:
        """Where to listen, and what comes there."""
        child = self.child
        return [(child.control, "answer"), (child.results, "result"), (child.pidfd, "end"), (child.reader, "output")]

    @property
    def has_stacks(self) -> bool:
        """Whether faulthandler has written to the output."""
        return b"most recent call first" in self._output.tail or b"most recent call first" in self._output.head

    def take(self, what: str, *, order: int) -> None:
        """Take in what is there to read; ``order`` is that of a failure seen now."""
        if what in ("output", "end"):
            self.drain()
        if what != "output":
            self._take_messages(order)

    def drain(self) -> None:
        """Read what it has printed."""
        with contextlib.suppress(BlockingIOError):
            while self.ended is None and (data := os.read(self.child.reader, 1 << 16)):
                self._output.add(data)

    def give_up(self, seconds: float, *, alone: bool) -> None:
        """It is still running: at the end of its time, or (not ``alone``) when another one has failed."""
        self.open = False
        message = f"still running after {seconds:g} s" if alone else "still running when another rank had failed"
        self.failure = Failure("hung" if alone else "stopped", "Hung" if alone else "Stopped", message)
        self.order = 0 if alone else 1 << 16

    def end(self, status: int, order: int) -> None:
        """Its process has ended, with this status: a failure where it still owed an answer."""
        self.ended = status
        if self.open:
            self.open = False
            self.failure, self.order = ending(status), order

    def report(self) -> RankReport:
        """What came of its check."""
        return RankReport(self.number, self.value, self.failure, self._output.text(), order=self.order)

    def _take_messages(self, order: int) -> None:
        for channel in (self.child.results, self.child.control):
            with contextlib.suppress(ChannelError, OSError):
                while self.open and (received := channel.receive(timeout=0.0)) is not None:
                    self._answered(received[0], order)

    def _answered(self, message: Mapping[str, Any], order: int) -> None:
        if "progress" in message:  # it is ready
            self.open = False
            return
        self.open = False
        self.counts = message.get("counts")
        self.changed = list(message.get("changed", ()))
        if "failure" in message:
            self.failure, self.order = Failure.raised(message["failure"]), order
        else:
            self.value = message.get("value")
