"""From observations to a certificate: pure arithmetic that no order of checks can change.

First a requirement is judged by its own observations, the worst deciding: fail, host-defect, blocked, not-run, then
pass, then unsupported (which counts only where nothing passed). None at all is not-run. A valid waiver makes a fail
waived.

Then dependencies speak. Besides what the catalogue says, everything stands on every essential requirement, but
for the essential ones themselves and what those stand on. A requirement that ended as fail or waived is a root, and
what stands on it, directly or not, becomes blocked with that root as its cause and no finding of its own, so that
one fault is reported once. Three limits keep a failure from ever making a verdict better:

- What decides no verdict (SHOULD, MAY, provisional) cannot take away what a deciding requirement saw itself.
- A waived root hides no other failure. It does block what passed: a waiver covers the requirement it names and
  vouches for nothing that stands on it, so the profile stays incomplete until that has been judged.
- What was blocked or not run anyway takes any root as its cause, also one that is itself only blocked; its verdict is
  incomplete either way.

Where several roots qualify, the first in the order of the catalogue is the cause.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter

from ..requirements.model import Requirement
from .model import OUTCOMES, Certificate, Kind, Observation, Outcome, OutcomeName, Run, Verdict, VerdictName
from .waivers import Waiver

PROVISIONAL = "provisional"
"""The level that an outcome carries for a provisional MUST: recorded, but not deciding."""

_WORST_FIRST: tuple[OutcomeName, ...] = ("fail", "host-defect", "blocked", "not-run", "pass", "unsupported")
_UNJUDGED: tuple[OutcomeName, ...] = ("blocked", "not-run")
_EXIT: Mapping[VerdictName, int] = {"conformant": 0, "not-conformant": 1, "incomplete": 6}


def certify(
    requirements: Sequence[Requirement],
    observations: Iterable[Observation],
    run: Run,
    waivers: Iterable[Waiver] = (),
    *,
    reproduce: Callable[[Requirement], str],
) -> Certificate:
    """The certificate of a run.

    ``requirements`` are those that apply, in the order of the catalogue, none of a profile that is not certified;
    dependencies on others are as if kept. Observations of other requirements are ignored, as a check may serve several.
    ``waivers`` are taken as unexpired (see :func:`.waivers.load`); those of other platforms are ignored. ``reproduce``
    gives the command that runs just one requirement. Raises ValueError for a requirement given twice, one of another
    profile, or a circle of dependencies.
    """
    _check(requirements, run)
    by_requirement: dict[str, list[Observation]] = {r.id: [] for r in requirements}
    for observation in sorted(observations, key=_order):
        for name in dict.fromkeys(observation.requirements):
            by_requirement.get(name, []).append(observation)
    waived = {w.requirement: w for w in waivers if w.platform == run.platform.name}
    own = {r.id: _waive(_own(r, by_requirement[r.id], reproduce(r)), waived.get(r.id)) for r in requirements}
    outcomes = _spread(requirements, own)
    return Certificate(run, tuple(verdict(p, outcomes, run.kind) for p in run.profiles), outcomes)


def verdict(profile: str, outcomes: Iterable[Outcome], kind: Kind) -> Verdict:
    """The verdict of one profile, from nothing but outcomes and their levels: what ``verify`` computes again.

    A profile without a required requirement proves nothing, and is incomplete.
    """
    mine = [outcome for outcome in outcomes if outcome.profile == profile]
    required = [outcome.outcome for outcome in mine if decides(outcome)]
    counts = {name: required.count(name) for name in OUTCOMES}
    name: VerdictName = "conformant"
    if counts["fail"]:
        name = "not-conformant"
    elif counts["blocked"] or counts["not-run"] or not required or kind == "development":
        name = "incomplete"
    warnings = sum(outcome.level == "SHOULD" and outcome.outcome == "fail" for outcome in mine)
    return Verdict(profile, name, len(required), counts, warnings)


def decides(outcome: Outcome) -> bool:
    """Whether this outcome has a say in its profile's verdict."""
    return outcome.level == "MUST"


def exit_status(certificate: Certificate) -> int:
    """The exit status of a run: 1 where a profile is not conformant, else 6 where one is incomplete, else 0.

    A certificate without a profile or without a requirement says nothing, and is 6.
    """
    if not certificate.profiles or not certificate.outcomes:
        return _EXIT["incomplete"]
    verdicts = {profile.verdict for profile in certificate.profiles}
    worst: tuple[VerdictName, ...] = ("not-conformant", "incomplete", "conformant")
    return _EXIT[next(name for name in worst if name in verdicts)]


