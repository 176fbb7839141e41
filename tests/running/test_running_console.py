"""Output that nobody reads to its end, that has no room, or that goes to a narrow terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from import_path import import_path
from sglang_conformance import cli
from sglang_conformance.console import WIDTH, width

CODE = "import sys; from sglang_conformance.cli import main; sys.exit(main())"
LISTING = ("contract", "list")
PLUGIN = {
    "pyproject.toml": '[project]\nname = "v"\n[project.entry-points."sglang.srt.plugins"]\nv = "v:register"\n',
    "v.py": "def register():\n    pass\n",
}


def ended(output: int, *arguments: str) -> tuple[int, str]:
    """The exit status of a command and what it complains of, with its output going there."""
    # Python's own buffer is what is still full when the process ends.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        env={**environment, "PYTHONPATH": import_path()},
    )
    return process.returncode, process.stderr


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    for name, text in PLUGIN.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def closed() -> int:
    """A pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def test_a_reader_that_has_seen_enough_is_no_error(plugin: Path) -> None:
    for command in (LISTING, ("radar", str(plugin)), ("radar", str(plugin), "--json", "-")):
        pipe = closed()
        assert ended(pipe, *command) == (0, "")
        os.close(pipe)


def test_files_are_written_whoever_reads_what_is_printed(plugin: Path) -> None:
    pipe = closed()
    page, record = plugin / "r.html", plugin / "r.json"
    assert ended(pipe, "radar", str(plugin), "--html", str(page), "--json", str(record)) == (0, "")
    os.close(pipe)
    assert page.is_file()
    assert record.is_file()


def test_output_without_room_is_one_line_and_an_error(plugin: Path) -> None:
    with open("/dev/full", "wb") as full:
        why = "cannot write the output: No space left on device\n"
        assert ended(full.fileno(), *LISTING) == (1, f"sglang-conformance: {why}")
        assert ended(full.fileno(), "radar", str(plugin)) == (2, f"sglang-conformance radar: {why}")


def test_text_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for columns, expected in (("60", 60), ("300", WIDTH), ("5", 40)):
        monkeypatch.setenv("COLUMNS", columns)
        assert width() == expected
    monkeypatch.setenv("COLUMNS", "60")
    for command in (["contract", "show"], ["explain", "API-003"]):
        assert cli.main(command) == 0
        prose = [line for line in capsys.readouterr().out.splitlines() if " " in line.strip()]
        assert max(map(len, prose)) <= 60
