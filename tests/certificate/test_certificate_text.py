from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglang_conformance.certificate.model import Finding, HostIdentity
from sglang_conformance.certificate.summary import summary
from sglang_conformance.certificate.text import clean, cut, failure_lines, failure_text, labelled

from .factories import FINDING, Case, cases, drawn, judge, requirement, saw

RULE = requirement(
    "MEM-001",
    title="Total memory is in bytes",
    text="The total is that of the device asked for, in bytes, as a positive int, and the same at every call.",
    reason="SGLang sizes its KV pool from this number.",
)
RULES = [
    requirement("ACT-001", title="activate returns a class name"),
    RULE,
    requirement("MEM-002", "MEM-001", title="Free memory never exceeds total"),
    requirement("MEM-003", "MEM-001", title="Usage is per device"),
    requirement("DEV-004", title="Synchronize waits", level="SHOULD"),
    requirement("DEV-005", title="A uuid names the device"),
    requirement("DEV-006", title="Streams are compared by value", provisional=True),
    requirement("GRA-001", title="Graphs replay", profile="graphs"),
]
SEEN = [
    saw("pass", "ACT-001"),
    saw("fail", "DEV-005", message="uuid is empty"),
    saw("fail", "MEM-001", finding=FINDING),
    saw("fail", "DEV-004"),
    saw("fail", "DEV-006"),
]


def screen(width: int = 100, height: int = 24) -> str:
    certificate = judge(RULES, SEEN, profiles=("core", "graphs"), reasons=("narrowed by -k mem",))
    lines = summary(certificate, RULES, record="out/certificate.json", width=width, height=height)
    return "\n".join(line.text for line in lines)


def test_a_failure_speaks_in_order() -> None:
    outcome = judge([RULE], [saw("fail", "MEM-001", finding=FINDING)]).outcome("MEM-001")
    assert (
        failure_text(RULE, outcome, 80)
        == """\
MEM-001  Total memory is in bytes
  rule        The total is that of the device asked for, in bytes, as a positive
              int, and the same at every call.
  expected    free <= total
  seen        free = 3 GiB, total = 2 GiB
  call        platform.get_available_memory(0)
  cause       free memory is read from the host
  where       vendor/memory.py:31
  why         SGLang sizes its KV pool from this number.
              https://rules.example/MEM-001
  run again   pytest --platform=mlu -k MEM-001

  Traceback (most recent call last):
    File 'vendor/memory.py'
  ValueError: 3 > 2"""
    )


def test_a_failure_without_a_finding_shows_its_message_as_seen() -> None:
    outcome = judge([RULE], [saw("fail", "MEM-001", message="it hung")]).outcome("MEM-001")
    assert "  seen        it hung\n" in failure_text(RULE, outcome)


def test_what_is_not_a_fail_says_what_it_ended_as() -> None:
    text = failure_text(RULE, judge([RULE], []).outcome("MEM-001"))
    assert "  not-run     no check reported on it\n" in text
    assert "seen" not in text


def test_defects_of_sglang_are_named_with_what_they_are() -> None:
    seen = [saw("pass", "ACT-001"), saw("host-defect", "DEV-004", message="SGLang waits for nobody", finding=FINDING)]
    shown = summary(judge(RULES, seen, profiles=("core", "graphs")), RULES, record="r", width=80, height=40)
    lines = [line.text for line in shown]
    at = lines.index("Defects of SGLang itself")
    assert lines[at + 1].split() == ["DEV-004", "SGLang", "waits", "for", "nobody"]
    assert "of SGLang   1: DEV-004" in lines
    outcome = judge(RULES[:-1], seen).outcome("DEV-004")
    assert "  host-defect SGLang waits for nobody\n" in failure_text(RULES[4], outcome)
    assert "  seen        free = 3 GiB" in failure_text(RULES[4], outcome)


def test_short_of_room_the_values_and_the_command_stay() -> None:
    outcome = judge([RULE], [saw("fail", "MEM-001", finding=FINDING)]).outcome("MEM-001")
    assert [line.text for line in failure_lines(RULE, outcome, 60, room=4)] == [
        "MEM-001  Total memory is in bytes",
        "  expected    free <= total",
        "  seen        free = 3 GiB, total = 2 GiB",
        "  run again   pytest --platform=mlu -k MEM-001",
    ]
    for room in range(4, 14):
        assert len(failure_lines(RULE, outcome, 60, room)) <= room


