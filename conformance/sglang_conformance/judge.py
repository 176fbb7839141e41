"""What the run's items ask: which checks apply, and what came of one.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .certificate.model import Observation, Outcome
from .certificate.text import failure_text
from .config import DEFAULT_EXAMPLES, Config
from .requirements.loader import Catalogue
from .requirements.model import DECLARED, PROFILES, Requirement
from .session import Session
from .stages import BuiltIn
from .suite.areas import all_checks
from .suite.declare import Check

if TYPE_CHECKING:
    from .ranks.cluster import Cluster


class Judge:
    """What the run's items ask: which checks apply, and what came of one."""

    def __init__(
        self,
        config: Config,
        address: str,
        catalogue: Catalogue,
        *,
        workers: int = 1,
        cluster: Cluster | None = None,
        built_in: BuiltIn | None = None,
    ) -> None:
        self.config = config
        self.catalogue = catalogue
        self._cluster = cluster
        self.session = Session(config, catalogue, address, workers=workers, cluster=cluster, built_in=built_in)

    @cached_property
    def profiles(self) -> tuple[str, ...]:
        """The profiles to certify: those asked for, or those that the platform declares."""
        if self.config.profiles is not None:
            return self.config.profiles
        return tuple(p for p in PROFILES if p not in DECLARED or self.session.facts.get(p, True))

    @cached_property
    def requirements(self) -> tuple[Requirement, ...]:
        """The requirements that apply, whatever the profile: collecting must not wait for the platform."""
        subject = self.config.subject
        return self.catalogue.applying(
            self.config.host.release, in_tree=subject.in_tree, profiles=self.config.profiles or PROFILES
        )

    @property
    def certified(self) -> tuple[Requirement, ...]:
        """The requirements of the profiles to certify."""
        return tuple(r for r in self.requirements if r.profile in self.profiles)

    def applies(self, check: Check) -> bool:
        """Whether any requirement that the check decides applies to this run."""
        return any(r.id in check.requirements for r in self.requirements)

    def decides(self, check: Check) -> bool:
        """Whether a failure of the check breaks a required requirement."""
        return any(r.required for r in self.requirements if r.id in check.requirements)

    def judge(self, check: Check) -> Observation:
        """Run a check."""
        mine = tuple(r.id for r in self.requirements if r.id in check.requirements)
        return replace(self.session.judge(check), requirements=mine)

    def word(self, observation: Observation) -> str:
        """The outcome as pytest prints it: a failing SHOULD is a warning."""
        return "warning" if observation.outcome == "fail" else observation.outcome

    def failure_text(self, observation: Observation) -> str:
        """A failed check as a person reads it."""
        requirement = next(r for r in self.requirements if r.id in observation.requirements)
        outcome = Outcome(
            requirement.id,
            "fail",
            requirement.level,
            requirement.profile,
            (observation.check,),
            observation.message,
            observation.finding,
            self.reproduce(requirement),
        )
        return failure_text(requirement, outcome)

    def reproduce(self, requirement: Requirement) -> str:
        """The command that runs just the checks of one requirement."""
        parts = ["pytest", f"--platform={self.config.subject.name}", f"--sglang={self.config.host.kind}"]
        if self.config.host.kind == "reference":
            parts.append(f"--contract={self.config.host.release}")
        if self.config.world_sizes is not None:
            parts.append(f"--world-size={','.join(map(str, self.config.world_sizes))}")
        if self.config.examples != DEFAULT_EXAMPLES:
            parts.append(f"--examples={self.config.examples}")
        return " ".join([*parts, "-k", requirement.id])

    def cluster(self) -> list[dict[str, Any]]:
        """Where each rank was that came from elsewhere, as plain data; nothing where all were of this machine."""
        return [place.to_json() for place in self._cluster.places] if self._cluster is not None else []

    def facts(self) -> dict[str, Any]:
        """What was learnt of the platform, and the suite's checks, as plain data.

        It travels from a worker to the controller, which so need not import the suite.
        """
        return {"facts": dict(self.session.facts), "profiles": list(self.profiles), "checks": _suite()}

    def facts_so_far(self) -> dict[str, Any]:
        """The same for an interrupted run, which must not wait for the platform again."""
        profiles = list(self.config.profiles or PROFILES)
        return {"facts": dict(self.session.facts_so_far), "profiles": profiles, "checks": _suite()}

    def close(self) -> None:
        """Let the run's processes end."""
        self.session.close()


def _suite() -> dict[str, list[str]]:
    """Every check of the suite, with the requirements that it decides."""
    return {check.id: list(check.requirements) for check in all_checks()}
