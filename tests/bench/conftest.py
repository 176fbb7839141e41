"""The real command, as a user meets it: in a process of its own, which leaves none behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from plugin.conftest import environment
from probes.processes import MARK, comes_true, marked
from zoo.workshop import SIM, Edit, build

SECONDS = 110
# The command itself, which imports neither torch nor the vendor's code, nor for nothing what is slow to import.
COMMAND = """
import sys
from sglang_conformance.cli import main

status = main()
slow = set() if any(word.startswith("--plot") for word in sys.argv) else {"numpy", "matplotlib"}
found = {"torch", "hypothesis", "sglang", "sglang_simulated", *slow} & set(sys.modules)
sys.exit(f"imported: {found}" if found else status)
"""
QUICK = ("--sglang=reference", "--world-size=2", "--warmup=1", "--iterations=3")
SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "reports/schemas/bench-1.schema.json").read_text(encoding="utf-8")
)


@dataclass(frozen=True)
class Ran:
    """What the command came to: its exit status, its table, its complaints, the folder it ran in."""

    status: int
    out: str
    err: str
    folder: Path

    @property
    def rows(self) -> list[list[str]]:
        """The table's lines of figures, as words."""
        lines = self.out.splitlines()
        return [line.split() for line in lines if line and line[-1].isdigit() and "  " in line and "x " in line]

    @property
    def complaint(self) -> str:
        """The one line that it ended with."""
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("sglang-conformance bench: ").rstrip("\n")


def run_bench(folder: Path, *options: str, paths: Sequence[Path] = ()) -> Ran:
    """Run ``sglang-conformance bench`` in the folder, with folders put on the import path."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "bench", *options],
        cwd=folder,
        env=environment(paths, **{MARK: mark}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert comes_true(lambda: not marked(mark)), f"left running: {marked(mark)}\n{out}\n{err}"
    return Ran(process.returncode, out, err, folder)


def simulated(folder: Path, *edits: Edit) -> Path:
    """The simulated plugin, with some edits, installed in a folder."""
    return build(SIM, folder / "installed", edits)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty folder to run in."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder
