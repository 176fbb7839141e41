"""One run: the host and the platform made ready once, then one observation for each check.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .blame import is_vendor, stack_in, vendor_line
from .certificate.model import Finding, Observation
from .config import WORLD_SIZES, Config
from .grounds import Ground, ThisMachine, of_cluster
from .hosts.story import Story, read
from .probes import client
from .probes.client import Warm
from .probes.result import Failure, Result, ZygoteError, readable
from .probes.world import World
from .ranked import RankedChecks
from .ranked_result import found
from .ranks.stage import ClusterError
from .requirements.loader import Catalogue
from .subject import reference_world
from .suite import execute
from .suite.areas import AREAS, module_name
from .suite.declare import Check, parameters
from .suite.expect import Violation

if TYPE_CHECKING:
    from .ranks.cluster import Cluster

_JOBS = "sglang_conformance.suite.execute"
_MEMBER = "sglang_conformance.suite.member"
_STORY = "sglang_conformance.hosts.story:tell"


def preloaded(*, in_tree: bool = False) -> tuple[str, ...]:
    """The modules that the zygote imports, so that no probe has to.

    An out-of-tree device's tensors may be of a Python subclass, as the simulated one's are; torch imports a second's
    worth of modules at the first operation on one.
    """
    common = ("torch", "numpy", "psutil", "hypothesis", *map(module_name, AREAS))
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
        return self._zygote.warm(f"{_JOBS}:enter_host", self._entering, deadline=client.START_DEADLINE)

    @cached_property
    def platform(self) -> tuple[Warm | None, Result]:
        """The process in which the platform is resolved, or None and how that failed."""
        deadline = 2 * self._config.deadline
        return self._zygote.warm(f"{_JOBS}:resolve_platform", self._entering, world=self._world, deadline=deadline)

    @cached_property
    def survives_fork(self) -> bool:
        """Whether checks may run in forks of the process that resolved the platform."""
        platform, _ = self.platform
        return platform is not None and platform.threads == 1 and not platform.run(f"{_JOBS}:forks_badly").value

    @cached_property
    def _devices(self) -> Result:
        """How many devices there are for ranks, or why they could not be counted."""
        platform, result = self.platform
        if platform is None:
            return result
        job, deadline = f"{_MEMBER}:devices", self._config.deadline
        if self.survives_fork:
            return platform.run(job, deadline=deadline)
        return self._zygote.run(job, {"entering": self._entering}, world=self._world, deadline=3 * deadline)

    @cached_property
    def ranks(self) -> RankedChecks:
        """The checks on ranks; the devices could be counted."""
        config, ground = self._config, self._ground()
        sizes = config.world_sizes
        if self._cluster is not None and sizes is None:
            sizes = tuple(sorted({size for size in (*WORLD_SIZES, self._cluster.size) if size <= self._cluster.size}))
        return RankedChecks(ground, sizes=sizes, examples=config.examples, deadline=config.deadline)

    def _ground(self) -> Ground:
        platform, _ = self.platform
        if platform is None:
            raise ValueError("the platform could not be resolved")
        if self._cluster is not None:
            return of_cluster(self._cluster, self._zygote, self._entering, self._world, 2 * self._config.deadline)
        devices = self._devices.value["count"]
        if not self.survives_fork:
            return ThisMachine(self._zygote, self._zygote, devices, self._workers, self._entering, self._world)
        ready, _ = platform.warm(f"{_MEMBER}:stand_ready", deadline=client.START_DEADLINE)
        return ThisMachine(ready or platform, self._zygote, devices, self._workers)

    def close(self) -> None:
        """End the ranks; the warm processes end with the zygote."""
        if "ranks" in vars(self):
            self.ranks.close()

    def tell(self) -> Story:
        """The story of the plugin under test."""
        host, result = self.host
        if host is None:
            return Story(obstacle=_failed_stage("host", result))
        arguments = {"subject": self._entering["subject"]}
        return read(host.run(_STORY, arguments, world=self._world, deadline=2 * self._config.deadline))

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
            return stage.run(f"{_JOBS}:run", body, world=self._world, deadline=deadline)
        if self.survives_fork:
            return stage.run(f"{_JOBS}:run", body, deadline=deadline)
        alone = {"entering": self._entering, **body}
        return self._zygote.run(f"{_JOBS}:resolve_and_run", alone, world=self._world, deadline=3 * deadline)

    def _run_on_ranks(self, check: Check) -> Result:
        if self._cluster is None and (uncounted := self._devices.failure):
            return found("blocked", f"no devices: {uncounted.message}")
        if self._no_cluster:
            return found("not-run", self._no_cluster)
        try:
            return self.ranks.run(check)
        except ClusterError as error:
            if "ranks" not in vars(self):
                self._no_cluster = str(error)  # it is not waited for again
            return found("not-run", str(error))


def _failed_stage(place: str, result: Result) -> str:
    what = "the host could not be entered" if place == "host" else "the platform could not be resolved"
    return f"{what}: {result.failure.message}" if result.failure else what


class Session:
    """A run's warm processes and what was learnt from them. Belongs to one pytest process; close it at the end."""

    def __init__(
        self, config: Config, catalogue: Catalogue, address: str, *, workers: int = 1, cluster: Cluster | None = None
    ) -> None:
        self.config = config
        self._catalogue = catalogue
        self._address = address
        self._workers = workers
        self._cluster = cluster

    @cached_property
    def _zygote(self) -> Warm:
        return client.connect(self._address)

    @cached_property
    def _stages(self) -> Stages:
        return self._stages_of(self.config, self.config.subject.world())

    @cached_property
    def _built_in(self) -> Stages | None:
        """The host's own CPU platform under the same checks, to tell whether a failure is the host's fault."""
        world = reference_world(self.config.subject, self.config.host.contract)
        own = replace(self.config.subject, name="cpu", in_tree=True, entry_points=(), siblings=(), requires=())
        return self._stages_of(replace(self.config, subject=own), world) if world else None

    def _stages_of(self, config: Config, world: World) -> Stages:
        return Stages(self._zygote, config, world, workers=self._workers, cluster=self._cluster)

    @cached_property
    def story(self) -> Story:
        """How the plugin comes to life, walked step by step in a probe."""
        return self._stages.tell()

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What the resolved platform says it is; empty where it could not be resolved."""
        if self._stillborn:
            return {}
        platform, result = self._stages.platform
        return dict(result.value) if platform is not None else {}

    @property
    def facts_so_far(self) -> Mapping[str, Any]:
        """The facts where they were asked for already; this asks no probe, for the end of an interrupted run."""
        facts: Mapping[str, Any] = vars(self).get("facts", {})
        return facts

    def judge(self, check: Check) -> Observation:
        """Run one check; whatever happens, an observation comes of it."""
        started = time.monotonic()
        try:
            observation = self._judge(check)
        except ZygoteError as error:
            self._renew()
            finding = Finding("a probe that ends by itself", str(error), check.name)
            observation = Observation(check.id, check.requirements, "fail", str(error), finding)
        seconds = time.monotonic() - started
        return replace(observation, seconds=round(seconds, 4))

    def close(self) -> None:
        """Let the warm processes end."""
        self._end_ranks()
        if "_zygote" in vars(self):
            self._zygote.close()

    def _end_ranks(self) -> None:
        for name in ("_stages", "_built_in"):
            if (stages := vars(self).get(name)) is not None:
                stages.close()

    def _renew(self) -> None:
        """Forget warm processes that are gone; the next check makes new ones."""
        with contextlib.suppress(ZygoteError):
            self._end_ranks()
        for name in ("_zygote", "_stages", "_built_in"):
            vars(self).pop(name, None)

    @property
    def _stillborn(self) -> bool:
        """Whether the plugin's story was told, and ended before there was a platform."""
        story: Story | None = vars(self).get("story")
        return story is not None and not self.config.subject.in_tree and not story.has_instance

    def _obstacle(self, check: Check) -> str:
        """Why a check that needs a probe cannot have it; empty where it can."""
        if self._stillborn:
            return "the plugin does not come to life"
        if check.place == "host" and not self.config.subject.in_tree and not self.story.has_instance:
            return self.story.obstacle or "the plugin does not come to life"
        stage, result = self._stages.host if check.place == "host" else self._stages.platform
        return "" if stage is not None else _failed_stage(check.place, result)

    def _judge(self, check: Check) -> Observation:
        if check.place == "controller":
            return self._judge_here(check)
        if obstacle := self._obstacle(check):
            return _observation(check, "blocked", obstacle)
        observation = observe(check, self._stages.run(check))
        if observation.outcome == "fail" and self._is_hosts_fault(check, observation):
            message = f"SGLang's own CPU platform fails in the same way: {observation.message}"
            return replace(observation, outcome="host-defect", message=message)
        return observation

    def _judge_here(self, check: Check) -> Observation:
        body = getattr(importlib.import_module(check.module), check.name)
        host = self.config.host
        given: dict[str, Any] = {"subject": self.config.subject, "contract": host.contract, "host": host.kind}
        if "story" in parameters(body):
            given["story"] = self.story
        try:
            found = execute.call(body, given)
        except Violation as violation:
            return _failed(check, Finding(**violation.finding))
        except Exception as error:
            return _observation(check, "not-run", f"the check itself failed: {type(error).__name__}: {error}")
        return _observation(check, found["outcome"], found["message"])

    def _is_hosts_fault(self, check: Check, observation: Observation) -> bool:
        scopes = {self._catalogue.get(id_).scope for id_ in check.requirements}
        if self.config.subject.in_tree or scopes != {"any"} or self._built_in is None:
            return False
        if self._built_in.host[0] is None or self._built_in.platform[0] is None:
            return False
        other = observe(check, self._built_in.run(check))
        return other.outcome == "fail" and _same(other.finding, observation.finding)


