"""Checks on ranks as a user meets them: a plugin that breaks a collective on one rank, and a pytest that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from pathlib import Path

import pytest

from plugin.conftest import acme, command, environment, run_pytest
from probes.processes import MARK, comes_true, marked
from zoo.workshop import Edit

HOOK = """\
def all_reduce(original, self, input_):
    if self.rank_in_group == 1:
        {body}
    return original(self, input_)


def register() -> None:
    name = "sglang.srt.distributed.parallel_state.GroupCoordinator.all_reduce"
    HookRegistry.register(name, all_reduce, HookType.AROUND)
"""
OPTIONS = ("--platform=acme", "--sglang=reference", "--world-size=2", "-k", "COL-001")


def hooked(body: str) -> Edit:
    return Edit("hooks.py", "def register() -> None:\n", HOOK.format(body=body))


def test_rank_that_is_wrong_is_named_with_the_smallest_case(project: Path) -> None:
    wrong = hooked("input_ = input_ * 2")
    ran = run_pytest(project, *OPTIONS, paths=[acme(project.parent, wrong)])
    assert ran.status == 1, ran.screen
    finding = ran.record["requirements"]["COL-001"]["finding"]
    assert finding["call"].startswith("rank ")
    assert " of 2: " in finding["call"]
    assert finding["detail"].startswith("Falsifying example: test_")
    assert ran.record["requirements"]["COL-001"]["reproduce"].endswith("--world-size=2 -k COL-001")
    assert any(reason.startswith("--world-size=2 leaves out") for reason in ran.record["reasons"])


def test_rank_that_hangs_is_named_with_its_line(project: Path) -> None:
    hanging = hooked("import time; time.sleep(600)")
    ran = run_pytest(project, *OPTIONS, "--deadline=2", paths=[acme(project.parent, hanging)])
    assert ran.status == 1, ran.screen
    finding = ran.record["requirements"]["COL-001"]["finding"]
    assert finding["seen"] == "still running after 2 s"
    assert finding["call"].startswith("rank 1 of 2")
    assert "acme/hooks.py:" in finding["where"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_a_pytest_that_is_ended(number: signal.Signals, project: Path, tmp_path: Path) -> None:
    paths = [acme(tmp_path / "hanging", hooked("import time; time.sleep(600)"))]
    mark, temporary = uuid.uuid4().hex, tmp_path / "temporary"
    temporary.mkdir()
    before = set(os.listdir("/dev/shm"))
    with subprocess.Popen(
        command(*OPTIONS),
        cwd=project,
        env=environment(paths, **{MARK: mark, "TMPDIR": str(temporary)}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        # pytest, the zygote, its server, two stages, the one that stands ready, the store, and a group of two
        assert comes_true(lambda: len(marked(mark)) >= 9, 60)
        process.send_signal(number)
        process.wait(30)
    assert comes_true(lambda: not marked(mark)), marked(mark)
    assert list(temporary.iterdir()) == []
    assert set(os.listdir("/dev/shm")) <= before
