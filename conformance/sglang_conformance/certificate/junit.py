"""The JUnit report: a testsuite for each profile, a testcase for each requirement, its id as name.

A reader of the XML alone must not take for success what is none, so:

| outcome | of a required one | of another (SHOULD, MAY, provisional) |
|---|---|---|
| pass | nothing, or system-out with what was found | the same |
| fail | failure | skipped, "warning: fail: …": it decides nothing |
| blocked, not-run | error | skipped |
| waived, unsupported, host-defect | skipped | skipped |

A message begins with the outcome's word, but for that "warning: ". A profile on which no required requirement was
judged, and a development run that passes, show only in the suite's properties ``verdict`` and ``kind``.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from junit_xml import TestCase, TestSuite, to_xml_report_string

from ..requirements.model import Requirement
from .model import Certificate, Outcome, Verdict
from .text import clean, cut, failure_text
from .verdict import decides

Element = Literal["", "failure", "error", "skipped"]

_MESSAGE = 300
_TEXT = 20_000


class ReportError(ValueError):
    """A JUnit file is not one this module wrote; its text is one line."""


def junit_text(certificate: Certificate, requirements: Iterable[Requirement]) -> str:
    """The report as XML in UTF-8. ``requirements`` holds at least those of the certificate: failures quote them."""
    by_id = {requirement.id: requirement for requirement in requirements}
    suites = [_suite(certificate, verdict, by_id) for verdict in certificate.profiles]
    text: str = to_xml_report_string(suites, prettyprint=True, encoding="utf-8")
    return text


def element(outcome: Outcome) -> Element:
    """The XML element an outcome becomes, ``""`` for none: the table above."""
    if outcome.outcome == "pass":
        return ""
    if decides(outcome) and outcome.outcome == "fail":
        return "failure"
    if decides(outcome) and outcome.outcome in ("blocked", "not-run"):
        return "error"
    return "skipped"


def read_junit(path: Path) -> dict[str, dict[str, Element]]:
    """What a report says: the element of each requirement of each profile. Raises :class:`ReportError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path.name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if "<!DOCTYPE" in text:
        raise ReportError(f"{path.name}: holds a document type, which this kit never writes")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise ReportError(f"{path.name}: is not XML: {error}") from None
    found: dict[str, dict[str, Element]] = {}
    for suite in root.iter("testsuite"):
        profile = suite.get("name", "")
        if profile in found:
            raise ReportError(f"{path.name}: holds the profile {profile} twice")
        found[profile] = _cases(path, suite)
    return found


def _cases(path: Path, suite: ElementTree.Element) -> dict[str, Element]:
    cases: dict[str, Element] = {}
    kinds: tuple[Element, ...] = ("failure", "error", "skipped")
    for case in suite.iter("testcase"):
        name = case.get("name", "")
        if name in cases:
            raise ReportError(f"{path.name}: holds {name} twice")
        cases[name] = next((kind for kind in kinds if case.find(kind) is not None), "")
    return cases


def _suite(certificate: Certificate, verdict: Verdict, by_id: Mapping[str, Requirement]) -> TestSuite:
    run = certificate.run
    properties = {
        "kit": run.kit_version,
        "host": f"{run.host.kind} {run.host.sglang}".strip(),
        "contract": run.contract,
        "platform": f"{run.platform.name} {run.platform.version}".strip(),
        "verdict": verdict.verdict,
        "kind": run.kind,
    }
    return TestSuite(
        cut(verdict.profile, _MESSAGE),
        [_case(o, by_id[o.requirement]) for o in certificate.outcomes if o.profile == verdict.profile],
        properties={name: cut(value, _MESSAGE) for name, value in properties.items()},
    )


def _case(outcome: Outcome, requirement: Requirement) -> TestCase:
    case = TestCase(requirement.id, f"sglang_conformance.{requirement.area}", elapsed_sec=round(outcome.seconds, 3))
    kind = element(outcome)
    message, text = _message(outcome), _limited(failure_text(requirement, outcome))
    if kind == "failure":
        case.add_failure_info(message, text, "fail")
    elif kind == "error":
        case.add_error_info(message, text, outcome.outcome)
    elif kind == "skipped":
        case.add_skipped_info(message, text if outcome.outcome in ("fail", "waived", "host-defect") else None)
    elif outcome.message:
        case.stdout = cut(outcome.message, _MESSAGE)
    return case


def _message(outcome: Outcome) -> str:
    warning = "warning: " if outcome.outcome == "fail" and not decides(outcome) else ""
    text = outcome.message or (outcome.finding.seen if outcome.finding else "")
    return cut(f"{warning}{outcome.outcome}: {text or 'no more is known'}", _MESSAGE)


def _limited(text: str) -> str:
    text = clean(text)
    left = len(text) - _TEXT
    return text if left <= 0 else f"{text[:_TEXT]}\n… {left} more characters; certificate.json holds them all"
