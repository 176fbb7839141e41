"""Ranks that were started elsewhere, by torchrun, srun or Kubernetes, and come to this process.

It is used so (:mod:`..grounds` does, for ``pytest --ranks-at HOST:PORT``)::

    cluster = Cluster(ranks_at, take_secret(secret_file, os.environ))
    cluster.wait(seconds)                                # until all agents have joined; each says how many there are
    keeper = Keeper(warm, host=cluster.host)             # the store in which their ranks meet; warm: a process here
    pool = cluster.pool([Job(enter_host, ...), Job(resolve_platform, ...)], Setup(prepare, {"address": keeper.address}))
    report = pool.run(check, arguments, size=cluster.size, seconds=30)      # as of any other Pool
    record = cluster.hosts, cluster.devices, cluster.places
    pool.close(), keeper.close(), cluster.close()        # the agents end with status 0

Where it must first be asked whether the platform survives a fork: ``stage = cluster.stage(jobs)``, then
``stage.run(job)`` and ``stage.threads`` tell it of every agent, and ``stage.pool(setup)`` is the pool.

What may be raised: SecretError, ClusterError (a ZygoteError) where the address is no good, agents are missing, lost or
could not make the jobs' processes; GroupError and ZygoteError by the pool. The store and the backends' connections are
torch's own, without any authentication: the hosts' network must be one that can be trusted so far.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from .address import AddressError, joined, parsed
from .place import ClusterError, Place, numbers
from .pool import Pool
from .reception import Patience, Reception
from .setup import Job, Setup
from .stage import MODULES, Numbers, Stage

__all__ = ["Cluster", "ClusterError", "Job", "Patience"]

_T = TypeVar("_T")


class Cluster:
    """The agents that have come, and pools of ranks on them. Belongs to one process, which closes it at the end.

    What comes from the agents is taken in by a thread of its own, so that they are answered whatever this one does.
    """

    def __init__(self, at: str, secret: bytes, patience: Patience | None = None) -> None:
        """Listen at ``HOST:PORT``, on that host's address and on no other; port 0 is one that is free.

        Raises ClusterError where that cannot be done.
        """
        self._numbers = Numbers()
        listener = _listener(at)
        host, port = listener.getsockname()[:2]
        self.address = joined(host, port)
        self._reception = Reception(secret, patience or Patience())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sglang-conformance-cluster", daemon=True)
        self._thread.start()
        self._in_loop(self._reception.open(listener))

    def wait(self, seconds: float = 120.0) -> None:
        """Wait until all agents have joined. Raises ClusterError where they have not after so many seconds."""
        if self._reception.complete.wait(seconds):
            return
        there, size = set(self._reception.peers), self._reception.size
        if not there:
            raise ClusterError(
                f"no rank has come to {self.address} in {seconds:g} s: start them there, as with 'torchrun ... -m "
                f"sglang_conformance.ranks --controller {self.address}'"
            )
        missing = numbers(set(range(size)) - there)
        raise ClusterError(f"of {size} ranks, {missing} have not come to {self.address} in {seconds:g} s")

    @property
    def size(self) -> int:
        """How many ranks there are, lost ones with them; 0 until the first has joined."""
        return self._reception.size

    @property
    def places(self) -> tuple[Place, ...]:
        """Where each rank is and what it runs on, by rank."""
        return tuple(peer.place for _, peer in sorted(self._reception.peers.items()))

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the hosts, in the order of their first ranks."""
        return tuple(dict.fromkeys(place.host for place in self.places))

    @property
    def devices(self) -> tuple[str, ...]:
        """The device that is meant for each rank, ``host:number``."""
        return tuple(place.device for place in self.places)

    @property
    def host(self) -> str:
        """The address of this machine by which agents have come: of loopback only where all came by that."""
        reached = [self._reception.peers[place.rank].reached for place in self.places]
        if not reached:
            raise ClusterError("no rank has come yet")
        return next((address for address in reached if not ipaddress.ip_address(address).is_loopback), reached[0])

    def stage(self, jobs: Sequence[Job] = (), modules: Sequence[str] = MODULES) -> Stage:
        """A warm process in every agent: one that has imported the modules, and then done the jobs, one on another.

        Raises ClusterError where an agent could not do it.
        """
        peers = [peer for _, peer in sorted(self._reception.peers.items())]
        return Stage(peers, self._numbers, jobs, modules)

    def pool(self, jobs: Sequence[Job], setup: Setup, modules: Sequence[str] = MODULES) -> Pool:
        """Groups of ranks, forked from warm processes that were made ready by these jobs; close it before the cluster.

        One group at a time lives, on as many agents as it has ranks, spread over the hosts. Its ranks say what they
        are about to call, but do not wait for one another as on one machine's board: ranks that disagree may hang, and
        are told apart by what each said last. Raises ClusterError where an agent could not do the jobs.
        """
        return self.stage(jobs, modules).pool(setup)

    def close(self) -> None:
        """Say goodbye to all agents, wait for a short while until they have ended, and listen no more."""
        self._in_loop(self._reception.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _in_loop(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _listener(at: str) -> socket.socket:
    try:
        host, port = parsed(at)
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        with contextlib.ExitStack() as undo:
            undo.callback(listener.close)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1024)
            undo.pop_all()
        return listener
    except AddressError as error:
        raise ClusterError(f"--ranks-at: {error}") from error
    except OSError as error:
        raise ClusterError(f"ranks cannot be waited for at {at}: {error.strerror}") from error
