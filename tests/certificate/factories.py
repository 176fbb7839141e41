"""Requirements, observations and certificates for tests: made by hand, and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from sglang_conformance.certificate.model import (
    Certificate,
    Finding,
    HostIdentity,
    Observation,
    OutcomeName,
    PlatformIdentity,
    Run,
)
from sglang_conformance.certificate.verdict import certify
from sglang_conformance.certificate.waivers import Waiver
from sglang_conformance.requirements.model import Requirement

OBSERVED: tuple[OutcomeName, ...] = ("pass", "fail", "unsupported", "blocked", "not-run", "host-defect")


def requirement(name: str, *depends: str, **changes: Any) -> Requirement:
    values: dict[str, Any] = {
        "title": f"The rule {name}",
        "text": f"A platform keeps {name}.",
        "level": "MUST",
        "profile": "core",
        "reason": f"Without {name} memory is misread.",
        "sources": (f"https://rules.example/{name}",),
        "depends": depends,
    }
    return Requirement(id=name, **{**values, **changes})


def saw(outcome: OutcomeName, *names: str, check: str = "", **changes: Any) -> Observation:
    return Observation(check or f"suite/test_x.py::test_{'_'.join(names)}", names, outcome, **changes)


def run(**changes: Any) -> Run:
    values: dict[str, Any] = {
        "kit_version": "0.1.0",
        "kit_digest": "aa11",
        "host": HostIdentity("reference", "0.5.23", "bb22"),
        "contract": "0.5.23",
        "platform": PlatformIdentity("mlu", "vendor-mlu", "1.4.0", "vendor.platform.Mlu", "cc33"),
        "profiles": ("core",),
    }
    return Run(**{**values, **changes})


def waiver(name: str, platform: str = "mlu") -> Waiver:
    return Waiver(name, platform, "memory team", "https://vendor.example/17", date(2026, 12, 31), "driver settles late")


def reproduce(rule: Requirement) -> str:
    return f"pytest --platform=mlu -k {rule.id}"


def judge(
    requirements: Sequence[Requirement],
    observations: Sequence[Observation],
    *waivers: Waiver,
    **changes: Any,
) -> Certificate:
    return certify(requirements, observations, run(**changes), waivers, reproduce=reproduce)


def outcomes(certificate: Certificate) -> dict[str, str]:
    return {o.requirement: o.outcome for o in certificate.outcomes}


FINDING = Finding(
    expected="free <= total",
    seen="free = 3 GiB, total = 2 GiB",
    call="platform.get_available_memory(0)",
    where="vendor/memory.py:31",
    cause="free memory is read from the host",
    detail="Traceback (most recent call last):\n  File 'vendor/memory.py'\nValueError: 3 > 2",
)


@dataclass(frozen=True)
class Case:
    """Everything :func:`certify` takes."""

    requirements: tuple[Requirement, ...]
    observations: tuple[Observation, ...]
    run: Run
    waivers: tuple[Waiver, ...]

    def certify(self) -> Certificate:
        return certify(self.requirements, self.observations, self.run, self.waivers, reproduce=reproduce)


drawn = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
texts = st.text(max_size=60) | st.text(max_size=30).map(lambda text: f"{text}\ud800\x1b[31m\r\n\x00{text}")
findings = st.builds(Finding, texts, texts, texts, texts, texts, texts)


@st.composite
def cases(draw: st.DrawFn, *, wild: bool = False, most: int = 8) -> Case:
    """A catalogue without circles, its order unrelated to its dependencies, and what some checks saw of it.

    Names and messages are one letter, or anything at all where ``wild``.
    """
    text = texts if wild else st.just("t")
    finding = findings if wild else st.just(FINDING)
    profiles = draw(st.lists(st.sampled_from(["core", "distributed", "graphs"]), min_size=1, unique=True))
    names = [f"MEM-{number:03}" for number in range(draw(st.integers(0, most)))]
    rules: list[Requirement] = []
    for place, name in enumerate(draw(st.permutations(names))):
        rules.append(
            requirement(
                name,
                *(r.id for r in rules[:place] if draw(st.integers(0, 3)) == 0),
                title=draw(text),
                text=draw(text),
                level=draw(st.sampled_from(["MUST", "MUST", "SHOULD", "MAY"])),
                profile=draw(st.sampled_from(profiles)),
                essential=draw(st.integers(0, 7)) == 0,
                provisional=draw(st.integers(0, 5)) == 0,
            )
        )
    seen = []
    for number in range(draw(st.integers(0, 2 * len(names))) if names else 0):
        seen.append(
            Observation(
                f"suite/test_x.py::test_{number}",
                tuple(draw(st.lists(st.sampled_from(names), min_size=1, max_size=2))),
                draw(st.sampled_from(OBSERVED)),
                draw(text),
                draw(st.none() | finding),
                draw(st.integers(0, 999)) / 8,
            )
        )
    return Case(
        requirements=tuple(sorted(rules, key=lambda r: r.id)),
        observations=tuple(seen),
        run=run(
            profiles=tuple(profiles),
            reasons=tuple(draw(st.lists(st.just("narrowed by -k") | text.filter(bool), max_size=1))),
            platform=PlatformIdentity("mlu", draw(text), draw(text)),
        ),
        waivers=tuple(waiver(name) for name in names if draw(st.integers(0, 5)) == 0),
    )
