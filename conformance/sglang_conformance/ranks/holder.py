"""What an agent keeps for its controller: warm processes, and ranks forked from them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from ..probes import client
from ..probes.client import Warm, Zygote
from ..probes.result import Result, ZygoteError
from ..probes.server import describe
from ..probes.world import World
from .allowed import Allowed
from .board import Board
from .forked import Forked
from .held import Held, Tell
from .setup import READY


class Holder:
    """Does what the controller asks, one thing after another, beside what cannot wait. Belongs to one event loop."""

    def __init__(self, allowed: Allowed, tell: Tell) -> None:
        """``tell`` sends a message to the controller."""
        self._allowed = allowed
        self._tell = tell
        self._zygotes: dict[tuple[str, ...], Zygote] = {}
        self._stages: dict[int, list[Warm]] = {}
        self._ranks: dict[int, tuple[int, Held]] = {}
        self._queue: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._doing = {
            "stage": self._stage,
            "leave": self._leave,
            "run": self._run,
            "start": self._start,
            "ask": self._ask,
            "end": self._end,
        }

    def take(self, message: Mapping[str, Any]) -> None:
        """Take in what the controller asks. A rank is killed at once; all else waits for its turn."""
        held = self._ranks.get(message["to"], (0, None))[1]
        if message["do"] == "stacks":
            if held is not None:
                held.ask_for_stacks()
            return
        if message["do"] == "end" and held is not None:
            held.kill()
        self._queue.put_nowait(message)

    async def work(self) -> None:
        """Do what was asked, for ever."""
        while True:
            message = await self._queue.get()
            await self._doing[message["do"]](message)

    def close(self) -> None:
        """End every rank and every warm process, and all that came of them, whatever was being done with them."""
        for _, held in self._ranks.values():
            held.kill()
        for zygote in self._zygotes.values():
            zygote.close()

    async def _stage(self, message: Mapping[str, Any]) -> None:
        """A warm process made ready by jobs."""
        key = message["to"]
        self._stages[key] = []
        try:
            for job in message["jobs"]:
                self._allowed.job(job["job"])
            warm = client.connect(self._zygote(message["modules"]).address)
            self._stages[key].append(warm)
            answer: dict[str, Any] = {"value": None, "threads": await asyncio.to_thread(_threads, warm)}
            for job in message["jobs"]:
                warm, value = await asyncio.to_thread(_next_stage, warm, job)
                self._stages[key].append(warm)
                answer = {"value": value, "threads": warm.threads}
        except (ZygoteError, PermissionError, OSError) as error:
            answer = {"failure": str(error)}
        self._tell({"to": key, **answer})

    def _zygote(self, modules: list[str]) -> Zygote:
        """Of this, the main thread: the zygote is to end when the thread that started it does."""
        names = tuple(map(self._allowed.module, modules))
        zygote = self._zygotes.get(names)
        if zygote is None or zygote.process.poll() is not None:
            zygote = self._zygotes[names] = client.start(names)
        return zygote

    async def _leave(self, message: Mapping[str, Any]) -> None:
        for key, (stage, held) in list(self._ranks.items()):
            if stage == message["to"]:
                del self._ranks[key]
                await held.end()
        self._close_stage(message["to"])

    def _close_stage(self, key: int) -> None:
        for warm in reversed(self._stages.pop(key, [])):
            warm.close()

    async def _run(self, message: Mapping[str, Any]) -> None:
        """A job in a probe."""
        job = message["job"]
        try:
            self._allowed.job(job["job"])
            result = await asyncio.to_thread(_probed, self._warm(message["stage"]), job)
            answer: dict[str, Any] = {"result": asdict(result)}
        except (ZygoteError, PermissionError, OSError) as error:
            answer = {"failure": str(error)}
        self._tell({"to": message["to"], **answer})

    def _warm(self, stage: int) -> Warm:
        made = self._stages.get(stage)
        if not made:
            raise ZygoteError("the warm process that it is to be forked from is not there")
        return made[-1]

    async def _start(self, message: Mapping[str, Any]) -> None:
        key = message["to"]
        tell = partial(self._tell_of, key)
        try:
            if message["told"]["setup"]:
                self._allowed.job(message["told"]["setup"])
            warm = self._warm(message["stage"])
            rank = await asyncio.to_thread(_forked, warm, message["told"], World.from_json(message["world"]))
        except (ZygoteError, PermissionError, OSError) as error:
            tell({"answer": {"failure": describe(error)}, "output": "", "said": {}})
            return
        ended = partial(self._queue.put_nowait, {"do": "end", "to": key})
        self._ranks[key] = message["stage"], Held(rank, tell, ended)

    async def _ask(self, message: Mapping[str, Any]) -> None:
        key, request = message["to"], message["request"]
        if key not in self._ranks:
            return
        try:
            self._allowed.job(request["check"])
        except PermissionError as error:
            self._tell_of(key, {"answer": {"failure": describe(error)}, "output": "", "said": {}})
            return
        with contextlib.suppress(OSError):  # it is gone: its end is told
            await self._ranks[key][1].ask(request)

    async def _end(self, message: Mapping[str, Any]) -> None:
        _, held = self._ranks.pop(message["to"], (0, None))
        if held is not None:
            await held.end()

    def _tell_of(self, key: int, what: Mapping[str, Any]) -> None:
        self._tell({**what, "to": key})


def _forked(warm: Warm, told: Mapping[str, Any], world: World) -> Forked:
    board = Board.make(told["size"])
    try:
        rank = Forked(warm, told, world, board)
    finally:
        os.close(board)
    try:
        _ = rank.child  # waited for here, in a thread of its own
    except BaseException:
        rank.close()
        raise
    return rank


def _threads(warm: Warm) -> int:
    """How many threads it has, once it has imported its modules."""
    result = warm.run(READY)
    if result.failure is not None:
        raise ZygoteError(_why(result))
    return int(result.value)


def _next_stage(warm: Warm, job: Mapping[str, Any]) -> tuple[Warm, Any]:
    world = World.from_json(job["world"])
    following, result = warm.warm(job["job"], job["arguments"], world=world, deadline=job["seconds"])
    if following is None:
        raise ZygoteError(f"{job['job']}: {_why(result)}")
    return following, result.value


def _probed(warm: Warm, job: Mapping[str, Any]) -> Result:
    return warm.run(job["job"], job["arguments"], world=World.from_json(job["world"]), deadline=job["seconds"])


def _why(result: Result) -> str:
    failure = result.failure
    if failure is None:
        return "no value"
    return f"{failure.type}: {failure.message}" if failure.kind == "raised" else failure.message
