"""What comes in to the first rank of a server, and what goes out: by a socket of this machine, or kept in a list."""

from __future__ import annotations

import multiprocessing.connection
from typing import Any

from sglang_reference import _lines


class Kept:
    """Nothing comes in; what goes out is kept in ``sent``. So a scheduler is driven from its own process."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def receive(self, seconds: float) -> list[Any]:
        """Nothing."""
        return []

    def send_output(self, output: Any, recv_obj: Any = None) -> None:
        """Keep it."""
        self.sent.append(output)


class Line:
    """A connection to the launching process."""

    def __init__(self, connection: multiprocessing.connection.Connection[Any, Any]) -> None:
        self._connection = connection

    def receive(self, seconds: float) -> list[Any] | None:
        """All that has come in, after at most ``seconds`` where nothing has; None where the other end is gone."""
        came: list[Any] = []
        try:
            while self._connection.poll(0.0 if came else seconds):
                came.append(self._connection.recv())
        except (EOFError, ConnectionError):
            return came or None
        return came

    def send_output(self, output: Any, recv_obj: Any = None) -> None:
        """Send it; who has left is not told any more."""
        try:
            self._connection.send(output)
        except (BrokenPipeError, ConnectionError):
            return


def open_channel(port_args: Any) -> Kept | Line:
    """The line that the ports tell of; without any, what keeps all."""
    name = port_args.scheduler_input_ipc_name if port_args is not None else ""
    return Line(_lines.connect(name)) if name else Kept()
