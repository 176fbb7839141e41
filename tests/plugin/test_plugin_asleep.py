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


@pytest.fixture
def asleep(once: Once) -> Ran:
    """A project's own tests, run where the kit is installed, with the kit's options given but no platform."""

    def make(folder: Path) -> Ran:
        (folder / "test_own.py").write_text(TESTS)
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
    screen = run_pytest(project, "--help").screen
    section = screen.partition("SGLang platform conformance:")[2].partition("\n\n")[0]
    options = ("platform", "sglang", "contract", "profile", "waivers", "certificate", "examples", "deadline")
    listed = [line.split("=")[0].split()[0] for line in section.splitlines() if line.startswith("  --")]
    assert listed == [f"--{name}" for name in options]
