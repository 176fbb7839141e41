"""Ranks that agents fork from warm processes of their own, on whichever machine they are.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ..probes.result import Failure, ending
from .member import Member, Said
from .peer import Peer
from .wire import WireError

_FIRST_OF_ALL = -1
"""How a rank failed whose agent is gone, and perhaps the whole of its host."""


class RemoteMember(Member):
    """A rank that an agent has forked. What the agent tells of it comes to a mailbox of its own."""

    def __init__(self, peer: Peer, key: int, number: int) -> None:
        self._peer = peer
        self._key = key
        self._mailbox = peer.open(key)
        self._gone = False
        super().__init__(number)

    def start(self, request: Mapping[str, Any]) -> None:
        """Have its agent fork it."""
        self._tell({**request, "to": self._key})

    @property
    def lag(self) -> float:
        """As measured with the last beat."""
        return self._peer.lag

    def begin(self) -> None:
        """A new check begins."""
        super().begin()
        self._output = ""
        self._said = Said()
        self._stacks = False

    def ask(self, request: Mapping[str, Any]) -> None:
        """Send it a check; raises OSError where its agent is gone."""
        self._peer.tell({"do": "ask", "to": self._key, "request": request})

    def sources(self) -> list[tuple[Any, str]]:
        """Its mailbox."""
        return [(self._mailbox, "news")]

    def take(self, what: str, *, order: int) -> bool:
        """Take in what its agent has told; whether it is its end."""
        for message in self._mailbox.take():
            self._told(message, order)
        return self._gone

    def ask_for_stacks(self) -> None:
        """Have its agent ask for every thread's stack."""
        self._tell({"do": "stacks", "to": self._key})

    @property
    def has_stacks(self) -> bool:
        """Whether its agent has answered that."""
        return self._stacks

    def kill(self) -> None:
        """Its end will do: nobody waits for that."""

    def end(self, order: int) -> None:
        """Have its agent end it, without waiting for it: what is asked of the agent next comes after that."""
        if not self.ended and not self._gone:
            self._tell({"do": "end", "to": self._key})
        self.ended = True

    def said(self) -> Said:
        """What it had said on the board of its host, when its agent told last."""
        return self._said

    def output(self) -> str:
        """What it had printed, cut, when its agent told last."""
        return self._output

    def close(self) -> None:
        """Close its mailbox."""
        self._peer.close(self._key)

    def _tell(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(WireError):  # its agent is gone: the mailbox says so too
            self._peer.tell(message)

    def _told(self, message: Mapping[str, Any], order: int) -> None:
        if "lost" in message:
            host = self._peer.place.host
            self.fail(Failure("lost", "Lost", f"its agent on host {host} is gone: {message['lost']}"), _FIRST_OF_ALL)
            self._gone = True
            return
        self._output = message["output"]
        self._said = Said(**message["said"])
        if "answer" in message:
            self.answered(message["answer"], order)
        elif "status" in message:
            # Its peers may have noticed that it ended, and have failed for it, before its agent did.
            self.fail(ending(message["status"]), _FIRST_OF_ALL)
            self._gone = True
        elif "stacks" in message:
            self._stacks = True
