"""How agents end, and what stays behind of them and of their ranks however they or their controller end: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from import_path import TESTS, import_path
from probes.processes import MARK, comes_true, marked
from ranks.agents import LIGHT, SECRET, agent, cluster, ended
from sglang_conformance.ranks import secret
from sglang_conformance.ranks.__main__ import main
from sglang_conformance.ranks.cluster import ClusterError, Patience
from sglang_conformance.ranks.group import Setup


@pytest.fixture
def mark(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A mark for this test's processes, none of which outlives it, nor any file of theirs."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    made = f"cluster-{request.node.name}-{os.getpid()}"
    yield made
    assert comes_true(lambda: not marked(made)), marked(made)
    assert list(tmp_path.iterdir()) == []


def test_goodbye_ends_agents_with_status_0(mark: str) -> None:
    with cluster(2, mark=mark) as (made, processes):
        pool = made.pool([], Setup(watched=False), LIGHT)
        assert pool.run("ranks.bodies:who", size=2).values == ([0, 2], [1, 2])
        assert len(marked(mark)) >= 8  # of each agent: itself, the zygote, its server and a rank
        pool.close()
        made_at = made.address
    assert [ended(process) for process in processes] == [(0, ""), (0, "")]
    assert made_at.startswith("127.0.0.1:")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_agent_that_ends_takes_its_rank_with_it_and_is_named(mark: str, number: signal.Signals) -> None:
    with cluster(2, mark=mark) as (made, processes):
        pool = made.pool([], Setup(watched=False), LIGHT)
        assert pool.run("ranks.bodies:who", size=2).values == ([0, 2], [1, 2])
        started = time.monotonic()
        processes[1].send_signal(number)
        report = pool.run("ranks.bodies:hangs_everywhere", size=2, seconds=60)
        assert time.monotonic() - started < 5
        first = report.failures[0]
        assert (first.rank, first.failure and first.failure.kind) == (1, "lost")
        assert report.summary().startswith("rank 1 was lost: its agent on host host1 is gone: the connection")
        status, said = ended(processes[1])
        if number != signal.SIGKILL:
            assert status == 128 + number
            assert said == f"sglang_conformance.ranks: rank 1 on host host1: stopped by {number.name}\n"
        assert pool.run("ranks.bodies:who", size=1).values == ([0, 1],)
        with pytest.raises(
            ClusterError, match=r"2 ranks are wanted, and 1 of the agents are left; gone of host host1: 1 .the conn"
        ):
            pool.run("ranks.bodies:who", size=2)
        pool.close()


def test_a_stopped_agent_is_lost_in_bounded_time_and_one_that_idles_is_not(mark: str) -> None:
    with cluster(2, patience=Patience(beat=0.25, limit=1.5), mark=mark) as (made, processes):
        pool = made.pool([], Setup(watched=False), LIGHT)
        assert pool.run("ranks.bodies:who", size=2).values == ([0, 2], [1, 2])
        processes[1].send_signal(signal.SIGSTOP)
        report = pool.run("ranks.bodies:hangs_everywhere", size=2, seconds=60)
        assert report.seconds < 2.5
        assert report.summary().startswith(
            "rank 1 was lost: its agent on host host1 is gone: nothing was heard from it for "
        )
        assert pool.run("ranks.bodies:who", size=1).values == ([0, 1],)
        processes[1].send_signal(signal.SIGCONT)
        status, said = ended(processes[1])
        assert status == 1
        assert "the controller at 127.0.0.1:" in said
        pool.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_agents_end_with_their_controller(mark: str, number: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": import_path(TESTS), MARK: mark, secret.VARIABLE: SECRET}
    with subprocess.Popen(
        [sys.executable, "-m", "ranks.controller", "127.0.0.1:0", "0.5", "3", "light"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as controller:
        assert controller.stdin is not None
        assert controller.stdout is not None
        address = json.loads(controller.stdout.readline())["address"]
        processes = [agent(address, rank, 2, mark=mark) for rank in range(2)]
        assert json.loads(controller.stdout.readline())["hosts"] == ["host0", "host1"]
        request = {"check": "ranks.bodies:hangs_everywhere", "arguments": {}, "size": 2, "seconds": 60}
        controller.stdin.write(json.dumps(request) + "\n")
        controller.stdin.flush()
        assert comes_true(lambda: len(marked(mark)) >= 9)  # it has begun, all but surely
        controller.send_signal(number)
        controller.wait(20)
    for rank, process in enumerate(processes):
        status, said = ended(process)
        assert status == 1
        assert said.startswith(
            f"sglang_conformance.ranks: rank {rank} on host host{rank}: the controller at {address} is gone: the conn"
        )
        assert said.count("\n") == 1


def test_an_agent_waits_for_its_controller(mark: str) -> None:
    lone = agent("127.0.0.1:1", 0, 1, "--wait", "0.3", mark=mark)
    status, said = ended(lone)
    assert status == 1
    assert said.startswith("sglang_conformance.ranks: rank 0 on host host0: no controller at 127.0.0.1:1 after 0.3 s: ")
    assert said.count("\n") == 1


def test_an_agent_that_waits_can_be_stopped(mark: str) -> None:
    lone = agent("127.0.0.1:1", 0, 1, mark=mark)
    assert comes_true(lambda: catches(lone.pid, signal.SIGTERM))
    lone.terminate()
    assert ended(lone) == (143, "sglang_conformance.ranks: rank 0 on host host0: stopped by SIGTERM\n")


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_an_agent_with_another_secret_is_turned_away(mark: str) -> None:
    with cluster(1, mark=mark) as (made, _):
        status, said = ended(agent(made.address, 0, 1, secret="another secret, also long", mark=mark))
        assert status == 1
        assert said == (
            f"sglang_conformance.ranks: rank 0 on host host0: the controller at {made.address} does not let this rank "
            "in: wrong secret: the agent's and the controller's are not the same\n"
        )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--controller", "here"], "rank 0 on host h: 'here' is not HOST:PORT, as in node0:29600"),
        (["--controller", "h:1", "--secret-file", "/absent"], "the secret's file /absent cannot be read: No such file"),
        (["--controller", "h:1", "--rank", "4"], "a rank: rank 4 of 4, the one numbered 0 of its host: impossible"),
    ],
)
def test_bad_options_are_told_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(secret.VARIABLE, SECRET)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert main(["--rank", "0", "--world-size", "4", "--host", "h", *arguments]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1


def test_help_says_how_it_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    for part in ("torchrun --nnodes=2", "srun", "--secret-file FILE", "Exit status: 0"):
        assert part in printed
