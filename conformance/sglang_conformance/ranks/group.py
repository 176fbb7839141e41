"""The controller's side of one group: start its ranks, send them a check, watch them all at once, end them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import secrets
import selectors
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..probes.client import Warm
from .calls import POINT_TO_POINT
from .forked import STACKS_GRACE
from .local import Here
from .member import Member, Starter
from .report import GroupReport
from .setup import Setup

__all__ = ["Group", "GroupError", "Setup"]

_GRACE = 0.05
_LONG_GRACE = 1.0


class GroupError(RuntimeError):
    """The ranks of a group could not be made ready; ``report`` tells why."""

    def __init__(self, report: GroupReport) -> None:
        super().__init__(f"the ranks could not be made ready: {report.summary()}")
        self.report = report


class Group:
    """So many ranks, here or on a cluster. Usable until a report says otherwise; whoever makes it closes it."""

    def __init__(self, warm: Warm | Starter, size: int, setup: Setup) -> None:
        """``warm``: what the ranks are forked from, or whatever else starts them."""
        self.size = size
        self._setup = setup
        self._ready = False
        self._checks = 1  # the set-up is the first
        self._members: list[Member] = []
        self._selector = selectors.DefaultSelector()
        starter = Here(warm) if isinstance(warm, Warm) else warm
        self._sources: dict[Member, list[Any]] = {}
        try:
            self._members.extend(starter.start(size, setup, secrets.token_hex(8)))
        except BaseException:
            self.close()
            raise

    def run(
        self, check: str, arguments: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (), *, seconds: float = 30.0
    ) -> GroupReport:
        """Run a check, ``package.module:function``, on every rank, with the same arguments or each rank's own.

        It has so many seconds. Raises GroupError or ZygoteError where the ranks could not be made ready for it.
        """
        self.wait_until_ready()
        self._checks += 1
        each = [arguments] * self.size if isinstance(arguments, Mapping) else arguments
        for member, own in zip(self._members, each or [{}] * self.size, strict=True):
            member.begin()
            with contextlib.suppress(OSError):  # it is gone: its end is seen below
                request = {"id": self._checks, "check": check, "arguments": dict(own), "seconds": seconds}
                member.ask(request)
        return self._watch(seconds)

    def worn(self, checks: int) -> bool:
        """Whether it has run more than so many checks, and had better be replaced."""
        return self._checks > checks

    def wait_until_ready(self) -> None:
        """Wait for the set-up of all ranks; raises GroupError where one failed, ZygoteError where one is not there."""
        if self._ready:
            return
        for member in self._members:
            self._listen(member)
        report = self._watch(self._setup.seconds)
        if report.failures:
            raise GroupError(report)
        self._ready = True

    def close(self) -> None:
        """End every rank, and whatever it has started."""
        for member in self._members:
            member.kill()  # they end at the same time
        for member in self._members:
            self._end(member)
            member.close()
        self._members.clear()
        self._selector.close()

    def _watch(self, seconds: float) -> GroupReport:
        """Take in what comes, until every rank has answered, one has failed for good, or the time is over."""
        started = time.monotonic()
        until = started + seconds + self._lag()
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
            alone = not self._failed()
            self._collect_stacks(stuck)
            for member in stuck:
                member.give_up(seconds, alone=alone)
        return self._report(time.monotonic() - started)

    def _grace(self) -> float:
        """How long the others have when one has failed. They may wait for it for ever; those that wait on the board see
        at once that it is gone, and only need their turn to say so.
        """
        waiting = all(member.said().waits for member in self._members if member.open)
        return (_LONG_GRACE if waiting else _GRACE) + self._lag()

    def _lag(self) -> float:
        return max((member.lag for member in self._members if member.open), default=0.0)

    def _failed(self) -> int:
        return sum(member.failure is not None for member in self._members)

    def _take(self, seconds: float) -> None:
        for key, _ in self._selector.select(max(seconds, 0.0)):
            member, what = key.data
            if not member.ended and member.take(what, order=self._failed()):
                self._end(member)

    def _listen(self, member: Member) -> None:
        """Begin to watch a rank, once it is there."""
        if member in self._sources or member.ended:
            return
        for source, what in member.sources():
            self._selector.register(source, selectors.EVENT_READ, (member, what))
            self._sources.setdefault(member, []).append(source)

    def _end(self, member: Member) -> None:
        """End a rank, or take note of its end, and stop watching it."""
        if member.ended:
            return
        for source in self._sources.pop(member, ()):
            self._selector.unregister(source)
        member.end(self._failed())

    def _collect_stacks(self, stuck: Sequence[Member]) -> None:
        for member in stuck:
            member.ask_for_stacks()
        until = time.monotonic() + STACKS_GRACE + max(member.lag for member in stuck)
        while any(not member.has_stacks for member in stuck) and (left := until - time.monotonic()) > 0:
            self._take(left)

    def _report(self, seconds: float) -> GroupReport:
        reports = tuple(member.report() for member in self._members)
        changed = tuple(dict.fromkeys(name for member in self._members for name in member.changed))
        whole = not any(member.ended for member in self._members)  # a rank may end after it has answered
        usable = whole and not changed and (not self._failed() or self._in_step())
        return GroupReport(reports, usable, seconds, changed)

    def _in_step(self) -> bool:
        """Whether all ranks, some of which raised, have made the same calls: then none waits in the backend."""
        counts = [member.counts for member in self._members]
        alike = all(count == counts[0] for count in counts)
        return counts[0] is not None and alike and POINT_TO_POINT not in counts[0]
