"""Checks on ranks that agents have forked: what comes of them, good or bad, and what the next one finds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from probes.processes import comes_true, is_running
from ranks.agents import LIGHT, WITH_TORCH, cluster
from sglang_conformance.probes.client import Warm
from sglang_conformance.probes.world import World
from sglang_conformance.ranks.cluster import Cluster, ClusterError, Job
from sglang_conformance.ranks.group import GroupError, Setup
from sglang_conformance.ranks.pool import Pool
from sglang_conformance.ranks.report import GroupReport
from sglang_conformance.ranks.store import Keeper


@pytest.fixture(scope="module")
def two() -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASTER_ADDR", "203.0.113.1")
        patch.setenv("TORCHELASTIC_RUN_ID", "1")
        for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "5")):  # options come first
            patch.setenv(name, value)
        with cluster(2) as (made, _):
            yield made


@pytest.fixture(scope="module")
def pool(two: Cluster, store: str) -> Iterator[Pool]:
    made = two.pool([], Setup("ranks.bodies:join", {"store": store}), WITH_TORCH)
    yield made
    made.close()


@pytest.fixture
def light(two: Cluster) -> Iterator[Pool]:
    """Ranks that have not met, and have nothing of torch."""
    made = two.pool([], Setup(watched=False), LIGHT)
    yield made
    made.close()


def run(pool: Pool, body: str, size: int = 2, seconds: float = 20.0, **arguments: Any) -> GroupReport:
    return pool.run(f"ranks.bodies:{body}", arguments, size=size, seconds=seconds)


@pytest.mark.parametrize("size", [1, 2])
def test_ranks_reach_each_other(pool: Pool, size: int) -> None:
    assert run(pool, "total", size=size).values == (2.0**size - 1,) * size


def test_ranks_live_from_check_to_check(pool: Pool) -> None:
    assert run(pool, "pid").values == run(pool, "pid").values


def test_each_rank_may_have_arguments_of_its_own(light: Pool) -> None:
    report = light.run("ranks.bodies:echo", [{"value": 5}, {"value": [None, "\ud800ä"]}], size=2)
    assert report.values == (5, [None, "\ud800ä"])


def test_what_the_launcher_and_the_secret_are_stays_with_the_agent(light: Pool) -> None:
    assert run(light, "surroundings").values == ({"local": 5, "found": []},) * 2


def test_a_rank_that_raises_is_named_and_the_others_keep_their_values(pool: Pool) -> None:
    report = run(pool, "raises_on", number=1)
    assert [(r.rank, r.value) for r in report.ranks] == [(0, "fine"), (1, None)]
    [failed] = report.failures
    assert failed.failure is not None
    assert (failed.failure.kind, failed.failure.type) == ("raised", "KeyError")
    assert report.summary() == "rank 1 raised KeyError: 'k'"
    assert failed.output == "about to raise\n"
    assert "bodies.py" in failed.failure.traceback
    assert report.usable


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("exit", "rank 1 exited: its process exited with status 7"),
        ("SIGSEGV", "rank 1 died: its process was killed by SIGSEGV"),
        ("SIGKILL", "rank 1 died: its process was killed by SIGKILL"),
    ],
)
def test_a_rank_that_ends_is_named_first_with_its_status_and_forked_anew(pool: Pool, how: str, said: str) -> None:
    before = run(pool, "pid").values
    report = run(pool, "dies_on", number=1, how=how, seconds=60)
    assert report.seconds < 5
    assert report.summary().startswith(said)
    assert not report.usable
    assert run(pool, "total").values == (3.0, 3.0)
    assert not set(run(pool, "pid").values) & set(before)
    assert comes_true(lambda: not any(map(is_running, before)))


def test_a_rank_that_ends_after_it_has_answered_is_replaced(light: Pool) -> None:
    report = run(light, "ends_after_it_has_answered_on", number=1)
    assert report.values == (None, None)
    assert not report.usable
    assert run(light, "who").values == ([0, 2], [1, 2])


@pytest.mark.parametrize("body", ["hangs_on", "hangs_deaf_on"])
def test_a_hang_costs_the_deadline(light: Pool, body: str) -> None:
    report = run(light, body, number=1, seconds=0.3)
    assert 0.3 <= report.seconds < 3
    assert report.summary() == "rank 1 hung: still running after 0.3 s"
    assert body == "hangs_deaf_on" or "in hangs_on" in report.text()
    assert run(light, "who").values == ([0, 2], [1, 2])


def test_a_rank_that_prints_for_ever_only_hangs(light: Pool) -> None:
    report = run(light, "prints_for_ever_on", number=0, seconds=0.5)
    assert report.seconds < 3
    assert report.summary() == "rank 0 hung: still running after 0.5 s"
    assert len(report.ranks[0].output) < 100_000


def test_a_collective_that_one_rank_does_not_call_is_named(pool: Pool) -> None:
    report = run(pool, "misses", number=1, seconds=0.5)
    assert report.seconds < 3
    assert report.summary().startswith("rank 0 hung: still running after 0.5 s (is inside call")
    assert "all_reduce float32 (1,) op=SUM on group 0" in report.summary()


def test_what_a_rank_prints_is_its_own_and_cut(light: Pool) -> None:
    for rank in run(light, "prints", count=1 << 20).ranks:
        assert rank.output.startswith(f"rank {rank.rank} says xxx")
        assert "bytes not kept" in rank.output
        assert rank.output.endswith("and this\n")
        assert len(rank.output) < 100_000
    assert run(light, "nothing").ranks[0].output == ""


def test_what_a_check_leaves_behind_does_not_reach_the_next(light: Pool) -> None:
    before = run(light, "pid").values
    report = run(light, "leaves", what="environment")
    assert report.changed == ("environment",)
    assert not report.usable
    assert not set(run(light, "pid").values) & set(before)


def test_an_agent_runs_only_what_it_was_allowed(light: Pool) -> None:
    report = light.run("os:getcwd", size=2)
    assert "raised PermissionError: this agent runs what is in sglang_conformance, ranks, and not 'os:getcwd'" in (
        report.summary()
    )
    assert run(light, "who").values == ([0, 2], [1, 2])


@pytest.mark.parametrize(
    ("jobs", "modules", "said"),
    [
        ([Job("os:getcwd")], LIGHT, "this agent runs what is in sglang_conformance, ranks, and not 'os:getcwd'"),
        ([], ("antigravity",), "this agent imports what is in sglang_conformance, ranks, and not 'antigravity'"),
        ([], (*LIGHT, "ranks.absent"), "the warm process is gone"),
        ([Job("ranks.bodies:warms_badly")], LIGHT, "ranks.bodies:warms_badly: OSError: no driver"),
    ],
)
def test_warm_processes_that_cannot_be_made_are_told(
    two: Cluster, jobs: list[Job], modules: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ClusterError, match=f"rank 0 on host host0 failed: {said}.*; so did 1"):
        two.pool(jobs, Setup(), modules)


def test_set_up_that_is_not_allowed_is_told(two: Cluster) -> None:
    pool = two.pool([], Setup("os:getcwd", watched=False), LIGHT)
    with pytest.raises(GroupError, match="PermissionError: this agent runs"):
        pool.run("ranks.bodies:who", size=2)
    pool.close()


def test_set_up_that_fails_is_told(two: Cluster) -> None:
    pool = two.pool([], Setup("ranks.bodies:fails_in_set_up", watched=False), LIGHT)
    with pytest.raises(GroupError, match="rank 0 raised ValueError: no such device"):
        pool.run("ranks.bodies:who", size=2)
    pool.close()


def test_ranks_stand_on_what_the_jobs_have_made_in_their_world(two: Cluster) -> None:
    jobs = [
        Job("ranks.bodies:warms", {"value": 1}),
        Job("ranks.bodies:warms", {"value": 2}, World({"MASTER_ADDR": "from the world"})),
    ]
    stage = two.stage(jobs, LIGHT)
    assert (stage.values, stage.threads) == ((2, 2), (1, 1))
    pool = stage.pool(Setup(watched=False))
    made = {"made": 2, "before": {"made": 1, "before": None}}
    assert run(pool, "state").values == (made, made)
    assert run(pool, "surroundings").values == ({"local": 5, "found": ["MASTER_ADDR"]},) * 2
    pool.close()


def test_jobs_run_in_a_fork_of_every_agents_warm_process(two: Cluster) -> None:
    stage = two.stage([Job("ranks.bodies:warms", {"value": 1})], LIGHT)
    made = {"made": 1, "before": None}
    assert [result.value for result in stage.run("ranks.bodies:tells_or_raises", {"value": 5})] == [[made, 5]] * 2
    for result in stage.run("ranks.bodies:tells_or_raises", {"value": None}):
        assert result.failure is not None
        assert (result.failure.kind, result.failure.type, result.failure.message) == (
            "raised",
            "ValueError",
            "no value",
        )
        assert result.failure.frames[-1][2] == "tells_or_raises"
    with pytest.raises(ClusterError, match="os:getcwd could not be run: rank 0 on host host0 failed: this agent runs"):
        stage.run("os:getcwd")
    stage.close()
    with pytest.raises(ClusterError, match="the warm process that it is to be forked from is not there"):
        stage.run("ranks.bodies:tells_or_raises", {"value": 5})


def test_ranks_end_with_their_pool(two: Cluster) -> None:
    pool = two.pool([], Setup(watched=False), LIGHT)
    pids = run(pool, "pid").values
    assert all(map(is_running, pids))
    pool.close()
    assert comes_true(lambda: not any(map(is_running, pids)))


def test_more_ranks_than_there_are_agents_are_an_error(light: Pool) -> None:
    with pytest.raises(ClusterError, match="3 ranks are wanted, and 2 of the agents are left"):
        light.run("ranks.bodies:who", size=3)
    assert run(light, "who").values == ([0, 2], [1, 2])


def test_the_store_listens_on_its_own_address_only(warm: Warm) -> None:
    keeper = Keeper(warm)
    port = int(keeper.address.rpartition(":")[2])
    found = []
    for name in ("tcp", "tcp6"):
        with open(f"/proc/net/{name}", encoding="ascii") as file:
            found += [row.split()[1] for row in file if f":{port:04X} " in row and row.split()[3] == "0A"]
    assert found == [f"0100007F:{port:04X}"]
    keeper.close()


def test_agents_import_no_torch(two: Cluster) -> None:
    for place in two.places:
        with open(f"/proc/{place.pid}/maps", encoding="ascii", errors="replace") as file:
            assert "libtorch" not in file.read()
        assert place.pid != os.getpid()
