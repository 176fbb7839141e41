"""An agent that has joined, as the controller's other threads see it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import Any

from .mailbox import Mailbox
from .place import Place
from .wire import Link, WireError, encoded

_LAGS = 2.0  # the wire is not always as quick as it was last


class Peer:
    """An agent: who waits for what it says takes a mailbox, under a number that goes with every message to and fro.

    ``reached`` is the controller's address by which it came. ``lost`` is why it is gone, empty while it is there.
    """

    def __init__(self, link: Link, place: Place, reached: str) -> None:
        self.place = place
        self.reached = reached
        self.lost = ""
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._mailboxes: dict[int, Mailbox] = {}
        self._beats = 0
        self._beaten_at = time.monotonic()
        self._round_trip = 0.0

    @property
    def lag(self) -> float:
        """How long a question and its answer are on their way, in seconds."""
        return _LAGS * self._round_trip

    def open(self, number: int) -> Mailbox:
        """A mailbox for what it says under that number; where it is lost, that is all that ever comes there."""
        mailbox = Mailbox()
        with self._lock:
            self._mailboxes[number] = mailbox
            if self.lost:
                mailbox.put({"lost": self.lost})
        return mailbox

    def close(self, number: int) -> None:
        """Close the mailbox of that number."""
        with self._lock:
            self._mailboxes.pop(number).close()

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send it a message, without waiting for it to go.

        Raises WireError where it is lost, TypeError or ValueError where the message is no plain data or too long.
        """
        body = encoded(message)
        if self.lost:
            raise WireError(self.lost)
        self._loop.call_soon_threadsafe(self._write, body)

    @property
    def silent(self) -> float:
        """For how many seconds nothing has been heard from it."""
        return self._link.silent

    def measure(self) -> None:
        """Give a sign of life that is answered, which tells the lag."""
        self._beats += 1
        self._beaten_at = time.monotonic()
        self._write(encoded({"do": "beat", "number": self._beats}))

    async def listen(self) -> None:
        """Hand on what it says, until it is gone."""
        try:
            while True:
                self._heard(await self._link.receive())
        except WireError as error:
            self.lose(str(error))
        finally:
            self.lose("what it said was not understood")

    def lose(self, reason: str) -> None:
        """It is gone: tell all who wait for it."""
        self._link.abort()
        with self._lock:
            self.lost = self.lost or reason
            for mailbox in self._mailboxes.values():
                mailbox.put({"lost": self.lost})

    def _heard(self, message: Mapping[str, Any]) -> None:
        if "beat" in message:
            if message["beat"] == self._beats:
                self._round_trip = time.monotonic() - self._beaten_at
            return
        with self._lock:
            mailbox = self._mailboxes.get(message.get("to", 0))
            if mailbox is not None:
                mailbox.put(message)

    def _write(self, body: bytes) -> None:
        if self.lost:
            return
        try:
            self._link.write(body)
        except WireError as error:
            self.lose(str(error))
