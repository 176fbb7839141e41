"""The real plugin, as a user meets it: pytest in a process of its own, in a folder of its own."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from import_path import import_path
from probes.processes import MARK, comes_true, marked
from zoo.workshop import ACME, Edit, build

SECONDS = 150
OURS = ("PYTEST_", "SGLANG_", "ACME_", "HYPOTHESIS_", "COLUMNS", "LINES")


@dataclass(frozen=True)
class Ran:
    """What a pytest process came to: its exit status, its screen, the folder it ran in."""

    status: int
    screen: str
    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        """``certificate.json``."""
        data: dict[str, Any] = json.loads((self.home / "certificate.json").read_text())
        return data

    @property
    def home(self) -> Path:
        """The folder of the record, as the screen says; the usual one where it does not say."""
        said = [line.split(maxsplit=1)[1] for line in self.screen.splitlines() if line.startswith("record  ")]
        return self.folder / (said[-1] if said else "conformance-report")

    @property
    def written(self) -> list[str]:
        """The names of what the run put into the folder of its record."""
        return sorted(path.name for path in self.home.glob("*"))

    @property
    def summary(self) -> list[str]:
        """The lines of the closing summary, without pytest's own last line."""
        lines = self.screen.splitlines()
        begin = max(number for number, line in enumerate(lines) if line.strip("= ") == "conformance")
        return [line for line in lines[begin + 1 : -1] if line.strip()]


def environment(paths: Sequence[Path] = (), **variables: str) -> dict[str, str]:
    """This process's environment, less what a test run adds, with folders put on the import path."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**plain, "PYTHONPATH": import_path(*paths), "COLUMNS": "100", **variables}


def command(*options: str) -> list[str]:
    """The command line of a pytest that leaves no cache."""
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]


def run_pytest(folder: Path, *options: str, paths: Sequence[Path] = (), **variables: str) -> Ran:
    """Run pytest in the folder and see that it leaves no process behind."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        command(*options),
        cwd=folder,
        env=environment(paths, **{MARK: mark}, **variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        screen, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert comes_true(lambda: not marked(mark)), f"left running: {marked(mark)}\n{screen}"
    return Ran(process.returncode, screen, folder)


def acme(folder: Path, *edits: Edit) -> Path:
    """The right plugin of the zoo, with some edits, installed in a folder beside the project's."""
    return build(ACME, folder / "installed", edits)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty folder to run in."""
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


Once = Callable[[str, Callable[[Path], Ran]], Ran]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """Make a run once for all tests that look at it, also when they are spread over xdist's workers."""
    base = tmp_path_factory.getbasetemp()
    home = base if worker_id == "master" else base.parent

    def shared(name: str, make: Callable[[Path], Ran]) -> Ran:
        folder, kept = home / f"shared-{name}", home / f"shared-{name}.json"
        with (home / f"shared-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                folder.mkdir(exist_ok=True)
                ran = make(folder)
                kept.write_text(json.dumps({"status": ran.status, "screen": ran.screen}))
            data: Mapping[str, Any] = json.loads(kept.read_text())
        return Ran(data["status"], data["screen"], folder)

    return shared
