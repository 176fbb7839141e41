from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglang_conformance.certificate.model import Certificate, Finding, Observation, OutcomeName
from sglang_conformance.certificate.verdict import certify, exit_status
from sglang_conformance.requirements.model import Requirement

from .factories import FINDING, Case, cases, drawn, judge, outcomes, reproduce, requirement, run, saw, waiver

A, B, C = "MEM-001", "MEM-002", "MEM-003"
SEVERITY = {0: 0, 6: 1, 1: 2}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([], "not-run"),
        (["pass"], "pass"),
        (["unsupported"], "unsupported"),
        (["unsupported", "pass"], "pass"),
        (["pass", "not-run"], "not-run"),
        (["unsupported", "not-run"], "not-run"),
        (["not-run", "blocked", "pass"], "blocked"),
        (["blocked", "host-defect"], "host-defect"),
        (["pass", "host-defect"], "host-defect"),
        (["host-defect", "fail", "pass", "blocked", "not-run", "unsupported"], "fail"),
        (["waived"], "fail"),
    ],
)
def test_the_worst_observation_decides(seen: list[OutcomeName], expected: str) -> None:
    observations = [saw(o, A, check=f"c{i}") for i, o in enumerate(seen)]
    assert outcomes(judge([requirement(A)], observations)) == {A: expected}


def test_a_requirement_that_no_check_reported_says_so() -> None:
    outcome = judge([requirement(A)], [saw("pass", B)]).outcome(A)
    assert (outcome.outcome, outcome.message, outcome.checks) == ("not-run", "no check reported on it", ())


def test_a_fail_speaks_with_the_first_failing_check_that_has_a_finding() -> None:
    other = replace(FINDING, seen="other")
    observations = [
        saw("fail", A, check="c3", message="third", finding=other),
        saw("pass", A, check="c0", seconds=0.5),
        saw("fail", A, check="c2", message="second", finding=FINDING, seconds=0.25),
        saw("fail", A, check="c1", message="first"),
    ]
    outcome = judge([requirement(A)], observations).outcome(A)
    assert (outcome.message, outcome.finding) == ("second", FINDING)
    assert (outcome.checks, outcome.seconds) == (("c0", "c1", "c2", "c3"), 0.75)
    assert outcome.reproduce == f"pytest --platform=mlu -k {A}"


def test_what_stands_on_a_failure_is_blocked_by_the_root_and_keeps_no_finding() -> None:
    rules = [requirement(A, B), requirement(B, C), requirement(C)]
    seen = [saw("fail", A, finding=FINDING, message="mine"), saw("pass", B), saw("fail", C, finding=FINDING)]
    certificate = judge(rules, seen)
    assert outcomes(certificate) == {A: "blocked", B: "blocked", C: "fail"}
    assert [o.cause for o in certificate.outcomes] == [C, C, ""]
    assert [o.finding for o in certificate.outcomes] == [None, None, FINDING]
    assert certificate.outcome(A).message == f"stands on {C} (The rule {C})"


def test_of_two_roots_the_first_in_the_catalogue_is_the_cause() -> None:
    rules = [requirement(A), requirement(B), requirement(C, B, A)]
    assert judge(rules, [saw("fail", A), saw("fail", B), saw("pass", C)]).outcome(C).cause == A


def test_a_failing_essential_requirement_blocks_all_but_its_own_foundation() -> None:
    rules = [requirement(A), requirement(B, A, essential=True), requirement(C)]
    seen = [saw("pass", A), saw("fail", B), saw("fail", C)]
    certificate = judge(rules, seen)
    assert outcomes(certificate) == {A: "pass", B: "fail", C: "blocked"}
    assert certificate.outcome(C).cause == B


def test_two_failing_essential_requirements_are_two_roots() -> None:
    rules = [requirement(A, essential=True), requirement(B, essential=True), requirement(C)]
    certificate = judge(rules, [saw("fail", A), saw("fail", B)])
    assert outcomes(certificate) == {A: "fail", B: "fail", C: "blocked"}


def test_what_does_not_decide_takes_nothing_from_what_does() -> None:
    for lesser in (requirement(A, level="SHOULD"), requirement(A, provisional=True)):
        rules = [lesser, requirement(B, A), requirement(C, A, level="MAY")]
        seen = [saw("fail", A), saw("fail", B), saw("fail", C)]
        assert outcomes(judge(rules, seen)) == {A: "fail", B: "fail", C: "blocked"}
        assert outcomes(judge(rules, [saw("fail", A), saw("pass", B)])) == {A: "fail", B: "pass", C: "blocked"}


def test_what_was_not_judged_takes_a_blocked_root_as_its_cause_and_what_was_stays() -> None:
    rules = [requirement(A), requirement(B, A), requirement(C, A)]
    certificate = judge(rules, [saw("blocked", A, message="not covered"), saw("pass", C)])
    assert outcomes(certificate) == {A: "blocked", B: "blocked", C: "pass"}
    assert (certificate.outcome(A).message, certificate.outcome(B).cause) == ("not covered", A)


