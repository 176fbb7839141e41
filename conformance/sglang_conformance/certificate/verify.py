"""Whether a record holds: everything in it that follows from the rest is computed again and compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..requirements.loader import Catalogue
from .folder import JUNIT, RECORD
from .junit import ReportError, element, read_junit
from .model import Certificate, Outcome
from .record import RecordError, digest, from_json, parse
from .verdict import PROVISIONAL, verdict


def verify(folder: Path, catalogue: Catalogue | None = None) -> list[str]:
    """The problems of a record, one line each; an empty list for one that holds.

    With the ``catalogue`` of the kit release that wrote the record, also whether all that applied is in it, at its
    level and in its profile: a record alone cannot show what was left out of it.
    """
    try:
        data = parse(folder / RECORD)
        certificate = from_json(data, RECORD)
    except RecordError as error:
        return [str(error)]
    problems = [
        *_seal(data),
        *_kind(data, certificate),
        *_verdicts(certificate),
        *_outcomes(certificate.outcomes, certificate.run.profiles),
        *_report(certificate, folder / JUNIT),
    ]
    if catalogue is not None:
        problems += _against(certificate, catalogue)
    return problems


def _seal(data: Mapping[str, Any]) -> Iterator[str]:
    if data["digest"] != digest(data):
        yield "digest: the record was changed after it was written"


def _kind(data: Mapping[str, Any], certificate: Certificate) -> Iterator[str]:
    if data["kind"] != certificate.run.kind:
        count = len(certificate.run.reasons)
        yield f"kind: says {data['kind']}, but {count} reasons make it a {certificate.run.kind} run"
    conformant = [v.profile for v in certificate.profiles if v.verdict == "conformant"]
    if conformant and "development" in (data["kind"], certificate.run.kind):
        yield f"a development run cannot certify, but {', '.join(conformant)} claims to be conformant"


def _verdicts(certificate: Certificate) -> Iterator[str]:
    if not certificate.profiles:
        yield "profiles: there is none, so nothing is certified"
    for claimed in certificate.profiles:
        computed = verdict(claimed.profile, certificate.outcomes, certificate.run.kind)
        if claimed.verdict != computed.verdict:
            yield f"{claimed.profile}: claims {claimed.verdict}, but its outcomes make it {computed.verdict}"
        pairs: dict[str, tuple[int, int]] = {
            "required": (claimed.required, computed.required),
            "warnings": (claimed.warnings, computed.warnings),
        }
        pairs.update({name: (claimed.counts[name], count) for name, count in computed.counts.items()})
        for name, (said, counted) in pairs.items():
            if said != counted:
                yield f"{claimed.profile}: says {said} {name}, but its outcomes give {counted}"


def _outcomes(outcomes: Iterable[Outcome], profiles: Iterable[str]) -> Iterator[str]:
    by_id = {outcome.requirement: outcome for outcome in outcomes}
    for name, outcome in by_id.items():
        if outcome.profile not in profiles:
            yield f"{name}: is of the profile {outcome.profile}, which the record does not hold"
        if not outcome.checks and outcome.outcome not in ("blocked", "not-run"):
            yield f"{name}: is {outcome.outcome}, but no check saw it"
        if outcome.cause and outcome.outcome != "blocked":
            yield f"{name}: is {outcome.outcome}, but names {outcome.cause} as what blocks it"
        root = by_id.get(outcome.cause)
        if outcome.cause and (root is None or root.outcome not in ("fail", "waived", "blocked")):
            yield f"{name}: is blocked by {outcome.cause}, which is not among what failed"


def _report(certificate: Certificate, path: Path) -> Iterator[str]:
    try:
        said = read_junit(path)
    except ReportError as error:
        yield str(error)
        return
    meant = {
        profile: {o.requirement: element(o) for o in certificate.outcomes if o.profile == profile}
        for profile in certificate.run.profiles
    }
    for profile in sorted(meant.keys() ^ said.keys()):
        yield f"{path.name}: the profile {profile} is {'missing' if profile in meant else 'not in the record'}"
    for profile in sorted(meant.keys() & said.keys()):
        for name in sorted(meant[profile].keys() | said[profile].keys()):
            expected, seen = meant[profile].get(name), said[profile].get(name)
            if expected != seen:
                yield f"{path.name}: {profile}: {name} is {_word(seen)}, but {_word(expected)} in the record"


def _word(kind: str | None) -> str:
    return "absent" if kind is None else kind or "passed"


def _against(certificate: Certificate, catalogue: Catalogue) -> Iterator[str]:
    run = certificate.run
    applying = catalogue.applying(run.contract, in_tree=run.platform.in_tree, profiles=run.profiles)
    by_id = {outcome.requirement: outcome for outcome in certificate.outcomes}
    for requirement in applying:
        outcome = by_id.pop(requirement.id, None)
        provisional = requirement.level == "MUST" and requirement.provisional
        level = PROVISIONAL if provisional else requirement.level
        if outcome is None:
            yield f"{requirement.id}: applies to this platform, but is not in the record"
        elif (outcome.level, outcome.profile) != (level, requirement.profile):
            yield f"{requirement.id}: is {level} in {requirement.profile}, but not in the record"
    for name in by_id:
        yield f"{name}: does not apply to this platform, but is in the record"
