"""The controller's open door: whom it lets in, whom it turns away, and how it notices that somebody has gone.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from .. import __version__
from .handshake import Refused, welcome
from .peer import Peer
from .place import Place, PlaceError
from .wire import WireError

_LOG = logging.getLogger(__name__)
_MOST_AT_THE_DOOR = 256
_GOODBYE = 10.0
_HANGING_UP = 1.0


@dataclass(frozen=True)
class Patience:
    """In seconds: every ``beat`` both sides give a sign of life; who is silent for ``limit`` is lost; who comes has
    ``stranger`` to make itself known. Raises ValueError where the limit is under three beats.
    """

    beat: float = 2.0
    limit: float = 6.0
    stranger: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < 3 * self.beat <= self.limit:
            raise ValueError(f"a limit of {self.limit:g} s leaves no room for three beats of {self.beat:g} s")


class Reception:
    """Listens, and knows who is in. Its coroutines belong to one event loop, ``complete`` and ``peers`` to all."""

    def __init__(self, secret: bytes, patience: Patience) -> None:
        self.peers: dict[int, Peer] = {}
        self.size = 0
        self.complete = threading.Event()
        self._secret = secret
        self._patience = patience
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._door: set[asyncio.Task[None]] = set()

    async def open(self, listener: socket.socket) -> None:
        """Begin to let agents in."""
        self._server = await asyncio.start_server(self._meet, sock=listener)
        self._beating = asyncio.ensure_future(self._beat())

    async def close(self) -> None:
        """Let nobody in any more, and see all agents off: they have ended what they had started when they hang up."""
        self._closing = True
        self._server.close()
        self._beating.cancel()
        for peer in self.peers.values():
            with contextlib.suppress(WireError):
                peer.tell({"do": "goodbye"})
        for task in self._door:
            task.cancel()
        await self._all_gone(_GOODBYE)
        for peer in self.peers.values():
            peer.lose("the controller has closed the cluster")
        await self._all_gone(_HANGING_UP)

    async def _all_gone(self, seconds: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Whoever comes: let in and listened to, or turned away with a line in the log."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            peer = await self._let_in(task, reader, writer)
            if peer is not None:
                await peer.listen()
                self._gone(peer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _let_in(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Peer | None:
        where = _named(writer.get_extra_info("peername"))
        if len(self._door) >= _MOST_AT_THE_DOOR:
            _LOG.warning("turned away %s: %d others are at the door", where, len(self._door))
            return None
        self._door.add(task)
        try:
            return await asyncio.wait_for(self._admitted(reader, writer), self._patience.stranger)
        except asyncio.TimeoutError:
            _LOG.warning("turned away %s: it had not made itself known after %g s", where, self._patience.stranger)
        except (WireError, OSError) as error:
            _LOG.warning("turned away %s: %s", where, error)
        finally:
            self._door.discard(task)
        return None

    async def _admitted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Peer:
        link = await welcome(reader, writer, self._secret)
        try:
            place = Place.from_json(await link.receive())
            self._object_to(place)
        except (PlaceError, Refused) as error:
            link.send({"refused": str(error)})
            raise Refused(str(error)) from error
        peer = Peer(link, place, writer.get_extra_info("sockname")[0])
        link.send({"welcome": True, "beat": self._patience.beat, "limit": self._patience.limit})
        peer.measure()
        self.size = place.size
        self.peers[place.rank] = peer
        if len(self.peers) == self.size:
            self.complete.set()
        return peer

    def _object_to(self, place: Place) -> None:
        """Raise Refused where an agent that knows the secret cannot be let in all the same."""
        who = f"the agent of rank {place.rank} on host {place.host}"
        if place.kit != __version__:
            raise Refused(f"the controller has version {__version__} of the kit, {who} version {place.kit}")
        if self.peers and place.size != self.size:
            raise Refused(f"{who} says that there are {place.size} ranks, others that there are {self.size}")
        other = self.peers.get(place.rank)
        if other is not None and other.lost:
            raise Refused(f"{who} comes too late: the run goes on without that rank, which was lost")
        if other is not None:
            raise Refused(f"{who} has joined already, from host {other.place.host} (process {other.place.pid})")

    def _gone(self, peer: Peer) -> None:
        if self._closing:
            return
        _LOG.warning("the agent of rank %d on host %s is gone: %s", peer.place.rank, peer.place.host, peer.lost)
        if not self.complete.is_set():  # it may come again
            del self.peers[peer.place.rank]

    async def _beat(self) -> None:
        """Give signs of life, and look for the agents'."""
        while True:
            await asyncio.sleep(self._patience.beat)
            there = [peer for peer in self.peers.values() if not peer.lost]
            for peer in _silent(there, self._patience):
                peer.lose(f"nothing was heard from it for {peer.silent:.1f} s")
            for peer in there:
                peer.measure()


def _silent(peers: Sequence[Peer], patience: Patience) -> list[Peer]:
    """The agents that are lost. With one, all of its host that have missed a beat: it is the host that is lost."""
    late = patience.limit - patience.beat  # the next look is a beat away
    hosts = {peer.place.host for peer in peers if peer.silent > late}
    return [peer for peer in peers if peer.place.host in hosts and peer.silent > late - patience.beat]


def _named(address: object) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "a stranger"
