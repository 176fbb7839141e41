"""How a controller and an agent show each other that they know the same secret, without telling it.

The controller sends a fresh number; the agent answers with one of its own and a keyed digest over both; only then does
the controller send its own digest over both. So a stranger learns nothing that it could guess the secret against, each
proof is for one connection and one side only, and both derive from the two numbers the keys of this connection.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import string
from typing import Any

from .wire import Link, WireError, receive_plain, send_plain

PROTOCOL = "sglang-conformance-ranks/1"
_NONCE_BYTES = 32
_LONGEST_LINE = 500


class Refused(WireError):
    """The other end does not want this one, or this one does not want the other; the message says why."""


async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes) -> Link:
    """The controller's part, on a connection that was just made. Raises WireError where it is no agent of ours."""
    ours = secrets.token_bytes(_NONCE_BYTES)
    await send_plain(writer, {"protocol": PROTOCOL, "nonce": ours.hex()})
    answer = await receive_plain(reader)
    try:
        theirs = _nonce(answer)
        _check(answer, _Proofs(secret, ours, theirs).of("agent"))
    except Refused as error:
        with contextlib.suppress(OSError):
            await send_plain(writer, {"refused": str(error)})
        raise
    proofs = _Proofs(secret, ours, theirs)
    await send_plain(writer, {"protocol": PROTOCOL, "proof": proofs.of("controller").hex()})
    return Link(reader, writer, sending=proofs.of("controller to agent"), receiving=proofs.of("agent to controller"))


async def introduce(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes) -> Link:
    """The agent's part. Raises Refused where the controller says no or is not ours, WireError where it is gone."""
    theirs = _nonce(await receive_plain(reader))
    ours = secrets.token_bytes(_NONCE_BYTES)
    proofs = _Proofs(secret, theirs, ours)
    await send_plain(writer, {"protocol": PROTOCOL, "nonce": ours.hex(), "proof": proofs.of("agent").hex()})
    answer = await receive_plain(reader)
    if "refused" in answer:
        raise Refused(line(answer["refused"]))
    _check(answer, proofs.of("controller"))
    return Link(reader, writer, sending=proofs.of("agent to controller"), receiving=proofs.of("controller to agent"))


def line(text: Any) -> str:
    """What another end said, as one line that a terminal or a log may be given."""
    cut = str(text)[:_LONGEST_LINE]
    return "".join(character if character.isprintable() else "?" for character in cut)


class _Proofs:
    """The keyed digests of one connection. Each has a context, so that none can stand for another."""

    def __init__(self, secret: bytes, controller: bytes, agent: bytes) -> None:
        self._secret = secret
        self._said = controller + agent  # both of fixed length

    def of(self, context: str) -> bytes:
        said = f"{PROTOCOL}\0{context}\0".encode() + self._said
        return hmac.digest(self._secret, said, "sha256")


def _nonce(message: dict[str, Any]) -> bytes:
    protocol = message.get("protocol")
    if protocol != PROTOCOL:
        said = line(repr(protocol))
        raise Refused(f"it speaks {said}, and this end {PROTOCOL}: both need the same version of the kit")
    return _bytes(message.get("nonce"), "number")


def _check(message: dict[str, Any], proof: bytes) -> None:
    if not hmac.compare_digest(_bytes(message.get("proof"), "proof"), proof):
        raise Refused("wrong secret: the agent's and the controller's are not the same")


def _bytes(text: Any, what: str) -> bytes:
    if not isinstance(text, str) or len(text) != 2 * _NONCE_BYTES or not set(text) <= set(string.hexdigits):
        raise Refused(f"its {what} is not {_NONCE_BYTES} bytes in hexadecimal")
    return bytes.fromhex(text)
