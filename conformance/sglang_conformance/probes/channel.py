"""Framed JSON messages, with file descriptors, over a Unix stream socket.

JSON and not pickle: the other end may be a process in which vendor code has run, and what it sends must stay data.
"""

from __future__ import annotations

import array
import json
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

_HEADER = struct.Struct("!I")
_MOST_DESCRIPTORS = 4
_BODY_DEADLINE = 10.0
MOST_BYTES = 16 << 20


class ChannelError(ConnectionError):
    """The other end sent something that is no message, or nothing in time."""


class Channel:
    """One end of a connection. Not thread-safe; each end belongs to one process."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    @classmethod
    def from_descriptor(cls, descriptor: int) -> Channel:
        """Take over an open descriptor of a connected Unix stream socket."""
        return cls(socket.socket(fileno=descriptor))

    def fileno(self) -> int:
        """The descriptor, to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this end; the other end then receives None."""
        self._socket.close()

    def send(self, message: Any, descriptors: Sequence[int] = ()) -> None:
        """Send one message; raises OSError where the other end is gone, TypeError where it is not plain data."""
        body = json.dumps(message, separators=(",", ":"), allow_nan=True).encode("utf-8", "surrogatepass")
        if len(body) > MOST_BYTES:
            raise ValueError(f"a message of {len(body)} bytes; at most {MOST_BYTES} are sent")
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self._socket.sendmsg([_HEADER.pack(len(body))], ancillary)
        self._socket.sendall(body)

    def receive(self, timeout: float | None = None) -> tuple[Any, list[int]] | None:
        """The next message and its descriptors, or None where the other end has closed.

        Raises ChannelError on a broken message, or after ``timeout`` seconds without the beginning of one.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self._wait(deadline)
        try:
            header, descriptors, _, _ = socket.recv_fds(self._socket, _HEADER.size, _MOST_DESCRIPTORS)
        except ConnectionResetError:
            return None
        if not header:
            return None
        deadline = time.monotonic() + _BODY_DEADLINE  # what has begun must be read whole, or the stream is lost
        header += self._exactly(_HEADER.size - len(header), deadline)
        (size,) = _HEADER.unpack(header)
        if size > MOST_BYTES:
            raise ChannelError(f"a message of {size} bytes was announced; at most {MOST_BYTES} are read")
        try:
            return json.loads(self._exactly(size, deadline).decode("utf-8", "surrogatepass")), list(descriptors)
        except (ValueError, RecursionError) as error:
            raise ChannelError(f"not a message: {error}") from error

    def _wait(self, deadline: float | None) -> None:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([self._socket], [], [], left)[0]:
            raise ChannelError("no message in time")

    def _exactly(self, size: int, deadline: float) -> bytes:
        parts = []
        while size:
            self._wait(deadline)
            part = self._socket.recv(min(size, 1 << 20))
            if not part:
                raise ChannelError("the connection closed within a message")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def pair() -> tuple[Channel, Channel]:
    """Two connected channels."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Channel(one), Channel(other)
