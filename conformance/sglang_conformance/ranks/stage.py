"""Warm processes made alike by every agent, from which the ranks of a cluster are forked.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import selectors
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..probes.client import START_DEADLINE
from ..probes.result import Failure, Result
from ..probes.world import World
from .member import Member
from .peer import Peer
from .place import ClusterError, numbers, spread
from .pool import Pool
from .remote import RemoteMember
from .setup import Job, Setup
from .wire import WireError

MODULES = ("torch", "torch.distributed", "sglang_conformance.ranks.rank")
"""What agents import before anything else, unless told otherwise."""

_ONE_GROUP = 1


class Numbers:
    """Numbers under which agents are spoken to, each used once."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """The next one."""
        self._last += 1
        return self._last


class Stage:
    """A warm process in every agent, from which ranks are forked, one at a time in each agent.

    ``values`` are what the last job returned, ``threads`` how many threads its process had (more than one make forks
    unsafe), by rank of the agents.
    """

    def __init__(self, peers: Sequence[Peer], numbers: Numbers, jobs: Sequence[Job], modules: Sequence[str]) -> None:
        """Have it made, and wait for it. Raises ClusterError where an agent is gone or could not do it in time."""
        self._peers = tuple(peers)
        self._numbers = numbers
        self._key = numbers.next()
        request = {"do": "stage", "to": self._key, "modules": list(modules), "jobs": [job.to_json() for job in jobs]}
        answers = self._ask_all(request, START_DEADLINE + sum(job.seconds for job in jobs))
        if failed := {rank: answer for rank, answer in answers.items() if "value" not in answer}:
            self.close()
            raise ClusterError(f"the agents could not be made ready: {self._failures(failed)}")
        self.values = tuple(answers[peer.place.rank]["value"] for peer in self._peers)
        self.threads = tuple(int(answers[peer.place.rank]["threads"]) for peer in self._peers)

    def start(self, size: int, setup: Setup, meeting: str) -> Iterator[Member]:
        """Start so many ranks on the agents that are left, spread over their hosts, by number.

        Raises ClusterError where there are not so many.
        """
        there = {peer.place: peer for peer in self._peers if not peer.lost}
        if len(there) < size:
            raise ClusterError(f"{size} ranks are wanted, and {len(there)} of the agents are left{self._lost()}")
        world = (setup.world or World()).to_json()
        for number, place in enumerate(spread(list(there), size)):
            member = RemoteMember(there[place], self._numbers.next(), number)
            told = setup.told(number, size, meeting, local=place.local, alone=True)
            member.start({"do": "start", "stage": self._key, "told": told, "world": world})
            yield member

    def run(
        self, job: str, arguments: Mapping[str, Any] | None = None, *, world: World | None = None, seconds: float = 30.0
    ) -> tuple[Result, ...]:
        """Run a job in a fork of every agent's warm process, as :meth:`..probes.client.Warm.run`: each one's result.

        Raises ClusterError where an agent or its warm process is gone.
        """
        asked = Job(job, arguments, world, seconds).to_json()
        request = {"do": "run", "to": self._numbers.next(), "stage": self._key, "job": asked}
        answers = self._ask_all(request, START_DEADLINE + seconds)
        if failed := {rank: answer for rank, answer in answers.items() if "result" not in answer}:
            raise ClusterError(f"{job} could not be run: {self._failures(failed)}")
        return tuple(_result(answers[peer.place.rank]["result"]) for peer in self._peers)

    def pool(self, setup: Setup) -> Pool:
        """Groups of ranks that are forked from it, one group at a time, which closes it when it is closed."""
        return Pool(self, setup, most=_ONE_GROUP)

    def close(self) -> None:
        """Have the agents end the warm process, and what may still run that was forked from it."""
        for peer in self._peers:
            with contextlib.suppress(WireError):
                peer.tell({"do": "leave", "to": self._key})

    def _ask_all(self, request: Mapping[str, Any], seconds: float) -> dict[int, Mapping[str, Any]]:
        """Every agent's answer, by rank; ``lost`` is that of one that gave none in time."""
        key = request["to"]
        answers: dict[int, Mapping[str, Any]] = {}
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            for peer in self._peers:
                selector.register(peer.open(key), selectors.EVENT_READ, peer)
                with contextlib.suppress(WireError):  # it is lost: its mailbox says so
                    peer.tell(request)
            while len(answers) < len(self._peers) and (left := until - time.monotonic()) > 0:
                for ready, _ in selector.select(left):
                    for message in ready.fileobj.take():  # type: ignore[union-attr]
                        answers.setdefault(ready.data.place.rank, message)
        for peer in self._peers:
            peer.close(key)
            answers.setdefault(peer.place.rank, {"lost": f"no answer after {seconds:g} s"})
        return answers

    def _failures(self, failed: Mapping[int, Mapping[str, Any]]) -> str:
        """The first failure, and on which ranks there were others."""
        first = min(failed)
        answer = failed[first]
        host = next(peer.place.host for peer in self._peers if peer.place.rank == first)
        others = f"; so did {numbers(rank for rank in failed if rank != first)}" if len(failed) > 1 else ""
        return f"rank {first} on host {host} failed: {answer.get('failure') or answer.get('lost')}{others}"

    def _lost(self) -> str:
        """Which agents are gone, host by host, and why the first of each is."""
        lost: dict[str, list[Peer]] = {}
        for peer in self._peers:
            if peer.lost:
                lost.setdefault(peer.place.host, []).append(peer)
        return "".join(
            f"; gone of host {host}: {numbers(peer.place.rank for peer in peers)} ({peers[0].lost})"
            for host, peers in lost.items()
        )


def _result(data: Mapping[str, Any]) -> Result:
    """What an agent made plain data of."""
    told = data["failure"]
    failure = None
    if told is not None:
        lists = {name: tuple(map(_tuple, told[name])) for name in ("bases", "frames", "notes")}
        failure = Failure(**{**told, **lists})
    return Result(**{**data, "failure": failure, "progress": tuple(data["progress"])})


def _tuple(item: Any) -> Any:
    return tuple(item) if isinstance(item, list) else item
