"""Where the ranks of a run stand: on this machine, or on the machines of a cluster.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from .probes.client import START_DEADLINE, Warm
from .probes.world import World
from .ranks.pool import Pool
from .ranks.setup import Job, Setup
from .ranks.store import Keeper
from .suite import jobs

if TYPE_CHECKING:
    from .ranks.cluster import Cluster
    from .ranks.stage import Stage

_MIB_A_RANK = 256
_MOST_RANKS = 16


class Ground(Protocol):
    """What ranks are made on."""

    @property
    def devices(self) -> int | None:
        """How many ranks can have a device of their own; None where they share the CPU."""

    @property
    def entering(self) -> Mapping[str, Any] | None:
        """What each rank needs to resolve the platform; None where that was done before."""

    @property
    def serves_apart(self) -> bool:
        """Whether ranks on which models are served are forked from a process of their own."""

    def pool(self, setup: Setup, *, serving: bool = False) -> Pool:
        """Groups of ranks made ready so, for checks that have models served or for others; whoever asks closes it."""

    def keeper(self) -> Keeper:
        """The store in which they meet; whoever asks for it closes it."""

    def close(self) -> None:
        """Free what was taken to make ranks."""


@dataclass(frozen=True)
class ThisMachine:
    """Ranks forked from ``warm``, which has resolved the platform; or, with ``entering``, has nothing in it yet.

    The store is the zygote's child: it holds nothing of the vendor's. ``workers`` processes share this machine.
    ``to_serve`` makes what ranks are forked from on which models are served, where that is to be another process.
    """

    warm: Warm
    zygote: Warm
    devices: int | None
    workers: int = 1
    entering: Mapping[str, Any] | None = None
    world: World | None = None
    to_serve: Callable[[], Warm] | None = None

    @property
    def serves_apart(self) -> bool:
        """Whether there is such another process."""
        return self.to_serve is not None

    def pool(self, setup: Setup, *, serving: bool = False) -> Pool:
        """Groups of ranks of this machine, with spares where groups break."""
        most = ranks_at_once(self.workers)
        warm = self.to_serve() if serving and self.to_serve is not None else self.warm
        return Pool(warm, replace(setup, world=self.world), most=most, forward=False)

    def keeper(self) -> Keeper:
        """A store on loopback."""
        return Keeper(self.zygote)

    def close(self) -> None:
        """Nothing: the warm processes are the session's."""


@dataclass(frozen=True)
class Machines:
    """Ranks on the agents of a cluster, forked from warm processes there."""

    cluster: Cluster
    stage: Stage
    zygote: Warm
    entering: Mapping[str, Any] | None = None
    world: World | None = None

    @property
    def devices(self) -> int:
        """One for each agent: that is what it was started for."""
        return self.cluster.size

    @property
    def serves_apart(self) -> bool:
        """No: the ranks that serve there import what they need."""
        return False

    def pool(self, setup: Setup, *, serving: bool = False) -> Pool:
        """Groups of ranks spread over the hosts, one group at a time."""
        return self.stage.pool(replace(setup, world=self.world))

    def keeper(self) -> Keeper:
        """A store at the address of this machine by which the agents came."""
        return Keeper(self.zygote, host=self.cluster.host)

    def close(self) -> None:
        """End the warm processes of the agents."""
        self.stage.close()


def of_cluster(cluster: Cluster, zygote: Warm, entering: Mapping[str, Any], world: World, seconds: float) -> Machines:
    """Have every agent resolve the platform, for ranks to be forked from that; or each rank, where that is unsafe.

    Raises ClusterError where agents are missing, or one could not do it.
    """
    cluster.wait(START_DEADLINE)
    resolving = Job(jobs.RESOLVE_PLATFORM, entering, world, seconds)
    stage = cluster.stage([resolving, Job(jobs.STAND_READY, seconds=START_DEADLINE)])
    if all(threads == 1 for threads in stage.threads):
        return Machines(cluster, stage, zygote)
    stage.close()
    return Machines(cluster, cluster.stage(), zygote, entering, world)


def ranks_at_once(workers: int) -> int:
    """How many ranks a process may have: its share of what memory holds here; a group and its spare at least."""
    with open("/proc/meminfo", encoding="ascii") as file:
        kibibytes = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    held = kibibytes // 1024 // _MIB_A_RANK
    return max(4, min(_MOST_RANKS, held // max(1, workers)))
