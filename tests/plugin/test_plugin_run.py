"""A whole run of the built-in CPU platform: in an empty folder, and in a project that tries to bend it."""

from __future__ import annotations

import copy
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from plugin.conftest import Once, Ran, run_pytest
from sglang_conformance.certificate.verify import verify
from sglang_conformance.requirements import loader

INI = """\
[pytest]
python_files = probe_*.py
python_functions = check_*
python_classes = Suite*
testpaths = own
addopts = -q --strict-markers --strict-config -p interfering
filterwarnings = error
xfail_strict = true
junit_family = xunit1
"""
CONFTEST = """\
import pytest


@pytest.fixture(autouse=True)
def everywhere():
    raise RuntimeError("a fixture of the project ran in the suite")


def pytest_runtest_setup(item):
    pytest.skip("a hook of the project ran in the suite")
"""
INTERFERING = """\
import pytest


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_collect_file(file_path, parent):
    outcome = yield
    outcome.force_result([])


def pytest_collection_modifyitems(items):
    items.reverse()
"""


@pytest.fixture
def serial(once: Once) -> Ran:
    """In an empty folder, in one process."""
    return once("serial", lambda folder: run_pytest(folder, "--platform=cpu"))


@pytest.fixture
def parallel(once: Once) -> Ran:
    """In a project with settings and a conftest of its own, on two xdist workers."""

    def make(folder: Path) -> Ran:
        (folder / "pytest.ini").write_text(INI)
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / "interfering.py").write_text(INTERFERING)
        (folder / "own").mkdir()
        (folder / "own" / "probe_own.py").write_text("def check_own():\n    assert False, 'the project ran'\n")
        return run_pytest(folder, "--platform=cpu", "-n", "2", paths=[folder])

    return once("parallel", make)


@pytest.fixture(params=["serial", "parallel"])
def ran(request: pytest.FixtureRequest) -> Ran:
    found: Ran = request.getfixturevalue(request.param)
    return found


def test_built_in_platform_is_certified(ran: Ran) -> None:
    assert ran.status == 0, ran.screen
    record = ran.record
    assert (record["kind"], record["reasons"]) == ("certification", [])
    assert {p["verdict"] for p in record["profiles"].values()} == {"conformant"}
    assert record["platform"]["in_tree"] is True
    assert record["host"]["kind"] == "reference"


def test_record_holds_every_requirement_that_applies(ran: Ran) -> None:
    assert verify(ran.folder / "conformance-report", loader.load()) == []


def test_folder_holds_the_record_and_nothing_else(ran: Ran) -> None:
    assert ran.written == ["certificate.json", "junit.xml"]


def test_run_leaves_nothing_else_where_it_is_called(serial: Ran) -> None:
    """Hypothesis, for one, keeps files below the current folder where it is let."""
    assert [path.name for path in serial.folder.iterdir()] == ["conformance-report"]


def test_junit_has_a_suite_for_each_profile_and_a_case_for_each_requirement(ran: Ran) -> None:
    record = ran.record
    root = ElementTree.parse(ran.folder / "conformance-report" / "junit.xml").getroot()
    cases = {
        suite.get("name"): {case.get("name") for case in suite.iter("testcase")} for suite in root.iter("testsuite")
    }
    by_profile: dict[str, set[str]] = {profile: set() for profile in record["profiles"]}
    for name, outcome in record["requirements"].items():
        by_profile[outcome["profile"]].add(name)
    assert len(cases) == len(by_profile)
    for profile, names in by_profile.items():
        assert [found for suite, found in cases.items() if profile in str(suite)] == [names]
    assert not list(root.iter("failure"))


def test_summary_fits_a_screen_and_says_where_the_record_is(ran: Ran) -> None:
    assert len(ran.summary) <= 24
    assert max(map(len, ran.summary)) <= 100
    text = "\n".join(ran.summary)
    for profile in ran.record["profiles"]:
        assert re.search(rf"^{profile}\s+conformant\s", text, re.MULTILINE)
    assert "record      conformance-report" in text


def test_header_names_platform_host_and_contract(serial: Ran) -> None:
    line = next(line for line in serial.screen.splitlines() if line.startswith("sglang-conformance "))
    assert "platform cpu (built into SGLang), reference host, contract 0.5.23" in line


def test_settings_of_the_project_change_nothing(parallel: Ran) -> None:
    assert "the project ran" not in parallel.screen
    assert "a fixture of the project" not in parallel.screen
    assert "warnings summary" not in parallel.screen


def test_two_workers_come_to_the_same_record(serial: Ran, parallel: Ran) -> None:
    assert timeless(parallel.record) == timeless(serial.record)


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    """A record without the times it took, and without the digest that covers them."""
    plain = copy.deepcopy(record)
    del plain["digest"]
    for outcome in plain["requirements"].values():
        del outcome["seconds"]
    return plain