def _check(requirements: Sequence[Requirement], run: Run) -> None:
    seen: set[str] = set()
    for requirement in requirements:
        if requirement.id in seen:
            raise ValueError(f"requirement {requirement.id} was given twice")
        if requirement.profile not in run.profiles:
            raise ValueError(
                f"requirement {requirement.id} is of the profile {requirement.profile}, not certified here"
            )
        seen.add(requirement.id)


def _order(observation: Observation) -> tuple[str, bool, str, str, str, float]:
    """Sorts observations by content alone; of one check's, one with a finding comes first."""
    return (
        observation.check,
        observation.finding is None,
        observation.outcome,
        observation.message,
        repr(observation.finding),
        observation.seconds,
    )


def _own(requirement: Requirement, observations: Sequence[Observation], reproduce: str) -> Outcome:
    """What a requirement's own observations make of it. Only a waivers file waives: an observed waived is a fail."""
    seen: list[tuple[OutcomeName, Observation]] = [
        ("fail" if o.outcome == "waived" else o.outcome, o) for o in observations
    ]
    name = next((n for n in _WORST_FIRST if any(n == s for s, _ in seen)), None)
    deciding = [o for s, o in seen if s == name]
    speaking = next((o for o in deciding if o.finding), deciding[0] if deciding else None)
    return Outcome(
        requirement=requirement.id,
        outcome=name or "not-run",
        level=PROVISIONAL if requirement.level == "MUST" and requirement.provisional else requirement.level,
        profile=requirement.profile,
        checks=tuple(dict.fromkeys(o.check for o in observations)),
        message=speaking.message if speaking else "no check reported on it",
        finding=speaking.finding if speaking else None,
        reproduce=reproduce,
        seconds=_seconds(observations),
    )


def _seconds(observations: Iterable[Observation]) -> float:
    times = (o.seconds for o in observations)
    return round(math.fsum(t for t in times if math.isfinite(t) and t > 0), 6)


def _waive(outcome: Outcome, waiver: Waiver | None) -> Outcome:
    if waiver is None or outcome.outcome != "fail":
        return outcome
    return replace(outcome, outcome="waived", message=f"{waiver}: {outcome.message}".rstrip(": "))


def _spread(requirements: Sequence[Requirement], own: Mapping[str, Outcome]) -> tuple[Outcome, ...]:
    """Block what stands on a root, from the bottom of the dependencies upwards."""
    below = _dependencies(requirements)
    final: dict[str, Outcome] = {}
    for name in TopologicalSorter(below).static_order():
        final[name] = _block(own[name], [final[r.id] for r in requirements if r.id in below[name]])
    titles = {r.id: r.title for r in requirements}
    return tuple(_explain(final[r.id], titles) for r in requirements)


def _dependencies(requirements: Sequence[Requirement]) -> dict[str, frozenset[str]]:
    """Everything each requirement stands on, directly or not, by id; the essential ones included."""
    known = frozenset(r.id for r in requirements)
    graph = {r.id: known.intersection(r.depends) for r in requirements}
    closed: dict[str, frozenset[str]] = {}
    for name in TopologicalSorter(graph).static_order():
        closed[name] = graph[name].union(*(closed[below] for below in graph[name]))
    essential = frozenset(r.id for r in requirements if r.essential)
    foundation = essential.union(*(closed[name] for name in essential))
    return {name: below if name in foundation else below | foundation for name, below in closed.items()}


def _block(own: Outcome, below: Sequence[Outcome]) -> Outcome:
    """The outcome of a requirement, given the final ones of everything it stands on, in the catalogue's order."""
    roots = [o for o in below if o.outcome in ("fail", "waived")]
    if own.outcome in _UNJUDGED:
        roots = roots or [o for o in below if o.outcome == "blocked" and not o.cause]
    else:
        roots = [o for o in roots if decides(o) or not decides(own)]
        if own.outcome == "fail":
            roots = [o for o in roots if o.outcome == "fail"]
    if not roots:
        return own
    return replace(own, outcome="blocked", cause=roots[0].requirement, finding=None)


def _explain(outcome: Outcome, titles: Mapping[str, str]) -> Outcome:
    if not outcome.cause:
        return outcome
    return replace(outcome, message=f"stands on {outcome.cause} ({titles[outcome.cause]})")
