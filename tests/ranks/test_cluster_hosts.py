"""Ranks on two hosts, which are network namespaces joined by a pair of veth devices."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from probes.processes import comes_true, marked
from ranks.agents import ended
from ranks.hosts import DEVICE, LIMIT, Controller, Host, NotPermitted, two_hosts

RANKS_A_HOST = 2


@pytest.fixture(scope="module")
def permitted() -> None:
    """Skips, and says why, where no hosts can be made of namespaces."""
    try:
        with two_hosts():
            pass
    except NotPermitted as error:
        pytest.skip(f"no hosts can be made of network namespaces here: {error}")


@pytest.fixture(scope="module")
def launched(permitted: None) -> Iterator[tuple[Controller, Host, Host]]:
    """Ranks of both hosts, started by torchrun; with the controller they end, and torchrun with status 0."""
    with two_hosts() as (one, two):
        controller = Controller(one, "torch")
        torchruns = [torchrun(host, number, one, controller) for number, host in enumerate((one, two))]
        told = controller.joined()
        assert told["hosts"] == ["host1", "host2"]
        assert told["devices"] == ["host1:0", "host1:1", "host2:0", "host2:1"]
        assert told["store"].startswith("10.77.0.1:")
        yield controller, one, two
        controller.close()
        assert [ended(process)[0] for process in torchruns] == [0, 0]


def torchrun(host: Host, number: int, first: Host, controller: Controller) -> subprocess.Popen[str]:
    return host.start(
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={number}"),
        *(f"--nproc-per-node={RANKS_A_HOST}", f"--master-addr={first.address}", "--master-port=29500"),
        *("-m", "sglang_conformance.ranks", "--controller", controller.address, "--allow", "ranks"),
    )


@contextlib.contextmanager
def slow(host: Host) -> Iterator[None]:
    """A link that takes 20 ms and carries a megabit a second; where the kernel knows no delay, only the latter."""
    add = ("tc", "qdisc", "add", "dev", DEVICE, "root")
    try:
        host.do(*add, "netem", "delay", "20ms", "rate", "1mbit")
    except NotPermitted:
        try:
            host.do(*add, "tbf", "rate", "1mbit", "burst", "4kb", "latency", "5s")
        except NotPermitted as error:
            pytest.skip(f"no slow link can be made here: {error}")
    try:
        yield
    finally:
        host.do("tc", "qdisc", "del", "dev", DEVICE, "root")


def test_ranks_of_two_hosts_that_torchrun_started_reach_each_other(launched: tuple[Controller, Host, Host]) -> None:
    controller, _, _ = launched
    assert controller.run("total", 4)["values"] == [15.0] * 4
    assert controller.run("host", 4)["values"] == ["host1", "host1", "host2", "host2"]


def test_a_smaller_group_is_spread_over_the_hosts(launched: tuple[Controller, Host, Host]) -> None:
    controller, _, _ = launched
    assert controller.run("host", 2)["values"] == ["host1", "host2"]
    assert controller.run("total", 2)["values"] == [3.0, 3.0]


def test_a_rank_that_dies_on_another_host_is_named_and_forked_anew(launched: tuple[Controller, Host, Host]) -> None:
    controller, _, _ = launched
    died = controller.run("dies_on", 2, number=1, how="SIGKILL")
    assert died["summary"].startswith("rank 1 died: its process was killed by SIGKILL")
    assert controller.run("total", 2)["values"] == [3.0, 3.0]


def test_a_slow_link_changes_nothing_but_the_time(launched: tuple[Controller, Host, Host]) -> None:
    controller, one, two = launched
    controller.run("total", 2)
    text = "x" * 280_000
    with slow(one), slow(two):
        started = time.monotonic()
        assert controller.run("echo", 2, value=text)["values"] == [text] * 2
        assert time.monotonic() - started > 2 * (LIMIT - 0.5)  # each way longer than a host may be silent
        assert controller.run("total", 2)["values"] == [3.0, 3.0]
        hung = controller.run("hangs_on", 2, number=1, seconds=0.5)
        assert hung["summary"] == "rank 1 hung: still running after 0.5 s"
        assert hung["seconds"] < 2


@contextlib.contextmanager
def light_agents(one: Host, two: Host) -> Iterator[tuple[Controller, list[subprocess.Popen[str]]]]:
    """Two ranks on each host, without torch, all busy for long."""
    controller = Controller(one, "light")
    processes = []
    for rank in range(4):
        place = ("--rank", str(rank), "--world-size", "4", "--local-rank", str(rank % 2))
        host = one if rank < RANKS_A_HOST else two
        command = (sys.executable, "-m", "sglang_conformance.ranks", "--controller", controller.address, *place)
        processes.append(host.start(*command, "--allow", "ranks"))
    assert controller.joined()["hosts"] == ["host1", "host2"]
    assert controller.run("who", 4)["values"] == [[rank, 4] for rank in range(4)]
    yield controller, processes
    controller.close()
    assert [ended(process)[0] for process in processes[:2]] == [0, 0]


def test_a_host_whose_processes_are_all_killed_is_named(permitted: None) -> None:
    with two_hosts() as (one, two), light_agents(one, two) as (controller, _):
        controller.ask("hangs_everywhere", 4, seconds=60)
        time.sleep(0.2)
        two.kill_all()
        lost = controller.answer()
        assert lost["seconds"] < 2
        assert lost["kinds"] == {"2": "lost", "3": "lost", "0": "stopped", "1": "stopped"}
        assert lost["summary"].startswith("rank 2 was lost: its agent on host host2 is gone: the connection")
        assert controller.run("who", 2)["values"] == [[0, 2], [1, 2]]  # on what is left
        assert (
            "4 ranks are wanted, and 2 of the agents are left; gone of host host2: 2-3 (the connection"
            in controller.run("who", 4)["error"]
        )


def test_a_host_whose_link_goes_down_is_named_in_bounded_time_and_ends_its_ranks(permitted: None) -> None:
    with two_hosts() as (one, two), light_agents(one, two) as (controller, processes):
        controller.ask("hangs_everywhere", 4, seconds=60)
        time.sleep(0.2)
        two.do("ip", "link", "set", DEVICE, "down")
        lost = controller.answer()
        assert lost["seconds"] < LIMIT + 1
        assert lost["kinds"] == {"2": "lost", "3": "lost", "0": "stopped", "1": "stopped"}
        assert lost["summary"].startswith("rank 2 was lost: its agent on host host2 is gone: nothing was heard from it")
        assert controller.run("who", 2)["values"] == [[0, 2], [1, 2]]
        assert comes_true(lambda: not marked(two.mark), 5), marked(two.mark)
        for process in processes[2:]:
            status, said = ended(process)
            assert status == 1
            assert "was given up: nothing was heard from it for" in said
