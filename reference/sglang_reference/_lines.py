"""Lines between processes of this machine: sockets in the abstract name space, which leave nothing behind.

Imports nothing of ``sglang``, torch or the kit. A name is ``ipc://@`` and some letters.
"""

from __future__ import annotations

import multiprocessing.connection
import socket
import uuid
from typing import Any

Connection = multiprocessing.connection.Connection

_PREFIX = "ipc://@"


def new_name() -> str:
    """A name that nobody listens at."""
    return f"{_PREFIX}sglang-reference-{uuid.uuid4().hex}"


class Listener:
    """Listens at a name until it is closed."""

    def __init__(self, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(_address(name))
        self._socket.listen(1)

    def accept(self, seconds: float) -> Connection[Any, Any]:
        """The next one who connects. Raises TimeoutError where none has after ``seconds``."""
        self._socket.settimeout(seconds)
        other, _ = self._socket.accept()
        other.setblocking(True)
        return Connection(other.detach())

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


def connect(name: str) -> Connection[Any, Any]:
    """A connection to who listens at ``name``. Raises ConnectionRefusedError where nobody does."""
    own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    own.connect(_address(name))
    return Connection(own.detach())


def _address(name: str) -> str:
    if not name.startswith(_PREFIX):
        raise ValueError(f"{name!r} is no name of a line here: it begins with {_PREFIX}")
    return "\0" + name.removeprefix(_PREFIX)
