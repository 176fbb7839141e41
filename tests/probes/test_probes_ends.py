"""What stays behind when a probe, a zygote or the controller ends: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from probes.processes import MARK, comes_true, is_running, marked
from sglang_conformance.probes import client
from sglang_conformance.probes.client import Warm

HERE = Path(__file__).parent
SHARED_MEMORY = Path("/dev/shm")


def test_children_that_a_probe_leaves_are_ended(warm: Warm) -> None:
    result = warm.run("probes.jobs:leaves_children")
    assert result.orphans == 1
    assert comes_true(lambda: not is_running(result.value[0]))


def test_child_that_ends_with_its_parent_is_none_left_behind(warm: Warm) -> None:
    result = warm.run("probes.jobs:leaves_a_child_that_ends_with_it")
    assert (result.failure, result.orphans) == (None, 0)
    assert comes_true(lambda: not is_running(result.value))


def test_children_of_a_probe_that_hangs_are_ended(warm: Warm) -> None:
    result = warm.run("probes.jobs:leaves_children_and_hangs", deadline=0.3)
    assert result.failure is not None
    assert result.failure.kind == "hung"
    assert result.orphans == 1
    assert comes_true(lambda: not is_running(int(result.progress[0])))


def test_shared_memory_of_a_probe_that_is_killed_is_freed(warm: Warm) -> None:
    result = warm.run("probes.jobs:owns_memory_and_hangs", deadline=1)
    assert (result.failure is not None, result.orphans) == (True, 0)
    assert not (SHARED_MEMORY / result.progress[0]).exists()


def test_shared_memory_of_a_warm_process_is_freed_after_close() -> None:
    zygote = client.start(["probes.jobs"], {"PYTHONPATH": str(HERE.parent)})
    warm = client.connect(zygote.address)
    made, result = warm.warm("probes.jobs:becomes_owner_of_memory")
    assert made is not None
    assert (SHARED_MEMORY / result.value).exists()
    zygote.close()
    assert not (SHARED_MEMORY / result.value).exists()


def test_orphans_of_one_probe_are_not_counted_with_the_next(warm: Warm) -> None:
    made, _ = warm.warm("probes.jobs:become", {"value": None})
    assert made is not None
    assert warm.run("probes.jobs:leaves_children").orphans == 1
    assert warm.run("probes.jobs:pid").orphans == 0
    assert made.run("probes.jobs:state").failure is None  # a warm process is no orphan


def test_no_process_and_no_file_is_left_after_close(tmp_path: Path) -> None:
    mark = f"close-{os.getpid()}"
    zygote = client.start(
        ["probes.jobs"],
        {"PYTHONPATH": str(HERE.parent), MARK: mark, "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    warm = client.connect(zygote.address)
    made, _ = warm.warm("probes.jobs:become", {"value": None})
    assert made is not None
    made.run("probes.jobs:pid")
    assert len(marked(mark)) == 3
    zygote.close()
    assert comes_true(lambda: not marked(mark)), marked(mark)
    assert list(tmp_path.iterdir()) == []


CONTROLLER = textwrap.dedent(
    """
    import sys
    from sglang_conformance.probes import client

    zygote = client.start(["probes.jobs"])
    warm = client.connect(zygote.address)
    made, _ = warm.warm("probes.jobs:become", {"value": None})
    print("ready", flush=True)
    made.run(sys.argv[1], deadline=60)
    """
)


@pytest.mark.parametrize("job", ["probes.jobs:hangs", "probes.jobs:leaves_children_and_hangs"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_is_left_when_the_controller_dies(number: signal.Signals, job: str) -> None:
    mark = f"death-{os.getpid()}-{number}-{job}"
    there = 6 if "children" in job else 5  # controller, zygote, server, warm process, probe, and what it started
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), MARK: mark}
    controller = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, job],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert controller.stdout is not None
    assert controller.stdout.readline() == b"ready\n"
    assert comes_true(lambda: len(marked(mark)) == there), marked(mark)
    controller.send_signal(number)
    controller.wait(10)
    controller.stdout.close()
    assert comes_true(lambda: not marked(mark)), marked(mark)
