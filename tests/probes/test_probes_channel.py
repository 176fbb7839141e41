from __future__ import annotations

import math
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sglang_conformance.probes.channel import MOST_BYTES, Channel, ChannelError, pair

HEADER = struct.Struct("!I")


@pytest.fixture
def raw() -> Iterator[tuple[socket.socket, Channel]]:
    """A bare socket at one end, a channel at the other."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    channel = Channel(other)
    yield one, channel
    one.close()
    channel.close()


@pytest.mark.parametrize(
    "message",
    [None, 0, "text", "\ud800 lone", "\0", [1, [2.5, None]], {"a": {"b": [True]}}, float("inf"), "x" * 200_000],
)
def test_message_arrives_as_it_was_sent(message: Any) -> None:
    one, other = pair()
    thread = threading.Thread(
        target=one.send, args=(message,)
    )  # what is larger than the socket's buffer must not block
    thread.start()
    received = other.receive(timeout=5)
    thread.join()
    assert received == (message, [])
    one.close()
    other.close()


def test_nan_arrives_as_nan() -> None:
    one, other = pair()
    one.send(float("nan"))
    received = other.receive(timeout=5)
    assert received is not None
    assert math.isnan(received[0])


def test_messages_keep_their_order_and_borders() -> None:
    one, other = pair()
    for number in range(20):
        one.send({"number": number})
    assert [other.receive(timeout=5) for _ in range(20)] == [({"number": n}, []) for n in range(20)]


def test_descriptors_travel_with_their_message() -> None:
    one, other = pair()
    reader, writer = os.pipe()
    one.send("with", [writer])
    one.send("without")
    os.close(writer)
    received = other.receive(timeout=5)
    assert received is not None
    message, descriptors = received
    assert message == "with"
    os.write(descriptors[0], b"through")
    os.close(descriptors[0])
    assert os.read(reader, 100) == b"through"
    assert other.receive(timeout=5) == ("without", [])
    os.close(reader)


def test_closed_end_is_none() -> None:
    one, other = pair()
    one.send("last")
    one.close()
    assert other.receive(timeout=5) == ("last", [])
    assert other.receive(timeout=5) is None
    other.close()


def test_closed_end_cannot_be_sent_to() -> None:
    one, other = pair()
    other.close()
    with pytest.raises(OSError, match="Broken pipe"):
        one.send("anything")


def test_silence_ends_at_the_timeout() -> None:
    one, other = pair()
    started = time.monotonic()
    with pytest.raises(ChannelError, match="no message in time"):
        other.receive(timeout=0.05)
    assert 0.05 <= time.monotonic() - started < 2
    one.send("later")
    assert other.receive(timeout=5) == ("later", [])


def test_message_too_large_is_not_sent() -> None:
    one, other = pair()
    with pytest.raises(ValueError, match=f"at most {MOST_BYTES}"):
        one.send("x" * MOST_BYTES)
    one.send("small")
    assert other.receive(timeout=5) == ("small", [])


@pytest.mark.parametrize("message", [object(), b"bytes", {1, 2}, {(1, 2): 3}])
def test_what_is_no_plain_data_is_not_sent(message: Any) -> None:
    one, _ = pair()
    with pytest.raises(TypeError):
        one.send(message)


def test_announced_size_beyond_the_limit_is_refused_unread(raw: tuple[socket.socket, Channel]) -> None:
    raw[0].sendall(HEADER.pack(MOST_BYTES + 1))
    with pytest.raises(ChannelError, match=f"{MOST_BYTES + 1} bytes was announced"):
        raw[1].receive(timeout=5)


@pytest.mark.parametrize("body", [b"not json", b"\xff\xfe", b"", b"{"])
def test_junk_is_no_message(raw: tuple[socket.socket, Channel], body: bytes) -> None:
    raw[0].sendall(HEADER.pack(len(body)) + body)
    with pytest.raises(ChannelError, match="not a message"):
        raw[1].receive(timeout=5)


def test_depth_that_json_cannot_read_is_no_message(raw: tuple[socket.socket, Channel]) -> None:
    body = b"[" * 200_000 + b"]" * 200_000
    thread = threading.Thread(target=raw[0].sendall, args=(HEADER.pack(len(body)) + body,))
    thread.start()
    with pytest.raises(ChannelError, match="not a message"):
        raw[1].receive(timeout=5)
    thread.join()


@pytest.mark.parametrize("part", [HEADER.pack(100)[:2], HEADER.pack(100), HEADER.pack(100) + b'{"a"'])
def test_message_that_breaks_off_is_an_error(raw: tuple[socket.socket, Channel], part: bytes) -> None:
    raw[0].sendall(part)
    raw[0].close()
    with pytest.raises(ChannelError, match="closed within a message"):
        raw[1].receive(timeout=5)


def test_message_that_comes_in_pieces_is_read_whole(raw: tuple[socket.socket, Channel]) -> None:
    text = HEADER.pack(4) + b"1234"

    def dribble() -> None:
        for byte in text:
            raw[0].sendall(bytes([byte]))
            time.sleep(0.005)

    thread = threading.Thread(target=dribble)
    thread.start()
    assert raw[1].receive(timeout=5) == (1234, [])
    thread.join()
