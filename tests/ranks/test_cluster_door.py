"""Who is let into a cluster and who is turned away, on real connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ranks.agents import QUICK, SECRET, joined, somewhere
from sglang_conformance.ranks import handshake, wire
from sglang_conformance.ranks.address import parsed
from sglang_conformance.ranks.cluster import Cluster, ClusterError, Patience
from sglang_conformance.ranks.handshake import Refused, introduce, welcome
from sglang_conformance.ranks.reception import _silent
from sglang_conformance.ranks.wire import Link, WireError


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster("127.0.0.1:0", SECRET.encode(), QUICK)
    yield made
    made.close()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged: waits a little for the first line."""
    caplog.set_level(logging.INFO)

    def lines() -> list[str]:
        until = time.monotonic() + 5
        while not caplog.records and time.monotonic() < until:
            time.sleep(0.01)
        return [record.getMessage() for record in caplog.records if record.name.startswith("sglang_conformance")]

    return lines


def run(work: Awaitable[Any]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(work, 20)

    return asyncio.run(limited())


async def says(cluster: Cluster, *parts: bytes) -> bytes:
    """Send this, and read all that comes until the other end hangs up."""
    reader, writer = await asyncio.open_connection(*parsed(cluster.address))
    for part in parts:
        writer.write(part)
        await writer.drain()
    with contextlib.suppress(ConnectionError):
        heard = await reader.read()
        writer.close()
        return heard
    return b""


async def hung_up(link: Link) -> None:
    """Listen to the beats until the controller hangs up."""
    with contextlib.suppress(WireError):
        while True:
            await link.receive()


def plain(message: object) -> bytes:
    body = json.dumps(message).encode()
    return struct.pack("!I", len(body)) + body


def test_agents_that_know_the_secret_are_let_in(cluster: Cluster) -> None:
    async def both() -> None:
        links = [await joined(cluster, somewhere(rank, 2)) for rank in (1, 0)]
        cluster.wait(5)
        assert cluster.size == 2
        assert [place.rank for place in cluster.places] == [0, 1]
        assert cluster.hosts == ("host0", "host1")
        assert cluster.devices == ("host0:0", "host1:0")
        assert cluster.host == "127.0.0.1"
        for link in links:
            await link.close()

    run(both())


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", "its first words are not of this protocol"),
        (b"\xff" * 64, "its first words are not of this protocol"),
        (struct.pack("!I", 4097), r"its first words are not of this protocol \(a frame of 4097 bytes\)"),
        (struct.pack("!I", 7) + b"no json", "a frame that is not JSON"),
        (plain([1, 2]), "a frame that is not a JSON object"),
        (plain({}), "it speaks None, and this end sglang-conformance-ranks/1"),
        (plain({"protocol": "sglang-conformance-ranks/0"}), "it speaks 'sglang-conformance-ranks/0', and this end"),
        (plain({"protocol": handshake.PROTOCOL, "nonce": "é" * 64}), "its number is not 32 bytes in hexadecimal"),
        (plain({"protocol": handshake.PROTOCOL, "nonce": "0" * 64}), "its proof is not 32 bytes in hexadecimal"),
        (plain({"protocol": handshake.PROTOCOL, "nonce": "0" * 64, "proof": "0" * 64}), "wrong secret"),
        (b"\0\0", "it had not made itself known after 0.5 s"),
        (b"", "it had not made itself known after 0.5 s"),
    ],
)
def test_a_stranger_is_turned_away_with_a_line_in_the_log(
    cluster: Cluster, log: Callable[[], list[str]], sent: bytes, said: str
) -> None:
    started = time.monotonic()
    run(says(cluster, sent))
    assert time.monotonic() - started < 3
    [line] = log()
    assert re.search(rf"^turned away 127\.0\.0\.1:\d+: {said}", line)


def test_one_that_hangs_up_is_logged(cluster: Cluster, log: Callable[[], list[str]]) -> None:
    async def leave() -> None:
        _, writer = await asyncio.open_connection(*parsed(cluster.address))
        writer.close()
        await writer.wait_closed()

    run(leave())
    [line] = log()
    assert "turned away" in line
    assert "the connection" in line


def test_a_stranger_learns_nothing_to_guess_the_secret_by(cluster: Cluster) -> None:
    heard = run(says(cluster, plain({"protocol": handshake.PROTOCOL, "nonce": "0" * 64, "proof": "0" * 64})))
    assert b"proof" not in heard


