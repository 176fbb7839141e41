"""The warm processes of a run: the host entered, the platform resolved in it, and what checks are run on.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from . import oracles
from .config import WORLD_SIZES, Config
from .grounds import Ground, ThisMachine, of_cluster
from .hosts.story import Story, read
from .probes import client
from .probes.client import Warm
from .probes.result import Result
from .probes.world import World
from .ranked import RankedChecks
from .ranked_result import found
from .ranks.place import ClusterError
from .subject import reference_world
from .suite import jobs
from .suite.areas import AREAS, MAKING, module_name
from .suite.declare import Check

if TYPE_CHECKING:
    from .journey.launched import Launched
    from .journey.leg import Leg
    from .ranks.cluster import Cluster

_SPAWNING = 30.0
"""Seconds that interpreters may take to start, which a server's processes are."""
_IMPORTING = 120.0
"""Seconds that they may take besides to import the real SGLang, where other tests keep the machine busy."""

_COMPILING = 3
"""How many times as long models may take to be served by the real SGLang: it has torch compile parts of them in each
rank's process (0.5.23, srt/layers/vocab_parallel_embedding.py), some seconds of a processor's.
"""


def preloaded(*, in_tree: bool = False) -> tuple[str, ...]:
    """The modules that the zygote imports, so that no probe has to.

    An out-of-tree device's tensors may be of a Python subclass, as the simulated one's are; torch imports a second's
    worth of modules at the first operation on one.
    """
    oracle = f"{oracles.__name__}.collectives"
    common = ("torch", "numpy.random", "psutil", "hypothesis", oracle, *map(module_name, AREAS))
    return common if in_tree else (*common, "torch.distributed.tensor")


