from __future__ import annotations

import json
from pathlib import Path

import pytest

from plugin.conftest import Once, Ran, run_pytest

TESTS = """\
import json
import sys


def test_passes():
    with open("modules.json", "w") as file:
        json.dump(sorted(sys.modules), file)


def test_fails():
    assert 1 == 2
"""


# Every option of the kit's, as another project may have them for ends of its own.
CONFTEST = """\
def pytest_addoption(parser):
    for name in ("platform", "sglang", "contract", "profile", "waivers", "certificate", "examples", "deadline"):
        parser.addoption(f"--{name}", default="own")
"""


@pytest.fixture
def asleep(once: Once) -> Ran:
    """A project's own tests, run where the kit is installed, with options of the project's that are named like it."""

    def make(folder: Path) -> Ran:
        (folder / "test_own.py").write_text(TESTS)
        (folder / "conftest.py").write_text(CONFTEST)
        # Hypothesis' own pytest plugin would import it; what is measured here is the kit.
        options = ("-p", "no:hypothesispytest", "-p", "no:xdist", "--profile=nonsense", "--waivers=nowhere")
        return run_pytest(folder, *options)

    return once("asleep", make)


@pytest.fixture
def modules(asleep: Ran) -> list[str]:
    loaded: list[str] = json.loads((asleep.folder / "modules.json").read_text())
    return loaded


def test_sleeping_plugin_imports_nothing_heavy(modules: list[str]) -> None:
    heavy = {
        "torch",
        "numpy",
        "hypothesis",
        "sglang",
        "sglang_reference",
        "sglang_simulated",
        "junit_xml",
        "multiprocessing",
    }
    assert not heavy & {name.partition(".")[0] for name in modules}


def test_sleeping_plugin_imports_nothing_of_the_kit_but_itself(modules: list[str]) -> None:
    mine = [name for name in modules if name.partition(".")[0] == "sglang_conformance"]
    assert mine == ["sglang_conformance", "sglang_conformance.plugin"]


def test_own_tests_run_as_if_the_kit_were_not_there(asleep: Ran) -> None:
    assert asleep.status == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 1 passed" in asleep.screen
    assert "assert 1 == 2" in asleep.screen
    assert "sglang-conformance 0" not in asleep.screen.replace("plugins: ", "")
    assert not (asleep.folder / "conformance-report").exists()


def test_help_lists_each_option_once(project: Path) -> None:
    screen = run_pytest(project, "--platform=cpu", "--help").screen
    section = screen.partition("SGLang platform conformance:")[2].partition("\n\n")[0]
    options = (
        *("platform", "sglang", "contract", "profile", "waivers", "certificate", "examples"),
        *("world-size", "ranks-at", "secret-file", "deadline"),
    )
    listed = [line.split("=")[0].split()[0] for line in section.splitlines() if line.startswith("  --")]
    assert listed == [f"--{name}" for name in options]


def test_paths_on_the_command_line_run_as_pytest_would(project: Path) -> None:
    (project / "test_own.py").write_text("def test_passes(): pass\n")
    ran = run_pytest(project, "--platform=cpu", "test_own.py")
    assert ran.status == pytest.ExitCode.OK
    assert ran.written == []


def test_paths_from_the_environment_certify_nothing(project: Path) -> None:
    (project / "test_own.py").write_text("def test_passes(): pass\n")
    ran = run_pytest(project, "--platform=cpu", PYTEST_ADDOPTS="test_own.py")
    assert ran.status == 6
    assert ran.record["kind"] == "development"


def test_platform_may_stand_in_the_project_s_settings(project: Path) -> None:
    (project / "pytest.ini").write_text("[pytest]\naddopts = --platform=nothing-like-it\n")
    ran = run_pytest(project)
    assert ran.status == pytest.ExitCode.USAGE_ERROR
    assert "--platform=nothing-like-it: no such platform" in ran.screen