def test_a_wrong_secret_is_told_on_both_sides(cluster: Cluster, log: Callable[[], list[str]]) -> None:
    with pytest.raises(Refused, match="wrong secret"):
        run(joined(cluster, somewhere(), secret="another secret, also long"))
    assert "wrong secret" in log()[0]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            {"kit": "0.0.9"},
            r"the controller has version \S+ of the kit, the agent of rank 0 on host host0 version 0.0.9",
        ),
        ({"size": 3}, "the agent of rank 0 on host host0 says that there are 3 ranks, others that there are 2"),
        ({"rank": 1}, "the agent of rank 1 on host host0 has joined already, from host host1"),
    ],
)
def test_an_agent_that_does_not_fit_is_told_why(cluster: Cluster, other: dict[str, Any], said: str) -> None:
    async def second() -> None:
        first = await joined(cluster, somewhere(1, 2))
        with pytest.raises(Refused, match=said):
            await joined(cluster, replace(somewhere(0, 2), **other))
        await first.close()

    run(second())


def test_nonsense_about_a_place_is_refused(cluster: Cluster) -> None:
    async def nonsense() -> None:
        for wrong in ({"rank": "0"}, {"rank": True}, {"host": "x" * 300}, {"rank": 5}, {"size": 1 << 40}):
            reader, writer = await asyncio.open_connection(*parsed(cluster.address))
            link = await introduce(reader, writer, SECRET.encode())
            link.send({**somewhere().to_json(), **wrong})
            assert "refused" in await link.receive()
            link.abort()

    run(nonsense())


class Recorded:
    """In a writer's place: keeps what is written, frame by frame, and sends nothing."""

    def __init__(self, real: asyncio.StreamWriter) -> None:
        self.transport = real.transport
        self.frames: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.frames.append(bytes(data))


def frames(link: Link, *messages: dict[str, Any]) -> tuple[asyncio.StreamWriter, list[bytes]]:
    """The frames that a link would send, and where to."""
    real = link._writer
    recorded: Any = Recorded(real)
    link._writer = recorded
    for message in messages:
        link.send(message)
    return real, recorded.frames


def repeated(one: bytes, two: bytes) -> list[bytes]:
    return [one, one]


def exchanged(one: bytes, two: bytes) -> list[bytes]:
    return [two, one]


def left_out(one: bytes, two: bytes) -> list[bytes]:
    return [two]


def changed(one: bytes, two: bytes) -> list[bytes]:
    return [one[:-2] + bytes([one[-2] ^ 1]) + one[-1:]]


def renumbered(one: bytes, two: bytes) -> list[bytes]:
    return [two[:4] + one[4:12] + two[12:]]


def oversize(one: bytes, two: bytes) -> list[bytes]:
    return [struct.pack("!IQ", wire.MOST_BYTES + 1, 1) + bytes(32)]


@pytest.mark.parametrize(
    ("tampered", "said"),
    [
        (repeated, "frame 1 came where frame 2 was to come"),
        (exchanged, "frame 2 came where frame 1 was to come"),
        (left_out, "frame 2 came where frame 1 was to come"),
        (changed, "a frame came that the other end did not write"),
        (renumbered, "a frame came that the other end did not write"),
        (oversize, "a frame of 33554433 bytes was announced"),
    ],
)
def test_a_frame_that_was_tampered_with_ends_the_connection(
    cluster: Cluster, log: Callable[[], list[str]], tampered: Callable[[bytes, bytes], list[bytes]], said: str
) -> None:
    async def tamper() -> None:
        link = await joined(cluster, somewhere())
        writer, sent = frames(link, {"to": 7, "text": "one"}, {"to": 7, "text": "two"})
        for frame in tampered(*sent):
            writer.write(frame)
        await hung_up(link)

    run(tamper())
    [line] = log()
    assert line == f"the agent of rank 0 on host host0 is gone: {said}" or line.startswith(
        f"the agent of rank 0 on host host0 is gone: {said};"
    )


def test_a_frame_of_another_connection_is_not_taken(cluster: Cluster, log: Callable[[], list[str]]) -> None:
    async def replay() -> None:
        first = await joined(cluster, somewhere(0, 2))
        _, [frame] = frames(first, {"to": 7})
        second = await joined(cluster, somewhere(1, 2))
        second._writer.write(frame)
        await hung_up(second)

    run(replay())
    assert log()[0] == "the agent of rank 1 on host host1 is gone: a frame came that the other end did not write"


