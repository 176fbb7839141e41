"""The report for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from ..console import WIDTH
from .finding import Finding, Severity
from .report import Report

_INDENT = "      "


def lines(report: Report, width: int = WIDTH) -> Iterator[str]:
    """The whole report, wrapped to the width."""
    yield f"{report.name} {report.version}".strip() + f", SGLang {report.start} to {report.end}"
    for severity in Severity:
        found = report.of_severity(severity)
        if found:
            yield ""
            yield f"{severity.value.upper()} ({len(found)}): {severity.meaning}"
            for finding in found:
                yield from _finding(finding, width)
    if report.unread:
        yield ""
        yield f"NOT JUDGED ({len(report.unread)})"
        for line in report.unread:
            yield from textwrap.wrap(line, width, initial_indent="  ", subsequent_indent="    ")
    yield ""
    yield "releases"
    for line in report.matrix():
        yield f"  {line}"
    yield ""
    yield report.verdict()


def _finding(finding: Finding, width: int) -> Iterator[str]:
    when = f"since {finding.since}" + (", so before" if finding.before else "")
    yield from textwrap.wrap(finding.what, width, initial_indent="  ", subsequent_indent="    ")
    yield from textwrap.wrap(
        f"{finding.place}  {when}  [{finding.kind}]", width, initial_indent=_INDENT, subsequent_indent=_INDENT
    )
    yield from textwrap.wrap(
        f"why:  {finding.why}", width, initial_indent=_INDENT, subsequent_indent=_INDENT + "      "
    )
    yield from textwrap.wrap(
        f"mend: {finding.mend}", width, initial_indent=_INDENT, subsequent_indent=_INDENT + "      "
    )