def test_the_summary_of_a_failing_run_fits_and_says_what_to_mend_first() -> None:
    assert (
        screen(width=80)
        == """\
mlu 1.4.0 (vendor-mlu) · reference host · contract 0.5.23
core    not-conformant  5 required: 1 pass, 2 fail, 2 blocked
graphs  incomplete      1 required: 1 not-run

Mend first
MEM-001  Total memory is in bytes
  rule        The total is that of the device asked for, in bytes, as a positive
              int, and the same at every call.
  expected    free <= total
  seen        free = 3 GiB, total = 2 GiB
  call        platform.get_available_memory(0)
  cause       free memory is read from the host
  where       vendor/memory.py:31
  why         SGLang sizes its KV pool from this number.
  run again   pytest --platform=mlu -k MEM-001

Then
  DEV-005  A uuid names the device

blocked     2 by MEM-001
warnings    1: DEV-004
to come     1: DEV-006
no verdict  development run: narrowed by -k mem
record      out/certificate.json"""
    )


def test_the_summary_shrinks_to_a_small_screen() -> None:
    assert (
        screen(width=50, height=20)
        == """\
mlu 1.4.0 (vendor-mlu) · reference host · contrac…
core    not-conformant  5 required: 1 pass,
             2 fail, 2 blocked
graphs  incomplete      1 required: 1 not-run

Mend first
MEM-001  Total memory is in bytes
  expected    free <= total
  seen        free = 3 GiB, total = 2 GiB
  where       vendor/memory.py:31
  run again   pytest --platform=mlu -k MEM-001

Then
  DEV-005  A uuid names the device

blocked     2 by MEM-001
warnings    1: DEV-004
to come     1: DEV-006
no verdict  development run: narrowed by -k mem
record      out/certificate.json"""
    )


def test_the_summary_of_a_conformant_run_is_short() -> None:
    rules = RULES[:2]
    certificate = judge(
        rules, [saw("pass", r.id) for r in rules], host=HostIdentity("installed", "0.5.23"), contract="0.5.20"
    )
    lines = summary(certificate, rules, record="out/certificate.json")
    assert [(line.text, line.role) for line in lines] == [
        ("mlu 1.4.0 (vendor-mlu) · installed host 0.5.23 · contract 0.5.20", "heading"),
        ("core  conformant      2 required: 2 pass", "good"),
        ("", "plain"),
        ("record      out/certificate.json", "copy"),
    ]


def test_without_a_failure_what_was_not_judged_is_listed() -> None:
    rules = [requirement(f"MEM-{n:03}") for n in range(1, 10)]
    lines = summary(
        judge(rules, [saw("pass", "MEM-001"), saw("blocked", "MEM-002", message="no host")]), rules, record="r"
    )
    assert [line.text for line in lines[3:]] == [
        "Not judged",
        "  MEM-002     no host",
        "  MEM-003     no check reported on it (and 6 more)",
        "",
        "blocked     1 by no other: MEM-002",
        "record      r",
    ]


@pytest.mark.parametrize("reasons", [(), ("narrowed by -k DEV-004",)])
def test_what_does_not_decide_is_told_where_nothing_else_is_to_mend(reasons: tuple[str, ...]) -> None:
    rules = [RULE, requirement("DEV-004", title="Synchronize waits", level="SHOULD")]
    seen = [saw("fail", "DEV-004", message="it returned at once"), *([] if reasons else [saw("pass", RULE.id)])]
    lines = [line.text for line in summary(judge(rules, seen, reasons=reasons), rules, record="r")]
    assert lines[3:5] == ["Worth mending", "DEV-004  Synchronize waits"]
    assert "  seen        it returned at once" in lines
    assert "Not judged" not in lines


def test_what_does_not_decide_gives_way_to_what_was_not_judged() -> None:
    rules = [RULE, requirement("DEV-004", level="SHOULD")]
    seen = [saw("fail", "DEV-004"), saw("blocked", RULE.id, message="no ranks")]
    lines = [line.text for line in summary(judge(rules, seen, reasons=("--examples=10",)), rules, record="r")]
    assert lines[3:5] == ["Not judged", f"  {RULE.id}     no ranks"]
    assert "Worth mending" not in lines


def test_a_reason_not_to_judge_is_wrapped_and_what_follows_from_it_is_not_told() -> None:
    rules = [requirement("MEM-001"), requirement("MEM-002", depends=("MEM-001",))]
    message = (
        "the host could not be entered: SGLang does not import: No module named 'torchvision'; pip install torchvision"
    )
    lines = summary(judge(rules, [saw("blocked", "MEM-001", message=message)]), rules, record="r", width=60)
    assert [line.text for line in lines[3:]] == [
        "Not judged",
        "  MEM-001     the host could not be entered: SGLang does not",
        "              import: No module named 'torchvision'; pip",
        "              install torchvision",
        "",
        "blocked     2: 1 by no other: MEM-001, 1 by MEM-001",
        "record      r",
    ]


