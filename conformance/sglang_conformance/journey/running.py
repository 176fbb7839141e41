"""The command's side of a journey: the platform is resolved, and leg after leg is served by a server of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..blame import stack_in, vendor_line
from ..config import Config
from ..digest import kit_digest
from ..hosts.choose import Host
from ..machine import processor
from ..probes import client
from ..probes.result import ZygoteError
from ..resolved import NotResolved, resolved
from ..stages import Stages
from ..subject import Subject
from . import launched
from .launched import Launched
from .story import Failure, Journey, Served

if TYPE_CHECKING:
    from .leg import Leg


class JourneyError(RuntimeError):
    """The journey could not begin; its text is one line that says why, with the vendor's line."""


@dataclass(frozen=True)
class Plan:
    """What is to be served: on which platform, in which host. ``deadline``: seconds for each step of vendor code."""

    subject: Subject
    host: Host
    legs: tuple[Leg, ...]
    deadline: float

    @property
    def config(self) -> Config:
        """The run of which the platform is made ready: one that certifies nothing."""
        return Config(self.subject, self.host, (), None, Path(), examples=0, deadline=self.deadline)


@contextlib.contextmanager
def travelling(plan: Plan) -> Iterator[Travel]:
    """Resolve the platform; every process that came of it ends with the scope. Raises JourneyError."""
    zygote = client.start(("torch", "numpy", "psutil", f"{__package__}.launching"))
    try:
        with _told():
            stages = Stages(client.connect(zygote.address), plan.config, plan.subject.world(), workers=1, cluster=None)
            _, facts = resolved(plan.subject, stages, "served")
            yield Travel(plan, stages, facts)
    finally:
        zygote.close()


class Travel:
    """A platform that is resolved, and its legs. Made by :func:`travelling`, which ends it."""

    def __init__(self, plan: Plan, stages: Stages, facts: Mapping[str, Any]) -> None:
        self._plan = plan
        self._stages = stages
        self._facts = facts

    def begun(self) -> Journey:
        """The journey before its first leg."""
        subject, point = self._plan.subject, self._plan.subject.entry_point
        cores = len(os.sched_getaffinity(0))
        return Journey(
            platform=subject.name,
            distribution=subject.distribution,
            version=point.version if point else "",
            platform_class=str(self._facts["class"]),
            host=self._plan.host.kind,
            release=self._plan.host.release,
            device=f"{self._facts['device_name']} ({self._facts['device_type']})",
            machine=f"{processor()}, {cores} core{'s' if cores > 1 else ''}",
            kit=f"{__version__} {kit_digest()}",
            date=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )

    def leg(self, leg: Leg) -> Served:
        """Serve a leg by a server that is started as SGLang starts it, and ended. Raises JourneyError."""
        with _told():
            found = self._stages.launch(leg)
        if found.obstacle or found.unserved:
            return Served(str(leg), not_run=found.obstacle or found.unserved)
        if found.uncovered:
            return Served(str(leg), not_run=f"the host does not hold {found.uncovered}")
        return served(found, found.findings(self._plan.host.contract))


def served(found: Launched, findings: Any) -> Served:
    """A launched leg as the story has it."""
    start = found.starts[0] if found.starts else launched.Start()
    true = launched.likeliest(found.leg, launched.NEW) if start.tokens else ()
    pairs = [pair for seen, right in zip(start.tokens, true, strict=True) for pair in zip(seen, right, strict=False)]
    return Served(
        name=str(found.leg),
        requests=len(start.tokens),
        tokens=sum(map(len, start.tokens)),
        right=sum(seen == right for seen, right in pairs),
        sample=start.tokens[0] if start.tokens else (),
        seconds=start.seconds,
        first_token=start.first_token,
        traces=found.traces,
        findings=tuple(findings),
        failure=_failure(found),
    )


def _failure(found: Launched) -> Failure | None:
    """Where it failed first; the vendor's line, where only a stack that was dumped has it."""
    failure = found.failure
    if failure is None or failure.cause:
        return failure
    return Failure(**{**vars(failure), "cause": vendor_line(stack_in(found.output))})


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Let what can go wrong with processes be told in one line."""
    try:
        yield
    except (NotResolved, ZygoteError) as error:
        raise JourneyError(str(error)) from error
