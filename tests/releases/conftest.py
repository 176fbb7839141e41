"""The command over a pytest that is told what to come to, so that no certification is run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certificate.factories import judge, requirement, saw
from import_path import import_path
from sglang_conformance.certificate import folder
from sglang_conformance.certificate.model import OutcomeName
from sglang_conformance.cli import main

# Stands in for pytest in the processes that the command starts: what is told of the release, in its environment.
STAND_IN = """
import json, os, shutil, sys, time

options = dict(argument.split("=", 1) for argument in sys.argv if argument.startswith("--") and "=" in argument)
first = os.environ["PYTHONPATH"].split(os.pathsep)[0]
told = json.loads(os.environ["TOLD"])[options.get("--contract") or os.path.basename(first)]
variables = sorted(name for name in os.environ if name.startswith("PYTEST_") and name != "PYTEST_CURRENT_TEST")
print("asked", json.dumps({"arguments": sys.argv[1:], "variables": variables, "cwd": os.getcwd()}))
print(told.get("says", ""), flush=True)
if "record" in told:
    shutil.copytree(told["record"], options["--certificate"], dirs_exist_ok=True)
if told.get("hangs"):
    time.sleep(600)
sys.exit(told.get("status", 0))
"""
RULES = [requirement("MEM-001"), requirement("MEM-002")]

Told = dict[str, Any]


class Command:
    """``sglang-conformance releases`` in this process, over the stand-in."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self._monkeypatch, self._capsys = monkeypatch, capsys
        stand_in = home / "stand-in"
        stand_in.mkdir()
        (stand_in / "pytest.py").write_text(STAND_IN, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", import_path(stand_in))
        for name in [name for name in os.environ if name.startswith("PYTEST_") and name != "PYTEST_CURRENT_TEST"]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PYTEST_ADDOPTS", "-k nothing")
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        monkeypatch.chdir(home)

    def record(self, *outcomes: OutcomeName, said: str = "", **changes: Any) -> str:
        """A folder with the record of a run in which the rules ended so, each with what is said of it."""
        home = self.home / f"record-{len(list(self.home.glob('record-*')))}"
        seen = [saw(outcome, rule.id, message=said) for outcome, rule in zip(outcomes, RULES, strict=True)]
        folder.write(judge(RULES, seen, **changes), RULES, home)
        return str(home)

    def __call__(self, *options: str, **told: Told) -> tuple[int, str, str]:
        """The exit status, and what was printed on either stream; names of releases are written as ``v0_5_14``."""
        named = {name.removeprefix("v").replace("_", "."): each for name, each in told.items()}
        self._monkeypatch.setenv("TOLD", json.dumps(named))
        status = main(["releases", *options])
        said = self._capsys.readouterr()
        return status, said.out, said.err

    def asked(self, release: str, home: str = "kept") -> dict[str, Any]:
        """What the run for a release was asked, from the screen that was kept."""
        screen = (self.home / home / release / "pytest.txt").read_text(encoding="utf-8")
        asked: dict[str, Any] = json.loads(screen.splitlines()[0].removeprefix("asked "))
        return asked


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, monkeypatch, capsys)


@pytest.fixture
def unpacked(tmp_path: Path) -> Callable[[str], Path]:
    """Make a folder in which a release lies as an installer leaves it; the folder of such folders."""

    def made(release: str, name: str = "") -> Path:
        home = tmp_path / "sglang-at"
        (home / (name or release) / "sglang/srt/platforms").mkdir(parents=True)
        metadata = home / (name or release) / f"sglang-{release}.dist-info/METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: sglang\nVersion: {release}\n", encoding="utf-8")
        return home

    return made