def observe(check: Check, result: Result) -> Observation:
    """What a probe's result says of a check."""
    failure = result.failure
    if failure is None:
        return _observation(check, result.value["outcome"], result.value["message"])
    if failure.finding and "Violation" in failure.bases:  # not what a vendor's own error holds under that name
        falsifying = "\n".join(note for note in failure.notes if note)
        finding = Finding(**failure.finding)
        detail = "\n".join(part for part in (falsifying, finding.detail, result.output.strip()) if part)
        return _failed(check, replace(finding, detail=readable(detail)))
    if "NotCovered" in failure.bases:
        return _observation(check, "blocked", failure.message)
    if failure.kind == "raised" and not any(is_vendor(file) for file, _, _ in failure.frames):
        return _observation(
            check, "not-run", f"the check itself failed: {failure.type}: {failure.message}\n{failure.traceback}"
        )
    return _failed(check, finding_of(failure, result.output))


def finding_of(failure: Failure, output: str, call: str = "") -> Finding:
    """What a person reads first of a probe that raised, exited, was killed or hung."""
    seen = f"{failure.type}: {failure.message}" if failure.kind == "raised" else failure.message
    expected = {
        "raised": "no error",
        "hung": "an answer before the deadline",
    }.get(failure.kind, "an answer; platform code must not end its process")
    where = vendor_line(failure.frames) or vendor_line(stack_in(output))
    return Finding(expected, seen, call, where, detail=readable(failure.traceback or output))


def _same(one: Finding | None, other: Finding | None) -> bool:
    return (
        one is not None
        and other is not None
        and (one.expected, one.seen, one.call) == (other.expected, other.seen, other.call)
    )


def _observation(check: Check, outcome: Any, message: str) -> Observation:
    return Observation(check.id, check.requirements, outcome, message)


def _failed(check: Check, finding: Finding) -> Observation:
    return Observation(
        check.id, check.requirements, "fail", f"expected {finding.expected}; saw {finding.seen}", finding
    )
