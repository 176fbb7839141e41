"""The report as JSON, of the form ``sglang-conformance/radar/1``."""

from __future__ import annotations

import json
from typing import Any

from .finding import Finding
from .report import Report

SCHEMA = "sglang-conformance/radar/1"


def to_json(report: Report) -> dict[str, Any]:
    """Plain data."""
    return {
        "schema": SCHEMA,
        "plugin": {"name": report.name, "version": report.version},
        "from": report.start,
        "to": report.end,
        "breaks": report.breaks,
        "verdict": report.verdict(),
        "findings": [_finding(finding) for finding in report.findings],
        "not_judged": list(report.unread),
        "runs": [{"first": run.first, "last": run.last, "broken": run.broken} for run in report.runs],
        "releases": report.counts,
    }


def dumps(report: Report) -> str:
    """The text of a file."""
    return json.dumps(to_json(report), indent=1) + "\n"


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "severity": finding.severity.value,
        "subject": finding.subject,
        "what": finding.what,
        "file": finding.place.file,
        "line": finding.place.line,
        "since": finding.since,
        "before": finding.before,
        "why": finding.why,
        "mend": finding.mend,
    }
