"""One rank in its agent's hands: what comes from its process is told to the controller.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ..probes.channel import Channel, ChannelError
from ..probes.server import describe
from .forked import STACKS_GRACE, Forked

Tell = Callable[[Mapping[str, Any]], None]
_PAUSE = 0.005


class Held:
    """A rank's process, watched by the event loop. ``ended`` is called, once, when it has ended by itself."""

    def __init__(self, rank: Forked, tell: Tell, ended: Callable[[], None]) -> None:
        self._rank = rank
        self._tell = tell
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._over = False
        self._tasks: set[asyncio.Task[None]] = set()
        child = rank.child
        for channel in (child.results, child.control):
            self._loop.add_reader(channel, self._comes, channel)
        self._loop.add_reader(child.reader, self._prints)
        self._loop.add_reader(child.pidfd, self._ends)

    async def ask(self, request: Mapping[str, Any]) -> None:
        """Send it a check. May wait for a rank that does not listen, until that is killed; then raises OSError."""
        self._rank.begin()
        await asyncio.to_thread(self._rank.child.control.send, request)

    def ask_for_stacks(self) -> None:
        """Tell, in a moment, where its threads are."""
        if not self._over:
            self._rank.ask_for_stacks()
            self._do(self._await_stacks())

    def kill(self) -> None:
        """Kill it at once; :meth:`end` must follow."""
        if not self._over:
            self._rank.kill()

    async def end(self) -> None:
        """End it, with all that it has started, and tell how it had ended."""
        if self._over:
            return
        self._over = True
        self._rank.kill()
        child = self._rank.child
        for source in (child.results, child.control, child.reader, child.pidfd):
            self._loop.remove_reader(source)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._rank.drain()
        status = await asyncio.to_thread(self._rank.end)
        self._say({"status": status})
        self._rank.close()

    def _say(self, what: Mapping[str, Any]) -> None:
        self._tell({**what, "output": self._rank.output(), "said": asdict(self._rank.said())})

    def _comes(self, channel: Channel) -> None:
        """There is something to read: in a thread, as a rank that stops within a message must hold up nobody."""
        self._loop.remove_reader(channel)
        self._do(self._read(channel))

    async def _read(self, channel: Channel) -> None:
        try:
            received = await asyncio.to_thread(channel.receive, 0.0)
        except (ChannelError, OSError):
            return  # nothing that comes after this can be read
        if received is None:
            return
        self._rank.drain()
        try:
            self._say({"answer": received[0]})
        except (ValueError, RecursionError) as error:  # it is too long to be sent on
            self._say({"answer": {"failure": describe(error)}})
        if not self._over:
            self._loop.add_reader(channel, self._comes, channel)

    def _prints(self) -> None:
        if not self._rank.drain():
            self._loop.remove_reader(self._rank.child.reader)

    def _ends(self) -> None:
        self._loop.remove_reader(self._rank.child.pidfd)
        self._ended()

    async def _await_stacks(self) -> None:
        until = time.monotonic() + STACKS_GRACE
        while not self._rank.has_stacks and time.monotonic() < until and not self._over:
            await asyncio.sleep(_PAUSE)
        if not self._over:
            self._say({"stacks": self._rank.has_stacks})

    def _do(self, work: Any) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
