"""What cannot be used is told in one line, at once, and nothing is left behind."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from plugin.conftest import acme, run_pytest
from sglang_conformance.requirements.model import PROFILES


def refused(folder: Path, *options: str, paths: tuple[Path, ...] = ()) -> str:
    """The one line with which pytest refuses the options."""
    held = sorted(folder.iterdir())
    ran = run_pytest(folder, *options, paths=paths)
    assert ran.status == pytest.ExitCode.USAGE_ERROR, ran.screen
    assert sorted(folder.iterdir()) == held
    lines = [line for line in ran.screen.splitlines() if line.strip()]
    assert len(lines) == 1, ran.screen
    assert lines[0].startswith("ERROR: ")
    return lines[0].removeprefix("ERROR: ")


def test_unknown_platform_lists_what_there_is(project: Path) -> None:
    line = refused(project, "--platform=nope", paths=(acme(project.parent),))
    assert line.startswith("--platform=nope: no such platform; installed plugins: ")
    assert "acme" in line
    assert "cpu" in line.partition("built into SGLang 0.5.23: ")[2]


def test_unknown_release_lists_what_there_is(project: Path) -> None:
    line = refused(project, "--platform=cpu", "--sglang=reference", "--contract=9.9.9")
    assert line.startswith("--contract=9.9.9: ")
    assert "0.5.11" in line
    assert "0.5.23" in line


def test_unknown_profile_lists_what_there_is(project: Path) -> None:
    line = refused(project, "--platform=cpu", "--profile=core,speed")
    assert line == f"--profile=core,speed: no such profile; there are {', '.join(PROFILES)}"


def test_file_where_a_folder_is_meant_is_named(project: Path) -> None:
    (project / "report").write_text("mine")
    assert refused(project, "--platform=cpu", "--certificate=report").startswith(f"{project / 'report'}: is a file")
    assert (project / "report").read_text() == "mine"


@pytest.mark.parametrize("folder", ["taken/report", "/proc/report"])
def test_folder_that_cannot_be_written_is_named(folder: str, project: Path) -> None:
    (project / "taken").write_text("mine")
    line = refused(project, "--platform=cpu", f"--certificate={folder}")
    assert line.startswith(f"{project / folder}: cannot be written: ")
    assert line.endswith("give another folder with --certificate")


def test_bad_waivers_file_is_named(project: Path) -> None:
    (project / "waivers.toml").write_text('[[waiver]]\nrequirement = "PKG-001"\n')
    line = refused(project, "--platform=cpu", "--waivers=waivers.toml")
    assert line.startswith(f"{project / 'waivers.toml'}: waiver 1: platform, owner, link, expires, reason missing; ")


@pytest.mark.skipif(importlib.util.find_spec("sglang") is not None, reason="SGLang is installed here")
def test_missing_sglang_is_told_with_what_to_do(project: Path) -> None:
    line = refused(project, "--platform=cpu", "--sglang=installed")
    assert line.startswith("--sglang=installed: no SGLang is installed in this environment; ")
    assert "--sglang=reference" in line


def test_bad_input_is_told_once_with_xdist_too(project: Path) -> None:
    assert refused(project, "--platform=cpu", "--deadline=-1", "-n", "2").startswith("--deadline=-1: ")
