"""What passes between the controller of a cluster and its agents: JSON in frames that nobody else can have written.

Before both have shown that they know the secret, a frame is a length and a short JSON object. From then on it is a
length, a sequence number, a keyed digest (HMAC-SHA256) of all that and of the body, and the body: a frame that was made
up, changed, repeated, left out or put elsewhere does not check, and ends the connection. Nothing is encrypted: who can
listen on the network can read which checks are run and what came of them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import asyncio
import hmac
import json
import struct
import time
from collections.abc import Mapping
from typing import Any

PLAIN_BYTES = 4 << 10
MOST_BYTES = 32 << 20
_PART_BYTES = 64 << 10
_MOST_UNSENT = 4 * MOST_BYTES
_LENGTH = struct.Struct("!I")
_HEADER = struct.Struct("!IQ")
_DIGEST = "sha256"
_DIGEST_BYTES = 32


class WireError(ConnectionError):
    """The other end is gone, or what it sent is not what this protocol allows; the message is one line."""


class Closed(WireError):
    """The other end has closed the connection."""


def encoded(message: Mapping[str, Any]) -> bytes:
    """A message as it is sent. Raises TypeError or ValueError where it is not plain data, or too long."""
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > MOST_BYTES:
        raise ValueError(f"a message of {len(body)} bytes; at most {MOST_BYTES} are sent")
    return body


class Link:
    """One end of a connection whose two ends know each other.

    Belongs to the thread of its event loop.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, sending: bytes, receiving: bytes
    ) -> None:
        """``sending`` and ``receiving`` are this connection's keys for the two directions."""
        self._reader = reader
        self._writer = writer
        self._sending = sending
        self._receiving = receiving
        self._sent = 0
        self._received = 0
        self._heard = time.monotonic()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; as :func:`encoded` and :meth:`write`."""
        self.write(encoded(message))

    def write(self, body: bytes) -> None:
        """Send an encoded message, without waiting for it to go.

        Raises WireError where the other end has long stopped to read.
        """
        if self._writer.transport.get_write_buffer_size() > _MOST_UNSENT:
            raise WireError("it does not read what it is sent")
        header = _HEADER.pack(len(body), self._sent)
        self._sent += 1
        self._writer.write(header + hmac.digest(self._sending, header + body, _DIGEST) + body)

    @property
    def silent(self) -> float:
        """For how many seconds nothing has come: no part of a frame, as a long one takes its time on a slow wire."""
        return time.monotonic() - self._heard

    async def receive(self) -> dict[str, Any]:
        """The next message. Raises WireError where there is none to be had any more."""
        header = await self._exactly(_HEADER.size)
        length, sequence = _HEADER.unpack(header)
        if length > MOST_BYTES:
            raise WireError(f"a frame of {length} bytes was announced; at most {MOST_BYTES} are read")
        digest = await self._exactly(_DIGEST_BYTES)
        body = await self._exactly(length)
        if not hmac.compare_digest(digest, hmac.digest(self._receiving, header + body, _DIGEST)):
            raise WireError("a frame came that the other end did not write")
        if sequence != self._received:
            raise WireError(f"frame {sequence} came where frame {self._received} was to come")
        self._received += 1
        return _object(body)

    async def close(self, seconds: float = 2.0) -> None:
        """Send what is still to be sent, for so long at most, and close."""
        try:
            self._writer.close()
            await asyncio.wait_for(self._writer.wait_closed(), seconds)
        except (OSError, asyncio.TimeoutError):
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once, whatever is still to be sent."""
        self._writer.transport.abort()

    async def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            try:
                part = await self._reader.read(min(size, _PART_BYTES))
            except OSError as error:
                raise _broken(error) from error
            if not part:
                raise Closed("the connection closed")
            self._heard = time.monotonic()
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


async def send_plain(writer: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
    """Send a message to an end that is not known yet."""
    body = json.dumps(message).encode()
    writer.write(_LENGTH.pack(len(body)) + body)
    await writer.drain()


async def receive_plain(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next message of an end that is not known yet. Raises WireError where it sends something else."""
    (length,) = _LENGTH.unpack(await _exactly(reader, _LENGTH.size))
    if length > PLAIN_BYTES:
        raise WireError(f"its first words are not of this protocol (a frame of {length} bytes)")
    return _object(await _exactly(reader, length))


async def _exactly(reader: asyncio.StreamReader, size: int) -> bytes:
    try:
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as error:
        raise Closed("the connection closed") from error
    except OSError as error:
        raise _broken(error) from error


def _broken(error: OSError) -> Closed:
    return Closed(f"the connection broke ({error.strerror or type(error).__name__})")


def _object(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError("a frame that is not JSON") from error
    if not isinstance(message, dict):
        raise WireError("a frame that is not a JSON object")
    return message
