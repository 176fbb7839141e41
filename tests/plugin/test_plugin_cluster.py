"""Ranks that torchrun starts, and a pytest that they come to."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from plugin.conftest import environment, run_pytest
from plugin.test_plugin_bad_input import refused

SECRET = "a secret for tests only, of no use"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_ranks_of_torchrun_are_certified(project: Path) -> None:
    at = f"127.0.0.1:{free_port()}"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    agents = subprocess.Popen(
        [*launcher, "-m", "sglang_conformance.ranks", "--controller", at],
        env=environment(SGLANG_CONFORMANCE_SECRET=SECRET),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        options = ("--platform=cpu", f"--ranks-at={at}", "-k", "PG-001 or COL-001")
        ran = run_pytest(project, *options, SGLANG_CONFORMANCE_SECRET=SECRET)
        assert agents.wait(30) == 0
    finally:
        agents.kill()
        agents.wait()
    assert f"ranks come to {at}" in ran.screen
    record = ran.record
    assert [record["requirements"][name]["outcome"] for name in ("PG-001", "COL-001")] == ["pass", "pass"], ran.screen
    assert [place["rank"] for place in record["environment"]["cluster"]] == [0, 1]


def test_cluster_without_a_secret_says_how_to_make_one(project: Path) -> None:
    line = refused(project, "--platform=cpu", "--ranks-at=127.0.0.1:0")
    assert "openssl rand -hex 32" in line
    assert "--secret-file" in line


def test_secret_that_all_may_read_is_refused(project: Path) -> None:
    (project / "secret").write_text("0123456789abcdef")
    (project / "secret").chmod(0o644)
    line = refused(project, "--platform=cpu", "--ranks-at=127.0.0.1:0", "--secret-file=secret")
    assert "chmod 600" in line


def test_secret_without_a_cluster_is_refused(project: Path) -> None:
    assert refused(project, "--platform=cpu", "--secret-file=secret").startswith("--secret-file is for ranks")


@pytest.mark.parametrize("at", ["nowhere", "127.0.0.1:port", "127.0.0.1:99999"])
def test_address_that_is_none_is_refused(at: str, project: Path) -> None:
    (project / "secret").write_text("0123456789abcdef")
    (project / "secret").chmod(0o600)
    line = refused(project, "--platform=cpu", f"--ranks-at={at}", "--secret-file=secret")
    assert line.startswith("--ranks-at: ")
    assert "HOST:PORT" in line


def test_cluster_has_one_controller(project: Path) -> None:
    line = refused(project, "--platform=cpu", "--ranks-at=127.0.0.1:0", "-n", "2")
    assert line == "--ranks-at goes with one pytest process; leave out -n"