class Stages:
    """The warm processes of one world: the host entered; the platform resolved in it. Made when first needed."""

    def __init__(self, zygote: Warm, config: Config, world: World, *, workers: int, cluster: Cluster | None) -> None:
        self._zygote = zygote
        self._cluster = cluster
        self._no_cluster = ""
        self._config = config
        self._workers = workers
        self._world = replace(world, paths=config.paths)
        self._entering = {
            "kind": config.host.kind,
            "table": config.host.contract.to_json(),
            "subject": config.subject.to_json(),
        }

    @cached_property
    def host(self) -> tuple[Warm | None, Result]:
        """The process in which the host is imported, and nothing of the vendor's; or None and how that failed."""
        return self._zygote.warm(jobs.ENTER_HOST, self._entering, deadline=client.START_DEADLINE)

    @cached_property
    def platform(self) -> tuple[Warm | None, Result]:
        """The process in which the platform is resolved, or None and how that failed."""
        deadline = 2 * self._config.deadline
        return self._zygote.warm(jobs.RESOLVE_PLATFORM, self._entering, world=self._world, deadline=deadline)

    @cached_property
    def survives_fork(self) -> bool:
        """Whether checks may run in forks of the process that resolved the platform."""
        platform, _ = self.platform
        return platform is not None and platform.threads == 1 and not platform.run(jobs.FORKS_BADLY).value

    @cached_property
    def devices(self) -> Result:
        """How many devices there are for ranks, or why they could not be counted."""
        platform, result = self.platform
        if platform is None:
            return result
        job, deadline = jobs.COUNT_DEVICES, self._config.deadline
        if self.survives_fork:
            return platform.run(job, deadline=deadline)
        return self._zygote.run(job, {"entering": self._entering}, world=self._world, deadline=3 * deadline)

    @cached_property
    def ranks(self) -> RankedChecks:
        """The checks on ranks; the devices could be counted."""
        config, ground = self._config, self.ground()
        sizes = config.world_sizes
        if self._cluster is not None and sizes is None:
            sizes = tuple(sorted({size for size in (*WORLD_SIZES, self._cluster.size) if size <= self._cluster.size}))
        serving = config.deadline * (_COMPILING if config.host.kind == "installed" else 1)
        return RankedChecks(ground, sizes=sizes, examples=config.examples, deadline=config.deadline, serving=serving)

    @cached_property
    def ready(self) -> Warm | None:
        """The process in which what the host's groups need is imported too."""
        platform, _ = self.platform
        if platform is None:
            return None
        warm, _ = platform.warm(jobs.STAND_READY, deadline=client.START_DEADLINE)
        return warm or platform

    @cached_property
    def ready_to_serve(self) -> Warm | None:
        """The process in which what serves models is imported too, which takes the real SGLang ten seconds, and models
        are made; or the one before, where that is not safe to fork: then each rank, and each probe, does it.
        """
        if self.ready is None:
            return None
        warm, _ = self.ready.warm(jobs.STAND_READY_TO_SERVE, deadline=client.START_DEADLINE)
        return warm if warm is not None and warm.threads == 1 else self.ready

    def ground(self) -> Ground:
        """Where ranks stand; the devices could be counted."""
        platform, _ = self.platform
        if platform is None:
            raise ValueError("the platform could not be resolved")
        if self._cluster is not None:
            return of_cluster(self._cluster, self._zygote, self._entering, self._world, 2 * self._config.deadline)
        devices = self.devices.value["count"]
        if not self.survives_fork:
            return ThisMachine(self._zygote, self._zygote, devices, self._workers, self._entering, self._world)
        ready = self.ready or platform
        return ThisMachine(ready, self._zygote, devices, self._workers, to_serve=lambda: self.ready_to_serve or ready)

    def close(self) -> None:
        """End the ranks; the warm processes end with the zygote."""
        if "ranks" in vars(self):
            self.ranks.close()

    def tell(self) -> Story:
        """The story of the plugin under test."""
        host, result = self.host
        if host is None:
            return Story(obstacle=failed_stage("host", result))
        arguments = {"subject": self._entering["subject"]}
        return read(host.run(jobs.TELL_STORY, arguments, world=self._world, deadline=2 * self._config.deadline))

    def launch(self, leg: Leg, starts: int = 1) -> Launched:
        """A server of that leg, started as SGLang starts it, ``starts`` times in one launching process."""
        from .journey import launched

        host, entered = self.host
        platform, resolved = self.platform
        if host is None or platform is None:
            stage = ("host", entered) if host is None else ("platform", resolved)
            return launched.Launched(leg, obstacle=failed_stage(*stage))
        installed = self._config.host.kind == "installed"
        seconds = self._config.deadline + _SPAWNING + (_IMPORTING if installed else 0.0)
        device = resolved.value["device_type"]
        with tempfile.TemporaryDirectory(prefix="journey-") as folder:
            given = {"leg": leg.to_json(), "device": device, "folder": folder, "new": launched.NEW}
            given |= {"starts": starts, "deadline": seconds}
            launching = self._zygote if installed else host
            given |= {"entering": self._entering} if installed else {}
            result = launching.run(jobs.LAUNCH, given, world=self._world, deadline=(starts + 1) * seconds)
            out_of_tree = not self._config.subject.in_tree
            return launched.read(leg, Path(folder), result, out_of_tree=out_of_tree, device=device, installed=installed)

    def run(self, check: Check) -> Result:
        """Run a check's body in a probe of the stage that it needs, which must be there, or on ranks."""
        if check.place == "ranks":
            return self._run_on_ranks(check)
        deadline = self._config.deadline + (client.START_DEADLINE if check.spawns else 0.0)
        body = {
            "module": check.module,
            "name": check.name,
            "examples": self._config.examples,
            "deadline": 0.9 * deadline,  # what it waits for ends before it does, and so can be told
        }
        stage, _ = self.host if check.place == "host" else self.platform
        if stage is None:
            raise ValueError(f"{check.id}: its stage could not be made")
        if check.place == "host":
            return stage.run(jobs.RUN, body, world=self._world, deadline=deadline)
        if self.survives_fork:
            makes = self._config.host.kind == "installed" and check.area in MAKING
            return ((self.ready_to_serve if makes else None) or stage).run(jobs.RUN, body, deadline=deadline)
        alone = {"entering": self._entering, **body}
        return self._zygote.run(jobs.RESOLVE_AND_RUN, alone, world=self._world, deadline=3 * deadline)

    def _run_on_ranks(self, check: Check) -> Result:
        if self._cluster is None and (uncounted := self.devices.failure):
            return found("blocked", f"no devices: {uncounted.message}")
        if self._no_cluster:
            return found("not-run", self._no_cluster)
        try:
            return self.ranks.run(check)
        except ClusterError as error:
            if "ranks" not in vars(self):
                self._no_cluster = str(error)  # it is not waited for again
            return found("not-run", str(error))


class BuiltIn:
    """The host's own CPU platform under the checks of a run, to tell whether a failure is the host's fault.

    One may serve the runs of many plugins, one after the other: it is made ready once for all runs that are configured
    alike.
    """

    def __init__(self, zygote: Warm, *, workers: int = 1, cluster: Cluster | None = None) -> None:
        self._zygote = zygote
        self._workers = workers
        self._cluster = cluster
        self._made: dict[tuple[object, ...], Stages | None] = {}

    def stages(self, config: Config) -> Stages | None:
        """Its stages in a run of that configuration; None before SGLang had such a platform."""
        host, sizes = config.host, config.world_sizes
        key = host.kind, host.release, config.subject.providers, sizes, config.examples, config.deadline
        if key not in self._made:
            world = reference_world(config.subject, config.host.contract)
            own = replace(config.subject, name="cpu", in_tree=True, entry_points=(), siblings=(), requires=())
            mine = replace(config, subject=own, paths=())
            self._made[key] = (
                Stages(self._zygote, mine, world, workers=self._workers, cluster=self._cluster) if world else None
            )
        return self._made[key]

    def close(self) -> None:
        """End its ranks, which are made anew where they are needed again: gloo's threads never sleep for long."""
        for stages in filter(None, self._made.values()):
            stages.close()


def failed_stage(place: str, result: Result) -> str:
    """Why a stage could not be made."""
    what = "the host could not be entered" if place == "host" else "the platform could not be resolved"
    return f"{what}: {result.failure.message}" if result.failure else what
