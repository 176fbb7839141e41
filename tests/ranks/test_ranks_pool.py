"""The rank pool on real processes: what comes of a check, good or bad, and what the next one finds."""

from __future__ import annotations

from typing import Any

import pytest

from probes.processes import is_running
from sglang_conformance.probes.client import Warm
from sglang_conformance.ranks.group import Group, GroupError, Setup
from sglang_conformance.ranks.pool import Pool
from sglang_conformance.ranks.report import GroupReport


def run(pool: Pool, body: str, size: int = 2, seconds: float = 20.0, **arguments: Any) -> GroupReport:
    return pool.run(f"ranks.bodies:{body}", arguments, size=size, seconds=seconds)


def test_every_rank_answers_for_itself(pool: Pool) -> None:
    assert run(pool, "who", size=3).values == ([0, 3], [1, 3], [2, 3])


def test_each_rank_may_have_arguments_of_its_own(pool: Pool) -> None:
    report = pool.run("ranks.bodies:echo", [{"value": 5}, {"value": [None, "x"]}], size=2)
    assert report.values == (5, [None, "x"])


@pytest.mark.parametrize("size", [1, 2, 4])
def test_ranks_reach_each_other(pool: Pool, size: int) -> None:
    assert run(pool, "total", size=size).values == (2.0**size - 1,) * size


def test_ranks_live_from_check_to_check(pool: Pool) -> None:
    assert run(pool, "pid").values == run(pool, "pid").values


def test_random_numbers_begin_anew_with_each_check(pool: Pool) -> None:
    first, again = run(pool, "random_numbers"), run(pool, "random_numbers")
    assert first.values == again.values
    assert first.values[0] == first.values[1]


def test_overlapping_groups_are_watched_apart(pool: Pool) -> None:
    assert run(pool, "overlapping", size=3, rounds=20).values == ([3.0] * 20, [3.0, 6.0] * 20, [6.0] * 20)


def test_a_rank_that_raises_is_named_and_the_others_keep_their_values(pool: Pool) -> None:
    report = run(pool, "raises_on", number=1)
    assert [(r.rank, r.value) for r in report.ranks] == [(0, "fine"), (1, None)]
    [failed] = report.failures
    assert failed.failure is not None
    assert (failed.failure.kind, failed.failure.type) == ("raised", "KeyError")
    assert report.summary() == "rank 1 raised KeyError: 'k'"
    assert failed.output == "about to raise\n"
    assert "bodies.py" in failed.failure.traceback
    with pytest.raises(ValueError, match="rank 1 raised KeyError"):
        _ = report.values


def test_ranks_that_have_made_the_same_calls_stay_together(pool: Pool) -> None:
    before = run(pool, "pid").values
    report = run(pool, "raises_everywhere")
    assert [r.failure.type for r in report.failures if r.failure] == ["ValueError", "ValueError"]
    assert report.usable
    assert run(pool, "pid").values == before


def test_rank_that_waits_for_one_that_raised_is_told_so_at_once(pool: Pool) -> None:
    report = run(pool, "raises_before_a_collective", number=1, seconds=60)
    assert report.seconds < 5
    assert [r.rank for r in report.failures] == [1, 0]
    assert "rank 1 ended its check without call" in report.summary()
    assert "all_reduce float32 (1,) op=SUM on group 0" in report.summary()
    assert not report.usable


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("exit", "rank 1 exited: its process exited with status 7"),
        ("SIGSEGV", "rank 1 died: its process was killed by SIGSEGV"),
        ("SIGKILL", "rank 1 died: its process was killed by SIGKILL"),
    ],
)
def test_a_rank_that_ends_is_named_with_its_status(pool: Pool, how: str, said: str) -> None:
    report = run(pool, "dies_on", number=1, how=how, seconds=60)
    assert report.seconds < 5
    assert report.summary().startswith(said)
    assert "rank 0 raised Disagreement: rank 1 ended its check without call" in report.summary()
    assert run(pool, "total").values == (3.0, 3.0)


@pytest.mark.parametrize("body", ["hangs_on", "hangs_deaf_on"])
def test_a_hang_costs_the_deadline(pool: Pool, body: str) -> None:
    report = run(pool, body, number=0, seconds=0.3)
    assert 0.3 <= report.seconds < 3
    assert report.summary() == "rank 0 hung: still running after 0.3 s"
    assert run(pool, "total").values == (3.0, 3.0)


def test_the_stack_of_a_rank_that_hangs_is_told(pool: Pool) -> None:
    report = run(pool, "hangs_on", number=1, seconds=0.3)
    assert "in hangs_on" in report.text()


