"""A rank's process on this machine: what it prints, what it says on its board, and its end.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ..probes.client import Child, Warm
from ..probes.result import Output, ZygoteError
from ..probes.watch import kill, send_signal
from ..probes.world import World
from .board import Board
from .member import Said
from .setup import JOB

STACKS_GRACE = 0.1
"""How long, in seconds, a process is waited for that was asked for its stacks."""

_READS = 32


class Forked:
    """A rank, forked from a warm process. Whoever makes it ends it."""

    def __init__(self, warm: Warm, arguments: Mapping[str, Any], world: World | None, board: int) -> None:
        """``board`` is the descriptor of the board's memory, ``arguments`` those of the rank's job."""
        self.number = int(arguments["number"])
        self._warm = warm
        self._board = Board(board, int(arguments["size"]))
        self._output = Output()
        try:
            self._starting = warm.start(JOB, arguments, world=world, descriptors=(board,))
        except BaseException:
            self._board.close()
            raise

    @cached_property
    def child(self) -> Child:
        """Its process: waits until it is there. Raises ZygoteError where it cannot be had."""
        child = self._starting.child()
        os.set_blocking(child.reader, False)
        return child

    def begin(self) -> None:
        """A new check begins: what was printed until now is dropped."""
        self._output = Output()

    def drain(self) -> bool:
        """Read what it has printed, up to now; False where nothing more can come."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(_READS):  # more than a pipe holds, and an end to it where a rank prints all the time
                data = os.read(self.child.reader, 1 << 16)
                if not data:
                    return False
                self._output.add(data)
        return True

    def output(self) -> str:
        """What it has printed in its present check, cut."""
        return self._output.text()

    def said(self) -> Said:
        """What it has said on its board."""
        return Said.of(self._board.latest(self.number), self._board.part(self.number))

    @property
    def has_stacks(self) -> bool:
        """Whether faulthandler has written to the output."""
        return b"most recent call first" in self._output.tail or b"most recent call first" in self._output.head

    def ask_for_stacks(self) -> None:
        """Have faulthandler write every thread's stack to the output."""
        send_signal(self.child.pidfd, signal.SIGUSR1)

    def kill(self) -> None:
        """Kill it, and do not wait for its end: :meth:`end` must follow."""
        with contextlib.suppress(ZygoteError):
            kill(self.child.pidfd)

    def end(self) -> int:
        """End it with all of its process group, and tell the peers on its board; its exit status."""
        try:
            return self._warm.end(self.child).status
        except ZygoteError:  # the warm process is gone, and its forks with it
            return -signal.SIGKILL
        finally:
            self._board.bury(self.number)

    def close(self) -> None:
        """Let go of the board; what it has said is not to be known any more."""
        self._board.close()
