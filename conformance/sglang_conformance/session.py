"""One run: the host and the platform are made ready once, then one observation comes of each check.

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
from .config import Config
from .hosts.serving import NotServed
from .hosts.story import Story
from .probes import client
from .probes.client import Warm
from .probes.result import Failure, Result, ZygoteError, readable
from .requirements.loader import Catalogue
from .stages import BuiltIn, Stages, failed_stage
from .suite import execute
from .suite.declare import Check, parameters
from .suite.expect import NotCovered, Violation

if TYPE_CHECKING:
    from .journey.launched import Launched
    from .ranks.cluster import Cluster


class Session:
    """A run's warm processes and what was learnt from them. Belongs to one pytest process; close it at the end.

    ``built_in``: the host's own platform, where many runs share it.
    """

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        address: str,
        *,
        workers: int = 1,
        cluster: Cluster | None = None,
        built_in: BuiltIn | None = None,
    ) -> None:
        self.config = config
        self._catalogue = catalogue
        self._address = address
        self._workers = workers
        self._cluster = cluster
        self._lent = built_in

    @cached_property
    def _zygote(self) -> Warm:
        return client.connect(self._address)

    @cached_property
    def _stages(self) -> Stages:
        world = self.config.subject.world()
        return Stages(self._zygote, self.config, world, workers=self._workers, cluster=self._cluster)

    @cached_property
    def _built_in(self) -> BuiltIn:
        return BuiltIn(self._zygote, workers=self._workers, cluster=self._cluster)

    @cached_property
    def story(self) -> Story:
        """How the plugin comes to life, walked step by step in a probe."""
        return self._stages.tell()

    @cached_property
    def launched(self) -> Launched:
        """A server of the platform, started twice as SGLang starts it, in processes of its own: once in a run."""
        from .journey import shared
        from .journey.launched import Launched
        from .journey.leg import Leg

        leg = Leg()
        if not self.config.subject.in_tree and not self.story.has_instance:
            return Launched(leg, obstacle=self.story.obstacle or "the plugin does not come to life")
        if self._workers == 1:
            return self._stages.launch(leg, starts=2)
        patience = 4 * (self.config.deadline + client.START_DEADLINE)
        return shared.once(self._address, lambda: self._stages.launch(leg, starts=2), patience)

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
        for stages in (vars(self).get("_stages"), vars(self).get("_built_in"), self._lent):
            if stages is not None:
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
        return "" if stage is not None else failed_stage(check.place, result)

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
        if "launched" in parameters(body):
            given["launched"] = self.launched
        try:
            found = execute.call(body, given)
        except Violation as violation:
            return _failed(check, Finding(**violation.finding))
        except NotServed as missing:
            return _observation(check, "not-run", str(missing))
        except NotCovered as missing:
            return _observation(check, "blocked", str(missing))
        except Exception as error:
            return _observation(check, "not-run", f"the check itself failed: {type(error).__name__}: {error}")
        return _observation(check, found["outcome"], found["message"])

    def _is_hosts_fault(self, check: Check, observation: Observation) -> bool:
        scopes = {self._catalogue.get(id_).scope for id_ in check.requirements}
        if self.config.subject.in_tree or scopes != {"any"}:
            return False
        stages = (self._lent or self._built_in).stages(self.config)
        if stages is None or stages.host[0] is None or stages.platform[0] is None:
            return False
        other = observe(check, stages.run(check))
        return other.outcome == "fail" and _same(other.finding, observation.finding)


def observe(check: Check, result: Result) -> Observation:
    """What a probe's result says of a check."""
    failure = result.failure
    if failure is None:
        found = result.value
        shown = Finding(**found["finding"]) if found.get("finding") else None
        return replace(_observation(check, found["outcome"], found["message"]), finding=shown)
    if failure.finding and "Violation" in failure.bases:  # not what a vendor's own error holds under that name
        falsifying = "\n".join(note for note in failure.notes if note)
        finding = Finding(**failure.finding)
        detail = "\n".join(part for part in (falsifying, finding.detail, result.output.strip()) if part)
        return _failed(check, replace(finding, detail=readable(detail)))
    if "NotServed" in failure.bases:
        return _observation(check, "not-run", failure.message)
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
