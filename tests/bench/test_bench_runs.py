"""Real runs of small sizes, on the built-in CPU platform and on the simulated accelerator."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from bench.conftest import COMMAND, QUICK, SCHEMA, run_bench, simulated
from plugin.conftest import environment
from probes.processes import MARK, comes_true, marked
from sglang_conformance.bench.layout import digits


def results(folder: Path) -> list[dict[str, Any]]:
    data = json.loads((folder / "bench.json").read_text())
    jsonschema.validate(data, SCHEMA)
    found: list[dict[str, Any]] = data["results"]
    return found


def test_cpu_is_measured(project: Path) -> None:
    ran = run_bench(project, "cpu", *QUICK, "--sizes=1002,64K", "--dtype=float32,bfloat16", "--json=bench.json")
    assert ran.status == 0, ran.err
    assert ran.err == ""
    found = results(project)
    assert [each["engine"] for each in found] == ["group", "backend", "copy"] * 4
    assert sorted({(each["dtype"], each["bytes"], each["count"]) for each in found}) == [
        ("bfloat16", 1002, 501),
        ("bfloat16", 65536, 32768),
        ("float32", 1000, 250),
        ("float32", 65536, 16384),
    ]
    assert all(each["by"] == "backend" for each in found if each["engine"] == "group")
    assert len(ran.rows) == len(found)
    assert ran.rows[0][:7] == ["1000", "B", "250", "float32", "group", "(backend)", digits(found[0]["time_us"], 4)]
    assert ran.out.splitlines()[-1] == "every value is right, those of the warm-up too"
    assert sorted(path.name for path in project.iterdir()) == ["bench.json"]


def test_simulated_accelerator_is_measured_with_all_its_engines(project: Path) -> None:
    pytest.importorskip("matplotlib")
    plugin = simulated(project.parent)
    ran = run_bench(project, "sim", *QUICK, "--sizes=4K", "--json=bench.json", "--plot=bench.svg", paths=[plugin])
    assert ran.status == 0, ran.err
    found = {each["engine"]: each for each in results(project)}
    assert {"group", "pynccl", "graph", "backend", "copy"} <= set(found)
    assert found["backend"]["times_as_fast_as_backend"] == 1.0
    assert found["copy"]["times_as_long_as_copy"] == 1.0
    assert all(each["wrong"] == 0 and each["calls"] > 1 for each in found.values())
    assert "sim of sglang-simulated 1.0" in ran.out
    assert (project / "bench.svg").read_text().startswith("<?xml")


def test_groups_of_several_sizes_and_older_releases(project: Path) -> None:
    plugin = simulated(project.parent)
    options = ["--sizes=256", "--world-size=3,2", "--contract=0.5.11", "--engines=group", "--json=bench.json"]
    ran = run_bench(project, "sim", *QUICK, *options, paths=[plugin])
    assert ran.status == 0, ran.err
    found = results(project)
    assert [(each["ranks"], each["engine"]) for each in found] == [
        (ranks, engine) for ranks in (2, 3) for engine in ("group", "backend", "copy")
    ]
    assert all(each["bus_gbs"] == pytest.approx(each["algorithm_gbs"] * 4 / 3, rel=1e-4) for each in found[3:5])


def test_interrupted_run_leaves_nothing(project: Path) -> None:
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "bench", "cpu", *QUICK[:2], "--sizes=1K", "--iterations=1000000"],
        cwd=project,
        env=environment((), **{MARK: mark}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        head = process.stdout.readline()  # the ranks have been asked what they are
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert head.startswith("all-reduce on cpu")
    assert (process.returncode, err) == (130, "sglang-conformance bench: interrupted\n")
    assert comes_true(lambda: not marked(mark)), marked(mark)


def test_reader_that_has_seen_enough_ends_it_without_a_word(project: Path) -> None:
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "bench", "cpu", *QUICK, "--sizes=64,128"],
        cwd=project,
        env=environment((), **{MARK: mark}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        status = process.wait(timeout=60)
    finally:
        process.kill()
    assert (said, bool(status)) == ("", True)
    assert comes_true(lambda: not marked(mark)), marked(mark)