def test_a_check_left_out_blocks_nothing() -> None:
    assert outcomes(judge([requirement(A), requirement(B, A)], [saw("fail", B)])) == {A: "not-run", B: "fail"}


def test_a_waived_failure_counts_as_waived_and_leaves_the_profile_conformant() -> None:
    certificate = judge([requirement(A), requirement(B)], [saw("fail", A, finding=FINDING), saw("pass", B)], waiver(A))
    assert (certificate.profiles[0].verdict, certificate.profiles[0].counts["waived"]) == ("conformant", 1)
    assert certificate.outcome(A).finding == FINDING
    assert "memory team, until 2026-12-31" in certificate.outcome(A).message
    assert exit_status(certificate) == 0


def test_a_waiver_covers_only_its_requirement_platform_and_failures() -> None:
    rules = [requirement(A), requirement(B)]
    seen = [saw("fail", A), saw("pass", B)]
    assert outcomes(judge(rules, seen, waiver(B)))[B] == "pass"
    assert outcomes(judge(rules, seen, waiver(A, "other")))[A] == "fail"


def test_a_waived_root_blocks_what_passed_and_hides_no_other_failure() -> None:
    rules = [requirement(A), requirement(B, A), requirement(C, A)]
    certificate = judge(rules, [saw("fail", A), saw("pass", B), saw("fail", C)], waiver(A))
    assert outcomes(certificate) == {A: "waived", B: "blocked", C: "fail"}
    assert judge(rules[:2], [saw("fail", A), saw("pass", B)], waiver(A)).profiles[0].verdict == "incomplete"


def test_a_verdict_counts_required_requirements_only() -> None:
    rules = [
        requirement(A),
        requirement(B, level="SHOULD"),
        requirement(C, provisional=True),
        requirement("MEM-004", level="MAY"),
        requirement("MEM-005", profile="graphs"),
    ]
    seen = [saw("pass", A), saw("fail", B), saw("fail", C), saw("fail", "MEM-004"), saw("unsupported", "MEM-005")]
    certificate = judge(rules, seen, profiles=("core", "graphs"))
    core, graphs = certificate.profiles
    assert (core.verdict, core.required, core.warnings, core.counts["fail"]) == ("conformant", 1, 1, 0)
    assert (graphs.verdict, graphs.required, graphs.counts["unsupported"]) == ("conformant", 1, 1)
    assert certificate.outcome(C).level == "provisional"
    assert exit_status(certificate) == 0


@pytest.mark.parametrize(
    ("seen", "reasons", "verdict", "status"),
    [
        ("pass", (), "conformant", 0),
        ("host-defect", (), "conformant", 0),
        ("blocked", (), "incomplete", 6),
        ("not-run", (), "incomplete", 6),
        ("fail", (), "not-conformant", 1),
        ("pass", ("narrowed by -k",), "incomplete", 6),
        ("fail", ("narrowed by -k",), "not-conformant", 1),
    ],
)
def test_verdict_and_exit_status(seen: OutcomeName, reasons: tuple[str, ...], verdict: str, status: int) -> None:
    certificate = judge([requirement(A)], [saw(seen, A)], reasons=reasons)
    assert (certificate.profiles[0].verdict, exit_status(certificate)) == (verdict, status)


def test_a_failure_outweighs_what_is_incomplete() -> None:
    rules = [requirement(A, profile="graphs"), requirement(B)]
    certificate = judge(rules, [saw("fail", B)], profiles=("graphs", "core"))
    assert ([p.verdict for p in certificate.profiles], exit_status(certificate)) == (
        ["incomplete", "not-conformant"],
        1,
    )


def test_nothing_to_certify_is_incomplete() -> None:
    assert exit_status(judge([], [])) == 6
    assert exit_status(judge([], [], profiles=())) == 6
    optional = judge([requirement(A, level="SHOULD")], [saw("pass", A)])
    assert (optional.profiles[0].verdict, exit_status(optional)) == ("incomplete", 6)


def test_what_cannot_be_certified_is_refused() -> None:
    with pytest.raises(ValueError, match=r"MEM-001 was given twice"):
        judge([requirement(A), requirement(A)], [])
    with pytest.raises(ValueError, match=r"MEM-001 is of the profile graphs, not certified here"):
        judge([requirement(A, profile="graphs")], [])
    with pytest.raises(ValueError, match="cycle"):
        judge([requirement(A, B), requirement(B, A)], [])


def test_odd_times_are_not_counted() -> None:
    seen = [saw("pass", A, check=f"c{i}", seconds=s) for i, s in enumerate([float("nan"), float("inf"), -1.0, 0.125])]
    assert judge([requirement(A)], seen).outcome(A).seconds == 0.125


