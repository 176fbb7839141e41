"""One plugin over many releases: what is found in each, and since when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from .finding import Finding, Severity
from .kinds import FINDERS, hooks
from .plugin import Plugin
from .reading.code import Code
from .reading.history import History
from .reading.observe import observe
from .reading.seen import Live


@dataclass(frozen=True)
class Judged:
    """What was found of a plugin in one release, the gravest first; ``not_judged`` a line for each part not told."""

    release: str
    findings: tuple[Finding, ...]
    not_judged: tuple[str, ...]

    @property
    def works(self) -> bool:
        """Whether nothing breaks."""
        return not any(finding.severity is Severity.BREAKS for finding in self.findings)

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity is severity)


@dataclass(frozen=True)
class Run:
    """Releases that follow each other, in all of which the same breaks."""

    first: str
    last: str
    broken: int


def judge(
    plugin: Plugin, code: Code, history: History, release: str, live: Live | None = None, *, brief: bool = False
) -> Judged:
    """What of a plugin does not fit one release; ``brief`` leaves out where things have moved, which takes time."""
    seen = replace(observe(plugin, code, history, release, live), brief=brief)
    findings = _gravest(finding for find in FINDERS for finding in find(seen))
    told = live is not None and not live.failed
    return Judged(release, tuple(findings), (*seen.not_judged, *(() if told else hooks.not_judged(seen))))


def _gravest(findings: Iterable[Finding]) -> list[Finding]:
    """Each once, as grave as it was found: a line may be reached in several ways."""
    kept: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        other = kept.get(finding.key)
        if other is None or finding.severity.rank < other.severity.rank:
            kept[finding.key] = finding
    return sorted(kept.values(), key=lambda f: (f.severity.rank, f.place.file, f.place.line, f.kind, f.subject))


def between(judged: Mapping[str, Judged], start: str, end: str) -> tuple[Finding, ...]:
    """The findings of one release, each with the release that changed it, and whether it held at the start already.

    ``judged`` are all releases, oldest first. A finding is of the first release of those in a row that all have it.
    """
    names = list(judged)
    keys = {name: {(f.key, f.severity) for f in judged[name].findings} for name in names}

    def since(finding: Finding) -> str:
        first = names.index(end)
        while first > 0 and (finding.key, finding.severity) in keys[names[first - 1]]:
            first -= 1
        return names[first]

    found = []
    for finding in judged[end].findings:
        changed = since(finding)
        found.append(replace(finding, since=changed, before=names.index(changed) <= names.index(start)))
    return tuple(found)


def runs(judged: Sequence[Judged]) -> Iterator[Run]:
    """The releases by what breaks in them."""
    group: list[Judged] = []
    for each in judged:
        if group and _broken(group[-1]) != _broken(each):
            yield Run(group[0].release, group[-1].release, len(_broken(group[0])))
            group = []
        group.append(each)
    if group:
        yield Run(group[0].release, group[-1].release, len(_broken(group[0])))


def _broken(judged: Judged) -> frozenset[tuple[str, str, str]]:
    return frozenset(finding.key for finding in judged.of(Severity.BREAKS))
