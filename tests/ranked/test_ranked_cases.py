"""The cases of a property on ranks: drawn alike each time, and searched for the smallest that fails."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ranked import bodies
from sglang_conformance import cases
from sglang_conformance.cases import Case, Search, dealt, drawn
from sglang_conformance.grounds import ranks_at_once
from sglang_conformance.probes.result import Failure
from sglang_conformance.ranks.report import GroupReport, RankReport

FAILED = GroupReport((RankReport(0, failure=Failure("raised", "Violation", "wrong")),), usable=True)
PASSED = GroupReport((RankReport(0, {}),), usable=True)


@given(numbers=st.lists(st.integers(0, 50)))
def body(member: object, numbers: list[int]) -> None: ...


@given(numbers=st.lists(st.integers(0, 50)))
@example(numbers=[40, 40])
def body_with_an_example(member: object, numbers: list[int]) -> None: ...


def test_check_that_draws_nothing_has_one_case() -> None:
    assert drawn(bodies.test_sum_is_right, 20) == [{}]


def test_cases_are_plain_and_the_same_each_time() -> None:
    first = drawn(body, 20)
    assert first == drawn(body, 20)
    assert len(first) == 20
    assert all(set(case) == {"numbers"} for case in first)


@pytest.mark.parametrize(
    ("sizes", "counts"), [([2], [50]), ([2, 4], [33, 17]), ([1, 2, 3, 4], [16, 16, 10, 8]), ([8], [50])]
)
def test_each_case_goes_to_one_size_and_fewer_to_larger_ones(sizes: list[int], counts: list[int]) -> None:
    whole = [{"number": number} for number in range(50)]
    hands = dealt(whole, sizes)
    assert [len(hand) for hand in hands] == counts
    assert sorted(case["number"] for hand in hands for case in hand) == list(range(50))


def test_check_that_draws_nothing_runs_on_each_size() -> None:
    assert dealt([{}], [2, 4]) == [[{}], [{}]]


def test_search_ends_at_the_smallest_case() -> None:
    sent: list[Case] = []

    def send(case: Case) -> GroupReport:
        sent.append(case)
        return FAILED if sum(case["numbers"]) > 10 else PASSED

    search = Search(send, {"numbers": [50, 50]}, FAILED)
    search.run(body, 50)
    assert search.case == {"numbers": [11]}
    assert len(sent) == len({str(case) for case in sent}), "a case was sent twice"


def test_example_of_the_property_comes_first() -> None:
    cases = drawn(body_with_an_example, 20)
    assert cases[0] == {"numbers": [40, 40]}
    assert len(cases) == 21


def test_search_does_not_end_at_an_example_that_cannot_become_smaller() -> None:
    def send(case: Case) -> GroupReport:
        return FAILED if sum(case["numbers"]) > 10 else PASSED

    search = Search(send, {"numbers": [40, 40]}, FAILED)
    search.run(body_with_an_example, 50)
    assert search.case == {"numbers": [11]}


def test_search_that_finds_nothing_keeps_what_failed() -> None:
    search = Search(lambda case: PASSED, {"numbers": [3]}, FAILED)
    search.run(body, 20)
    assert (search.case, search.report) == ({"numbers": [3]}, FAILED)


def test_search_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "_SECONDS", -1.0)
    sent: list[Case] = []

    def send(case: Case) -> GroupReport:
        sent.append(case)
        return FAILED

    search = Search(send, {"numbers": [3]}, FAILED)
    search.run(body, 20)
    assert sent == []
    assert search.case == {"numbers": [3]}


@pytest.mark.parametrize("workers", [1, 2, 1000])
def test_ranks_are_shared_among_workers(workers: int) -> None:
    assert 4 <= ranks_at_once(workers) <= 16