def slow_model(case: Case) -> dict[str, tuple[str, str]]:
    """Outcome and cause of each requirement, by walking the dependencies anew for every question."""
    rules = {r.id: r for r in case.requirements}

    def stands_on(start: str, explicit: bool = False) -> set[str]:
        reached: set[str] = set()
        todo = list(rules[start].depends)
        base = set()
        if not explicit:
            for essential in (r.id for r in case.requirements if r.essential):
                base |= {essential} | stands_on(essential, explicit=True)
            if start not in base:
                todo += base
        while todo:
            name = todo.pop()
            if name not in reached:
                reached.add(name)
                todo += rules[name].depends
        return reached

    def seen(name: str) -> str:
        words = [o.outcome for o in case.observations if name in o.requirements]
        for word in ("fail", "host-defect", "blocked", "not-run"):
            if word in words:
                waived = word == "fail" and any(w.requirement == name for w in case.waivers)
                return "waived" if waived else word
        return "pass" if "pass" in words else "unsupported" if words else "not-run"

    def ends(name: str) -> tuple[str, str]:
        own, below = seen(name), [r.id for r in case.requirements if r.id in stands_on(name)]
        blocked = []
        for other in below:
            word = ends(other)[0]
            outranked = rules[name].required and not rules[other].required
            if (
                (own in ("blocked", "not-run") and word in ("fail", "waived"))
                or (own == "fail" and word == "fail" and not outranked)
                or (
                    own in ("pass", "unsupported", "host-defect", "waived")
                    and word in ("fail", "waived")
                    and not outranked
                )
            ):
                blocked.append(other)
        if not blocked and own in ("blocked", "not-run"):
            blocked = [other for other in below if ends(other) == ("blocked", "")]
        return ("blocked", blocked[0]) if blocked else (own, "")

    return {name: ends(name) for name in rules}


@drawn
@given(cases(most=6))
def test_certify_agrees_with_a_slow_model(case: Case) -> None:
    certificate = case.certify()
    assert {o.requirement: (o.outcome, o.cause) for o in certificate.outcomes} == slow_model(case)


@drawn
@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_observations_changes_nothing(case: Case, random: Random) -> None:
    shuffled = list(case.observations)
    random.shuffle(shuffled)
    assert replace(case, observations=tuple(shuffled)).certify() == case.certify()


@drawn
@given(cases())
def test_every_requirement_ends_once_and_counts_add_up(case: Case) -> None:
    certificate = case.certify()
    assert [o.requirement for o in certificate.outcomes] == [r.id for r in case.requirements]
    for profile in certificate.profiles:
        required = [r for r in case.requirements if r.profile == profile.profile and r.required]
        assert profile.required == sum(profile.counts.values()) == len(required)


@drawn
@given(cases())
def test_each_fault_is_reported_once_at_a_root_that_ended_as_one(case: Case) -> None:
    certificate = case.certify()
    for outcome in certificate.outcomes:
        if outcome.cause:
            root = certificate.outcome(outcome.cause)
            assert (outcome.outcome, outcome.finding) == ("blocked", None)
            assert root.outcome in ("fail", "waived") or (root.outcome, root.cause) == ("blocked", "")


@drawn
@given(cases())
def test_an_unwaived_failure_of_a_required_requirement_always_decides(case: Case) -> None:
    waived = {w.requirement for w in case.waivers}
    failing = {name for o in case.observations if o.outcome == "fail" for name in o.requirements}
    if any(r.required and r.id in failing - waived for r in case.requirements):
        assert exit_status(case.certify()) == 1


@drawn
@given(cases(), st.data())
def test_turning_a_pass_into_a_fail_never_improves_a_verdict(case: Case, data: st.DataObject) -> None:
    waived = {w.requirement for w in case.waivers}
    passing = [o for o in case.observations if o.outcome == "pass" and not waived & set(o.requirements)]
    if not passing:
        return
    turned = data.draw(st.sampled_from(passing))
    worse = tuple(replace(o, outcome="fail") if o is turned else o for o in case.observations)
    before, after = case.certify(), replace(case, observations=worse).certify()
    assert SEVERITY[exit_status(after)] >= SEVERITY[exit_status(before)]
    for was, now in zip(before.profiles, after.profiles, strict=True):
        assert now.verdict != "conformant" or was.verdict == "conformant"


def test_observations_travel_as_plain_data() -> None:
    observation = Observation("c", (A,), "fail", "m", Finding("a", "b"), 0.5)
    rules: list[Requirement] = [requirement(A)]
    travelled: Certificate = certify(rules, [Observation.from_json(observation.to_json())], run(), reproduce=reproduce)
    assert travelled == certify(rules, [observation], run(), reproduce=reproduce)