def test_strangers_do_not_disturb_those_who_are_in(cluster: Cluster) -> None:
    async def crowd() -> int:
        link = await joined(cluster, somewhere())
        strangers = [asyncio.create_task(says(cluster, b"GET / HTTP/1.0\r\n\r\n")) for _ in range(30)]
        strangers += [asyncio.create_task(says(cluster, b"")) for _ in range(30)]
        beats, until = 0, time.monotonic() + 1.5
        while time.monotonic() < until:
            message = await link.receive()
            link.send({"beat": message["number"]})
            beats += 1
        await asyncio.gather(*strangers)
        assert not cluster._reception.peers[0].lost
        return beats

    assert run(crowd()) >= 3


def test_an_agent_that_falls_silent_is_lost_in_bounded_time(log: Callable[[], list[str]]) -> None:
    cluster = Cluster("127.0.0.1:0", SECRET.encode(), Patience(beat=0.1, limit=0.5))

    async def silent() -> float:
        link = await joined(cluster, somewhere())
        started = time.monotonic()
        await hung_up(link)
        return time.monotonic() - started

    assert 0.3 < run(silent()) < 2
    cluster.close()
    assert log()[0].startswith("the agent of rank 0 on host host0 is gone: nothing was heard from it for 0.")


def test_an_agent_does_not_join_a_controller_that_does_not_know_the_secret() -> None:
    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await wire.send_plain(writer, {"protocol": handshake.PROTOCOL, "nonce": "0" * 64})
        answer = await wire.receive_plain(reader)
        await wire.send_plain(writer, {"protocol": handshake.PROTOCOL, "proof": answer["proof"]})  # its own, sent back

    async def join() -> None:
        server = await asyncio.start_server(impostor, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        with pytest.raises(Refused, match="wrong secret"):
            await introduce(reader, writer, SECRET.encode())
        writer.close()
        server.close()

    run(join())


def test_a_recorded_introduction_is_of_no_use() -> None:
    async def overheard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(WireError):
            await welcome(reader, writer, SECRET.encode())

    async def replay() -> None:
        server = await asyncio.start_server(overheard, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        said = []

        async def send(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
            said.append(plain(message))
            writer.write(said[-1])

        reader, writer = await asyncio.open_connection(*address)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(handshake, "send_plain", send)
            link = await introduce(reader, writer, SECRET.encode())
        [introduction] = [words for words in said if b"nonce" in words and b"proof" in words]
        again, other = await asyncio.open_connection(*address)
        await wire.receive_plain(again)
        other.write(introduction)
        assert "wrong secret" in (await wire.receive_plain(again))["refused"]
        await link.close()
        other.close()
        server.close()

    run(replay())


def test_with_one_agent_the_others_of_its_host_that_have_missed_a_beat_are_lost() -> None:
    patience = Patience(beat=2, limit=6)

    def lost(*silent: tuple[str, float]) -> list[int]:
        peers: list[Any] = [SimpleNamespace(place=somewhere(n, 9, host=h), silent=s) for n, (h, s) in enumerate(silent)]
        return [peer.place.rank for peer in _silent(peers, patience)]

    assert lost(("a", 3.9), ("a", 0.1)) == []
    assert lost(("a", 4.1), ("a", 2.5), ("a", 1.9), ("b", 3.9)) == [0, 1]
    with pytest.raises(ValueError, match="leaves no room for three beats"):
        Patience(beat=2, limit=5)


def test_missing_ranks_are_named(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match=r"no rank has come to 127.0.0.1:\d+ in 0.01 s: start them there"):
        cluster.wait(0.01)

    async def some() -> None:
        links = [await joined(cluster, somewhere(rank, 6)) for rank in (1, 4)]
        with pytest.raises(ClusterError, match=r"of 6 ranks, 0, 2-3, 5 have not come"):
            cluster.wait(0.01)
        for link in links:
            await link.close()

    run(some())


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("29600", "'29600' is not HOST:PORT"),
        (":29600", "is not HOST:PORT"),
        ("::1:29600", "is not HOST:PORT"),
        ("127.0.0.1:99999", "is not HOST:PORT"),
        ("203.0.113.1:0", "ranks cannot be waited for at 203.0.113.1:0: Cannot assign requested address"),
    ],
)
def test_an_address_that_cannot_be_listened_on_is_an_error(at: str, said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        Cluster(at, SECRET.encode())


def test_it_listens_on_loopback_where_that_is_asked(cluster: Cluster) -> None:
    port = parsed(cluster.address)[1]
    with open("/proc/net/tcp", encoding="ascii") as file:
        listening = [line.split()[1] for line in file if f":{port:04X} " in line and line.split()[3] == "0A"]
    assert listening == [f"0100007F:{port:04X}"]
