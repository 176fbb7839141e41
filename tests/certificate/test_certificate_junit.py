from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import given

from sglang_conformance.certificate.junit import ReportError, element, junit_text, read_junit
from sglang_conformance.certificate.model import Finding, OutcomeName

from .factories import FINDING, Case, cases, drawn, judge, requirement, saw, waiver

A, B, C = "MEM-001", "MEM-002", "DEV-003"


def parsed(text: str) -> dict[str, ElementTree.Element]:
    return {case.get("name", ""): case for case in ElementTree.fromstring(text).iter("testcase")}


def test_a_suite_for_each_profile_and_a_case_for_each_requirement() -> None:
    rules = [requirement(A), requirement(B, profile="graphs"), requirement(C)]
    seen = [saw("pass", A, seconds=1.5), saw("pass", B), saw("fail", C)]
    root = ElementTree.fromstring(junit_text(judge(rules, seen, profiles=("core", "graphs")), rules))
    suites = {suite.get("name"): suite for suite in root.iter("testsuite")}
    assert {name: [case.get("name") for case in suite.iter("testcase")] for name, suite in suites.items()} == {
        "core": [A, C],
        "graphs": [B],
    }
    assert suites["core"].attrib.items() >= {"tests": "2", "failures": "1", "errors": "0", "skipped": "0"}.items()
    case = suites["core"].find("testcase")
    assert case is not None
    assert (case.get("classname"), case.get("time")) == ("sglang_conformance.MEM", "1.500000")
    assert {p.get("name"): p.get("value") for p in suites["core"].iter("property")} == {
        "kit": "0.1.0",
        "host": "reference 0.5.23",
        "contract": "0.5.23",
        "platform": "mlu 1.4.0",
        "verdict": "not-conformant",
        "kind": "certification",
    }


def test_a_failure_carries_its_message_and_the_full_text() -> None:
    rules = [requirement(A)]
    certificate = judge(rules, [saw("fail", A, message="free above total", finding=FINDING)])
    failure = parsed(junit_text(certificate, rules))[A].find("failure")
    assert failure is not None
    assert failure.get("message") == "fail: free above total"
    text = failure.text or ""
    assert text.startswith("MEM-001  The rule MEM-001\n")
    assert "  seen        free = 3 GiB, total = 2 GiB\n" in text
    assert text.endswith("ValueError: 3 > 2")


@pytest.mark.parametrize("level", ["MUST", "SHOULD", "MAY", "provisional"])
@pytest.mark.parametrize(
    ("seen", "of_required", "of_others", "message"),
    [
        ("pass", "", "", ""),
        ("fail", "failure", "skipped", "fail: m"),
        ("blocked", "error", "skipped", "blocked: m"),
        ("not-run", "error", "skipped", "not-run: m"),
        ("unsupported", "skipped", "skipped", "unsupported: m"),
        ("host-defect", "skipped", "skipped", "host-defect: m"),
    ],
)
def test_the_element_follows_outcome_and_level(
    level: str, seen: OutcomeName, of_required: str, of_others: str, message: str
) -> None:
    provisional = level == "provisional"
    rules = [requirement(A, level="MUST" if provisional else level, provisional=provisional)]
    certificate = judge(rules, [saw(seen, A, message="m")])
    expected = of_required if level == "MUST" else of_others
    children = [child for child in parsed(junit_text(certificate, rules))[A] if child.tag != "system-out"]
    assert [child.tag for child in children] == ([expected] if expected else [])
    assert element(certificate.outcome(A)) == expected
    warning = "warning: " if seen == "fail" and level != "MUST" else ""
    assert [child.get("message") for child in children] == ([warning + message] if expected else [])


def test_what_a_pass_has_found_is_told() -> None:
    rules = [requirement(A), requirement(B)]
    certificate = judge(rules, [saw("pass", A, message="the communicator is acme.Own"), saw("pass", B)])
    told = {name: case.findtext("system-out") for name, case in parsed(junit_text(certificate, rules)).items()}
    assert told == {A: "the communicator is acme.Own", B: None}


def test_a_waived_failure_is_skipped_with_its_waiver() -> None:
    rules = [requirement(A)]
    certificate = judge(rules, [saw("fail", A, message="m")], waiver(A))
    skipped = parsed(junit_text(certificate, rules))[A].find("skipped")
    assert skipped is not None
    assert (skipped.get("message") or "").startswith("waived: driver settles late (memory team, until 2026-12-31")


def test_a_failure_without_any_text_is_still_a_failure() -> None:
    rules = [requirement(A)]
    certificate = judge(rules, [saw("fail", A, finding=Finding("", ""))])
    failure = parsed(junit_text(certificate, rules))[A].find("failure")
    assert failure is not None
    assert failure.get("message") == "fail: no more is known"


def test_huge_text_is_cut_and_says_so() -> None:
    rules = [requirement(A)]
    finding = Finding("e", "s" * 5000, detail="x" * 3_000_000)
    text = junit_text(judge(rules, [saw("fail", A, message="m" * 9000, finding=finding)]), rules)
    assert len(text) < 25_000
    assert "more characters; certificate.json holds them all" in text


@drawn
@given(cases(wild=True))
def test_whatever_a_vendor_prints_the_report_reads_back(case: Case) -> None:
    certificate = case.certify()
    text = junit_text(certificate, case.requirements)
    text.encode("utf-8")
    cases_by_name = parsed(text)
    assert list(cases_by_name) == [
        o.requirement for p in case.run.profiles for o in certificate.outcomes if o.profile == p
    ]
    for outcome in certificate.outcomes:
        children = [child for child in cases_by_name[outcome.requirement] if child.tag != "system-out"]
        kind = element(outcome)
        assert [child.tag for child in children] == ([kind] if kind else [])


def test_reading_gives_elements_by_profile(tmp_path: Path) -> None:
    rules = [requirement(A), requirement(B), requirement(C, profile="graphs")]
    path = tmp_path / "junit.xml"
    certificate = judge(rules, [saw("fail", A), saw("pass", B)], profiles=("core", "graphs"))
    path.write_text(junit_text(certificate, rules), encoding="utf-8")
    assert read_junit(path) == {"core": {A: "failure", B: ""}, "graphs": {C: "error"}}


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"<testsuites>", "is not XML"),
        (b"\xff\xfe<", "cannot be read"),
        (b"<!DOCTYPE x []><testsuites/>", "holds a document type"),
        (b"<t><testsuite name='core'/><testsuite name='core'/></t>", "holds the profile core twice"),
        (b"<t><testsuite><testcase name='A'/><testcase name='A'/></testsuite></t>", "holds A twice"),
    ],
)
def test_a_foreign_report_is_refused(tmp_path: Path, content: bytes, error: str) -> None:
    (tmp_path / "junit.xml").write_bytes(content)
    with pytest.raises(ReportError, match=error):
        read_junit(tmp_path / "junit.xml")


def test_a_missing_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="cannot be read: No such file"):
        read_junit(tmp_path / "junit.xml")
