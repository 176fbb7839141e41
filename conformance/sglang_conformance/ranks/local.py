"""Ranks that are forked from a warm process of this machine, and meet on one board.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from ..probes.channel import ChannelError
from ..probes.client import Warm
from ..probes.result import ending
from .board import Board
from .forked import Forked
from .member import Member, Said
from .setup import Setup


class LocalMember(Member):
    """A rank of this machine."""

    def __init__(self, rank: Forked) -> None:
        self._rank = rank
        super().__init__(rank.number)

    def begin(self) -> None:
        """A new check begins."""
        super().begin()
        self._rank.begin()

    def ask(self, request: Mapping[str, Any]) -> None:
        """Send it a check; raises OSError where it is gone."""
        self._rank.child.control.send(request)

    def sources(self) -> list[tuple[Any, str]]:
        """Its two channels, its end and its output."""
        child = self._rank.child
        return [(child.control, "answer"), (child.results, "result"), (child.pidfd, "end"), (child.reader, "output")]

    def take(self, what: str, *, order: int) -> bool:
        """Take in what came; whether it is its end."""
        if what in ("output", "end"):
            self._rank.drain()
        if what != "output":
            self._take_messages(order)
        return what == "end"

    def ask_for_stacks(self) -> None:
        """Have faulthandler print every thread's stack."""
        self._rank.ask_for_stacks()

    @property
    def has_stacks(self) -> bool:
        """Whether faulthandler has printed."""
        return self._rank.has_stacks

    def kill(self) -> None:
        """Kill it."""
        if not self.ended:
            self._rank.kill()

    def end(self, order: int) -> None:
        """End its process, and note how it ended where it still owed an answer."""
        if not self.ended:
            self.ended = True
            self.fail(ending(self._rank.end()), order)

    def said(self) -> Said:
        """What it has said on the board that it shares with its peers."""
        return self._rank.said()

    def output(self) -> str:
        """What it has printed in its present check, cut."""
        if not self.ended:
            self._rank.drain()
        return self._rank.output()

    def close(self) -> None:
        """Let go of the board."""
        self._rank.close()

    def _take_messages(self, order: int) -> None:
        child = self._rank.child
        for channel in (child.results, child.control):
            with contextlib.suppress(ChannelError, OSError):
                while self.open and (received := channel.receive(timeout=0.0)) is not None:
                    self.answered(received[0], order)


class Here:
    """Starts ranks as forks of a warm process, which belongs to somebody else."""

    def __init__(self, warm: Warm) -> None:
        self._warm = warm

    def start(self, size: int, setup: Setup, meeting: str) -> Iterator[Member]:
        """Start so many ranks, by number. Raises ZygoteError where the warm process is gone."""
        board = Board.make(size)
        try:
            for number in range(size):
                told = setup.told(number, size, meeting, local=number, alone=False)
                yield LocalMember(Forked(self._warm, told, setup.world, board))
        finally:
            os.close(board)

    def close(self) -> None:
        """There is nothing to free."""