def test_reasons_beyond_the_room_are_counted() -> None:
    rules = [requirement(f"MEM-{n:03}") for n in range(1, 21)]
    seen = [saw("blocked", r.id, message=f"reason {r.id}") for r in rules]
    lines = [line.text for line in summary(judge(rules, seen), rules, record="r")]
    assert lines[3:5] == ["Not judged", "  MEM-001     reason MEM-001"]
    assert lines[12] == "  … and 12 more reasons"


def test_the_failure_that_blocks_most_comes_first() -> None:
    rules = [requirement("MEM-001"), requirement("MEM-002"), requirement("MEM-003", "MEM-002")]
    certificate = judge(rules, [saw("fail", "MEM-001"), saw("fail", "MEM-002")])
    lines = [line.text for line in summary(certificate, rules, record="r")]
    assert lines[lines.index("Mend first") + 1].startswith("MEM-002")
    assert lines[lines.index("Then") + 1].startswith("  MEM-001")


def test_paths_and_commands_are_never_cut() -> None:
    long = "/a" * 100
    finding = replace(FINDING, where=f"{long}.py:1")
    certificate = judge([RULE], [saw("fail", "MEM-001", finding=finding)])
    wide = [line.text for line in summary(certificate, [RULE], record=long, width=40) if len(line.text) > 40]
    assert wide == [
        f"  where       {long}.py:1",
        "              https://rules.example/MEM-001",
        "  run again   pytest --platform=mlu -k MEM-001",
        f"record      {long}",
    ]


@drawn
@given(cases(wild=True), st.integers(18, 50), st.integers(40, 160))
def test_the_summary_never_exceeds_the_screen(case: Case, height: int, width: int) -> None:
    lines = summary(case.certify(), case.requirements, record="out", width=width, height=height)
    assert len(lines) <= height
    assert [line for line in lines if len(line.text) > width and line.role != "copy"] == []
    assert [line for line in lines if clean(line.text) != line.text or len(line.text.splitlines()) > 1] == []


@drawn
@given(cases(most=25), st.integers(18, 30))
def test_the_summary_of_a_large_run_never_exceeds_the_screen(case: Case, height: int) -> None:
    assert len(summary(case.certify(), case.requirements, record="out", height=height)) <= height


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("a\x1b[31mred\x1b[0m b", "ared b"),
        ("\x1b]0;title\x07after", "after"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("nul\x00 bell\x07", "nul\ufffd bell\ufffd"),
        ("lone \ud800 noncharacter \ufffe \U0001ffff", "lone \ufffd noncharacter \ufffd \ufffd"),
        ("naïve 数 \U0001f600\ttab", "naïve 数 \U0001f600\ttab"),
    ],
)
def test_clean_text_is_safe_to_print(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


def test_cut_text_ends_with_an_ellipsis() -> None:
    assert (cut("a  b\nc", 5), cut("abcdef", 5), cut("abcd ef", 6)) == ("a b c", "abcd…", "abcd…")


def test_labelled_text_wraps_in_its_column() -> None:
    lines = labelled("rule", "one two three four five six", 30, rows=1)
    assert [line.text for line in lines] == ["  rule        one two three …"]
    assert labelled("rule", " \n", 30) == []


def test_what_is_to_be_copied_keeps_its_spaces() -> None:
    assert [line.text for line in labelled("run again", "pytest -k 'a  b'", 10, "copy")] == [
        "  run again   pytest -k 'a  b'"
    ]


def test_huge_values_are_cut_and_the_command_is_still_there() -> None:
    finding = replace(FINDING, seen="x" * 2_000_000, expected="y " * 1_000_000)
    outcome = judge([RULE], [saw("fail", "MEM-001", finding=finding)]).outcome("MEM-001")
    lines = failure_lines(RULE, outcome)
    assert len(lines) < 40
    assert lines[-1].text == "  run again   pytest --platform=mlu -k MEM-001"


def test_a_finding_of_nothing_but_empty_texts_still_reads() -> None:
    outcome = judge([RULE], [saw("fail", "MEM-001", finding=Finding("", ""))]).outcome("MEM-001")
    assert failure_text(RULE, outcome).splitlines()[-1] == "  run again   pytest --platform=mlu -k MEM-001"
