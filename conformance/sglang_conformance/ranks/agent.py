"""An agent: it joins the controller, does what that asks until it says goodbye, and leaves nothing behind.

It listens nowhere, imports no torch itself, and keeps the warm process and the ranks that fork from it as children.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .address import joined
from .allowed import Allowed
from .handshake import Refused, introduce, line
from .holder import Holder
from .place import Place
from .wire import Closed, Link, WireError

_RETRY = 0.2
_AGAIN = 0.5
_INTRODUCTION = 10.0


class Stopped(Exception):
    """A signal has ended this agent."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.status = 128 + number


@dataclass(frozen=True)
class Agent:
    """Which rank this is, whom it joins and how long it waits for that, in seconds."""

    controller: tuple[str, int]
    secret: bytes
    place: Place
    allowed: Allowed
    wait: float

    async def live(self) -> None:
        """From joining to goodbye. Raises WireError, one line, where it ends otherwise, and Stopped after a signal."""
        loop = asyncio.get_running_loop()
        stopped: asyncio.Future[int] = loop.create_future()

        def stop(number: int) -> None:
            if not stopped.done():
                stopped.set_result(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)
        living = loop.create_task(self._live())
        await asyncio.wait((living, stopped), return_when=asyncio.FIRST_COMPLETED)
        while not living.done():  # asyncio.wait_for may swallow what cancels it (Python before 3.12)
            living.cancel()
            await asyncio.wait((living,), timeout=_AGAIN)
        if stopped.done() and (living.cancelled() or living.exception()):
            raise Stopped(stopped.result())
        living.result()

    async def _live(self) -> None:
        await self._serve(*await self._join())

    async def _join(self) -> tuple[Link, float, float]:
        """A connection to the controller, which may begin to listen only after this has begun to ask."""
        until = time.monotonic() + self.wait
        while True:
            try:
                return await asyncio.wait_for(self._introduced(), _INTRODUCTION)
            except Refused as error:
                raise WireError(f"the controller at {self._where} does not let this rank in: {error}") from error
            except (OSError, asyncio.TimeoutError) as error:
                if time.monotonic() > until:
                    why = str(error) or "it does not answer"
                    raise WireError(f"no controller at {self._where} after {self.wait:g} s: {why}") from error
            await asyncio.sleep(_RETRY)

    async def _introduced(self) -> tuple[Link, float, float]:
        reader, writer = await asyncio.open_connection(*self.controller)
        try:
            link = await introduce(reader, writer, self.secret)
            link.send(self.place.to_json())
            answer = await link.receive()
            if "welcome" not in answer:
                raise Refused(line(answer.get("refused", "no reason was given")))
        except BaseException:
            writer.transport.abort()
            raise
        return link, float(answer["beat"]), float(answer["limit"])

    async def _serve(self, link: Link, beat: float, limit: float) -> None:
        def tell(message: Mapping[str, Any]) -> None:
            with contextlib.suppress(WireError):  # that is noticed where it is listened to
                link.send(message)

        holder = Holder(self.allowed, tell)
        work = (holder.work(), _listen(link, holder), _beat(link, beat, limit))
        tasks = [asyncio.create_task(one) for one in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await next(iter(done))
        except Closed as error:
            raise WireError(f"the controller at {self._where} is gone: {error}") from error
        except WireError as error:
            raise WireError(f"the connection to the controller at {self._where} was given up: {error}") from error
        finally:
            for task in tasks:
                task.cancel()
            holder.close()
            await link.close()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def _where(self) -> str:
        return joined(*self.controller)


async def _beat(link: Link, beat: float, limit: float) -> None:
    """Give signs of life, asked or not, as what the controller asks may be long on its way; and look for its own."""
    while link.silent <= limit - beat:  # the next look is a beat away
        link.send({"beat": 0})
        await asyncio.sleep(beat)
    raise WireError(f"nothing was heard from it for {link.silent:.1f} s")


async def _listen(link: Link, holder: Holder) -> None:
    """Hand on what is asked, and answer what only measures the wire, until goodbye."""
    while (message := await link.receive()).get("do") != "goodbye":
        if message["do"] == "beat":
            link.send({"beat": message["number"]})
        else:
            holder.take(message)