def test_a_collective_that_one_rank_does_not_call_ends_at_once(pool: Pool) -> None:
    report = run(pool, "misses", number=0, seconds=60)
    assert report.seconds < 5
    [failed] = report.failures
    assert failed.rank == 1
    assert "rank 0 ended its check without call" in report.summary()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("shape", ("all_reduce float32 (2,) op=SUM", "all_reduce float32 (3,) op=SUM")),
        ("dtype", ("all_reduce float32 (2,) op=SUM", "all_reduce int32 (2,) op=SUM")),
        ("operation", ("op=SUM", "op=MAX")),
        ("root", ("src=0", "src=1")),
        ("kind", ("all_reduce float32 (2,)", "barrier")),
    ],
)
def test_ranks_that_disagree_are_found_before_they_hang(pool: Pool, what: str, said: tuple[str, str]) -> None:
    report = run(pool, "disagrees", what=what, seconds=60)
    assert report.seconds < 5
    assert len(report.failures) == 2
    for part in said:
        assert part in report.summary()
    assert run(pool, "total").values == (3.0, 3.0)


def test_what_a_rank_prints_is_its_own_and_cut(pool: Pool) -> None:
    report = run(pool, "prints", count=1 << 20)
    for rank in report.ranks:
        assert rank.output.startswith(f"rank {rank.rank} says xxx")
        assert "bytes not kept" in rank.output
        assert rank.output.endswith("and this\n")
        assert len(rank.output) < 100_000
    assert run(pool, "nothing").ranks[0].output == ""


@pytest.mark.parametrize("what", ["environment", "folder", "default dtype", "process groups"])
def test_what_a_check_leaves_behind_does_not_reach_the_next(pool: Pool, what: str) -> None:
    before = run(pool, "pid").values
    report = run(pool, "leaves", what=what)
    assert report.changed == (what,)
    assert not report.usable
    assert not report.failures
    assert not set(run(pool, "pid").values) & set(before)


def test_an_answer_that_is_no_plain_data_is_an_error(pool: Pool) -> None:
    assert [r.failure.type for r in run(pool, "no_data").failures if r.failure] == ["TypeError", "TypeError"]


def test_a_check_that_is_not_there_is_an_error(pool: Pool) -> None:
    assert "has no attribute 'absent'" in run(pool, "absent").summary()


def test_set_up_that_fails_is_told(warm: Warm) -> None:
    group = Group(warm, 2, Setup("ranks.bodies:join_badly"))
    with pytest.raises(GroupError, match="rank 1 raised ValueError: no such device; rank 0 was stopped"):
        group.run("ranks.bodies:who")
    group.close()


def test_unwatched_ranks_go_to_the_backend_at_once(warm: Warm, store: str) -> None:
    group = Group(warm, 2, Setup("ranks.bodies:join", {"store": store}, watched=False))
    assert group.run("ranks.bodies:total").values == (3.0, 3.0)
    report = group.run("ranks.bodies:raises_before_a_collective", {"number": 1}, seconds=60)
    assert report.seconds < 5
    assert report.summary() == (
        "rank 1 raised KeyError: 'k'; rank 0 was stopped: still running when another rank had failed"
    )
    group.close()


def test_groups_end_with_their_pool(warm: Warm, store: str) -> None:
    pool = Pool(warm, Setup("ranks.bodies:join", {"store": store}))
    pids = [*run(pool, "pid", size=2).values, *run(pool, "pid", size=3).values]
    assert all(map(is_running, pids))
    pool.close()
    assert not any(map(is_running, pids))


def test_no_more_ranks_live_than_there_may(warm: Warm, store: str) -> None:
    pool = Pool(warm, Setup("ranks.bodies:join", {"store": store}), most=3)
    two = run(pool, "pid", size=2).values
    three = run(pool, "pid", size=3).values
    assert not any(map(is_running, two))
    assert all(map(is_running, three))
    pool.close()


def test_groups_of_sizes_that_are_not_kept_end(warm: Warm, store: str) -> None:
    pool = Pool(warm, Setup("ranks.bodies:join", {"store": store}))
    two, three = run(pool, "pid", size=2).values, run(pool, "pid", size=3).values
    pool.keep((2, 4))
    assert not any(map(is_running, three))
    assert run(pool, "pid", size=2).values == two
    assert run(pool, "pid", size=3).values != three
    pool.close()


def test_worn_groups_are_replaced(warm: Warm, store: str) -> None:
    group = Group(warm, 1, Setup())
    for _ in range(3):
        group.run("ranks.bodies:nothing")
    assert group.worn(3)
    assert not group.worn(4)
    group.close()
