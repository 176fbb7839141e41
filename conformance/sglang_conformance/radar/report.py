"""What the radar came to, from one run: the plugin, the releases, and what was found; drawn as text, JSON or a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .finding import Finding, Severity
from .survey import Judged, Run, between, runs


@dataclass(frozen=True)
class Report:
    """``start`` and ``end`` are the releases compared; ``findings`` those of ``end``, the gravest first."""

    name: str
    version: str
    start: str
    end: str
    findings: tuple[Finding, ...]
    runs: tuple[Run, ...]
    counts: dict[str, dict[str, int]]
    unread: tuple[str, ...]

    @classmethod
    def of(
        cls, name: str, version: str, judged: dict[str, Judged], start: str, end: str, unread: tuple[str, ...]
    ) -> Report:
        """The report of a plugin that was judged in all releases; ``start`` empty: the oldest in which it works."""
        begin = start or oldest_that_works(judged, end)
        counts = {
            release: {severity.value: len(each.of(severity)) for severity in Severity}
            for release, each in judged.items()
        }
        told = (*unread, *judged[end].not_judged)
        return cls(
            name, version, begin, end, between(judged, begin, end), tuple(runs(list(judged.values()))), counts, told
        )

    def of_severity(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity is severity)

    @property
    def breaks(self) -> bool:
        """Whether something breaks in the release that was asked for."""
        return bool(self.of_severity(Severity.BREAKS))

    def verdict(self) -> str:
        """The line that says it all."""
        broken = len(self.of_severity(Severity.BREAKS))
        if broken:
            return f"breaks on {self.end}: {counted(broken, 'finding')}"
        others = len(self.findings) - len(self.of_severity(Severity.REACHABLE))
        rest = f"; {counted(others, 'lesser finding')}" if others else ""
        unread = f"; {counted(len(self.unread), 'part')} not judged" if self.unread else ""
        return f"nothing breaks on {self.end}{rest}{unread}"

    def matrix(self) -> Iterator[str]:
        """A line for each run of releases."""
        for run in self.runs:
            span = run.first if run.first == run.last else f"{run.first} to {run.last}"
            yield f"breaks on {span}: {counted(run.broken, 'finding')}" if run.broken else f"works on {span}"


def oldest_that_works(judged: dict[str, Judged], end: str) -> str:
    """The oldest release in which nothing breaks; the oldest of all where there is none up to the one asked for."""
    names = list(judged)
    upto = names[: names.index(end) + 1]
    return next((name for name in upto if judged[name].works), names[0])


def counted(number: int, noun: str) -> str:
    """A number of things, as people say it."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
