"""The words of a certificate as frozen dataclasses: findings, observations, outcomes, verdicts, the record.

A check makes one :class:`Observation`. Observations of a whole run and the catalogue make, by the pure function
:func:`sglang_conformance.certificate.verdict.certify`, one :class:`Certificate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

OutcomeName = Literal["pass", "fail", "waived", "unsupported", "blocked", "not-run", "host-defect"]
VerdictName = Literal["conformant", "not-conformant", "incomplete"]
Kind = Literal["certification", "development"]

OUTCOMES: tuple[OutcomeName, ...] = (
    "pass",
    "fail",
    "waived",
    "unsupported",
    "blocked",
    "not-run",
    "host-defect",
)


@dataclass(frozen=True)
class Finding:
    """What went wrong, in values: the part of a failure that a person reads first.

    ``expected`` and ``seen`` are short texts; ``call`` is what was called, as ``platform.get_device(1)``; ``where``
    the file and line of the vendor's code at fault, as ``vendor/memory.py:31``, or empty; ``cause`` the likely cause in
    a sentence; ``detail`` the vendor's traceback and output, already cut to a readable length.
    """

    expected: str
    seen: str
    call: str = ""
    where: str = ""
    cause: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Observation:
    """What one check saw. ``check`` is its node id as pytest prints it; ``seconds`` its wall time."""

    check: str
    requirements: tuple[str, ...]
    outcome: OutcomeName
    message: str = ""
    finding: Finding | None = None
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data, to travel with a pytest report between xdist workers."""
        from dataclasses import asdict

        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Observation:
        """Read back what :meth:`to_json` wrote."""
        finding = data["finding"]
        return cls(
            **{
                **data,
                "requirements": tuple(data["requirements"]),
                "finding": Finding(**finding) if finding else None,
            }
        )


@dataclass(frozen=True)
class PlatformIdentity:
    """Who was judged. ``digest`` covers the files of its distribution; empty texts where there is no such thing."""

    name: str
    distribution: str = ""
    version: str = ""
    class_name: str = ""
    digest: str = ""
    in_tree: bool = False


@dataclass(frozen=True)
class HostIdentity:
    """Inside what: ``kind`` is reference or installed; ``sglang`` its release; ``digest`` of its contract's files."""

    kind: str
    sglang: str
    digest: str = ""


@dataclass(frozen=True)
class Run:
    """Everything about a run but what its checks saw.

    ``profiles`` are the profiles to certify, ``reasons`` why this run can never certify (empty: it can).
    ``environment`` is plain data: Python, torch, pytest, machine, options and relevant variables.
    """

    kit_version: str
    kit_digest: str
    host: HostIdentity
    contract: str
    platform: PlatformIdentity
    profiles: tuple[str, ...]
    environment: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """``certification``, or ``development`` where something narrowed or interfered with the run."""
        return "development" if self.reasons else "certification"


@dataclass(frozen=True)
class Outcome:
    """What one requirement ended as. ``cause`` is the root requirement of a ``blocked``."""

    requirement: str
    outcome: OutcomeName
    level: str
    profile: str
    checks: tuple[str, ...] = ()
    message: str = ""
    finding: Finding | None = None
    reproduce: str = ""
    cause: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """A profile's verdict, and how many of its required requirements ended as what."""

    profile: str
    verdict: VerdictName
    required: int
    counts: Mapping[OutcomeName, int]
    warnings: int


@dataclass(frozen=True)
class Certificate:
    """The record of a run: every applicable requirement in exactly one outcome, and a verdict for each profile."""

    run: Run
    profiles: tuple[Verdict, ...]
    outcomes: tuple[Outcome, ...]

    def outcome(self, requirement: str) -> Outcome:
        """The outcome of one requirement; raises KeyError where it does not apply to this run."""
        for outcome in self.outcomes:
            if outcome.requirement == requirement:
                return outcome
        raise KeyError(requirement)
