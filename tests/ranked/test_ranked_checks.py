"""Checks on ranks: what becomes of each kind of body."""

from __future__ import annotations

import os
import time

import pytest

from ranked.conftest import Judging
from sglang_conformance.certificate.model import Finding, Observation


def finding(observation: Observation) -> Finding:
    assert observation.outcome == "fail", observation
    assert observation.finding is not None
    return observation.finding


def test_right_body_passes_on_each_size(judged: Judging) -> None:
    assert judged("test_sum_is_right").outcome == "pass"


def test_every_rank_is_given_the_same(judged: Judging) -> None:
    assert judged("test_all_ranks_see_the_same").outcome == "pass"


def test_smallest_failing_case_is_told_with_its_rank(judged: Judging) -> None:
    found = finding(judged("test_last_rank_fails_from_seven"))
    assert (found.expected, found.seen) == ("less than 7", "7")
    assert found.call == "rank 1 of 2: look at 7"
    first, *others = found.detail.splitlines()
    assert first == "Falsifying example: test_last_rank_fails_from_seven(number=7, text='a') on 2 ranks"
    assert any("rank 1" in line for line in others)


def test_failure_leaves_the_next_check_alone(judged: Judging) -> None:
    assert judged("test_one_rank_exits").outcome == "fail"
    assert judged("test_sum_is_right").outcome == "pass"


@pytest.mark.parametrize("session", [{"deadline": 2.0}], indirect=True)
def test_hang_is_told_by_the_rank_that_hangs(judged: Judging) -> None:
    began = time.monotonic()
    found = finding(judged("test_one_rank_hangs"))
    assert time.monotonic() - began < 20  # its deadline once, not once for each case
    assert found.expected == "an answer before the deadline"
    assert found.seen == "still running after 2 s"
    assert found.call.startswith("rank 1 of 2")
    assert "Falsifying example: test_one_rank_hangs(number=2) on 2 ranks" in found.detail
    assert "bodies.py" in found.detail
    assert "waits to enter" in found.detail


def test_exit_is_told_with_its_status(judged: Judging) -> None:
    found = finding(judged("test_one_rank_exits"))
    assert found.call.startswith("rank 1 of 2")
    assert "7" in found.seen


def test_different_calls_are_told(judged: Judging) -> None:
    found = finding(judged("test_ranks_call_different_things"))
    assert "op=SUM" in found.seen
    assert "op=MAX" in found.seen


def test_refusal_of_all_ranks_is_unsupported(judged: Judging) -> None:
    observation = judged("test_all_decline")
    assert (observation.outcome, observation.message) == ("unsupported", "not offered")


def test_ranks_that_do_not_find_the_same_are_told(judged: Judging) -> None:
    found = finding(judged("test_one_declines"))
    assert "rank 0: unsupported not offered, rank 1: pass" in found.seen


def test_what_every_rank_is_refused_is_unsupported(judged: Judging) -> None:
    observation = judged("test_all_are_refused")
    assert (observation.outcome, observation.message) == (
        "unsupported",
        "every rank is refused what the check calls, with an error",
    )
    assert judged("test_some_is_refused").outcome == "pass"


def test_refusal_of_one_rank_is_told(judged: Judging) -> None:
    seen = finding(judged("test_one_rank_is_refused")).seen
    assert seen == "rank 0: pass, none of 2 calls refused, rank 1: pass, 2 of 2 calls refused"


def test_further_sizes_are_tried_after_a_refusal(judged: Judging) -> None:
    assert finding(judged("test_two_ranks_decline")).seen == "3"


def test_unwatched_calls_do_not_wait_for_others(judged: Judging) -> None:
    assert judged("test_unwatched_rank_waits_for_nobody").outcome == "pass"
    assert judged("test_ranks_call_different_things").outcome == "fail"


def test_unjoined_ranks_have_made_nothing(judged: Judging) -> None:
    assert judged("test_nothing_is_made").outcome == "pass"


def test_rank_that_was_changed_runs_no_other_check(judged: Judging) -> None:
    for _ in range(2):
        assert judged("test_leaves_its_mark").outcome == "pass"


@pytest.mark.parametrize("what", ["groups_of_their_own", "the_hosts_groups"])
def test_ranks_leave_a_group_only_together(judged: Judging, what: str) -> None:
    """Gloo fails in a rank that is still joining when a quicker peer has left."""
    assert judged(f"test_ranks_leave_{what}_together").outcome == "pass"


@pytest.mark.parametrize("session", [{"world_size": "2"}], indirect=True)
def test_sizes_that_are_not_allowed_leave_a_check_unrun(judged: Judging) -> None:
    observation = judged("test_needs_nine")
    assert observation.outcome == "not-run"
    assert "at least 9 ranks" in observation.message


def test_nothing_is_left_of_the_ranks(session: object, judged: Judging) -> None:
    before = set(descendants())
    assert judged("test_sum_is_right").outcome == "pass"
    assert set(descendants()) - before
    session.close()  # type: ignore[attr-defined]
    until = time.monotonic() + 5
    while set(descendants()) - before and time.monotonic() < until:
        time.sleep(0.01)
    assert set(descendants()) - before == set()


def descendants() -> list[int]:
    """The process ids of all that this process has started, and they, still alive."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if state != "Z":
                parents[int(name)] = int(parent)
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})
