"""Runs that are narrowed or interfered with: they may fail, and they never certify."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from plugin.conftest import Ran, acme, run_pytest
from sglang_conformance.certificate.verify import verify
from zoo.workshop import Edit

BACKEND = "sglang_conformance/suite/backend.py"
NO_DRIVER = (Edit("__init__.py", "import os\n", "import os\n\nraise RuntimeError('no driver')\n"),)


def assert_development(ran: Ran) -> None:
    record = ran.record
    assert record["kind"] == "development"
    assert "conformant" not in {profile["verdict"] for profile in record["profiles"].values()}
    assert verify(ran.home) == []
    assert re.search(r"^no verdict\s+development run: ", ran.screen, re.MULTILINE)


def test_narrowed_run_is_incomplete_and_says_by_what(project: Path) -> None:
    ran = run_pytest(
        project,
        "--platform=cpu",
        f"--deselect={BACKEND}::test_backend_is_one_stable_text",
        "--examples=3",
        PYTEST_ADDOPTS="-k BE",
    )
    assert ran.status == 6, ran.screen
    assert_development(ran)
    narrowed, examples = ran.record["reasons"]
    missing, expected = map(int, re.findall(r"\d+", narrowed)[:2])
    assert 0 < missing < expected
    assert narrowed.endswith("checks did not report (narrowed by -k, --deselect)")
    assert examples.startswith("--examples=3 is fewer")
    assert any(outcome["outcome"] == "pass" for outcome in ran.record["requirements"].values())


def test_run_narrowed_to_nothing_by_the_settings_is_incomplete(project: Path) -> None:
    (project / "pytest.ini").write_text("[pytest]\naddopts = -m nothing\nmarkers = nothing\n")
    ran = run_pytest(project, "--platform=cpu")
    assert ran.status == 6, ran.screen
    assert_development(ran)
    assert re.fullmatch(r"(\d+) of \1 checks did not report \(narrowed by -m\)", ran.record["reasons"][0])


def test_run_that_stops_at_the_first_failure_has_failed_and_says_so(project: Path) -> None:
    ran = run_pytest(project, "--platform=acme", "-x", paths=[acme(project.parent, *NO_DRIVER)])
    assert ran.status == 1, ran.screen
    assert_development(ran)
    assert "(narrowed by -x or --maxfail)" in ran.record["reasons"][0]
    assert ran.record["requirements"]["PKG-003"]["outcome"] == "fail"


TURNS_FAILURES_INTO_PASSES = """\
import pytest


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    report.outcome = "passed"
    report.longrepr = None
    report.__dict__.pop("conformance", None)
"""
PASSES_AGAIN_IN_THE_LOG = """\
import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report):
    report.outcome = "passed"


def pytest_sessionfinish(session):
    session.exitstatus = 0
"""


@pytest.mark.parametrize("hooks", [TURNS_FAILURES_INTO_PASSES, PASSES_AGAIN_IN_THE_LOG], ids=["report", "log"])
def test_failure_that_another_plugin_turns_into_a_pass_is_a_failure(hooks: str, project: Path) -> None:
    (project / "interfering.py").write_text(hooks)
    paths = [project, acme(project.parent, *NO_DRIVER)]
    ran = run_pytest(project, "--platform=acme", "-k", "PKG-003", "-p", "interfering", paths=paths)
    assert ran.status == 1, ran.screen
    assert_development(ran)
    assert ran.record["requirements"]["PKG-003"]["outcome"] == "fail"
    if hooks == TURNS_FAILURES_INTO_PASSES:  # the other one comes too late to change what the kit was told
        assert any("another plugin changed the outcome of" in reason for reason in ran.record["reasons"])


DROPS_ITEMS = """\
def pytest_collection_modifyitems(items):
    items[:] = items[:1]
"""
RUNS_NOTHING = """\
def pytest_runtest_protocol(item, nextitem):
    return True
"""
REPLACES_THE_BODY = """\
def pytest_collection_modifyitems(items):
    for item in items:
        item.runtest = lambda: None
"""


@pytest.mark.parametrize(
    "hooks",
    [DROPS_ITEMS, RUNS_NOTHING, REPLACES_THE_BODY],
    ids=["drops", "runs-nothing", "replaces-the-body"],
)
def test_checks_that_another_plugin_keeps_from_running_are_missed(hooks: str, project: Path) -> None:
    (project / "interfering.py").write_text(hooks)
    ran = run_pytest(project, "--platform=cpu", "-p", "interfering", paths=[project])
    assert ran.status == 6, ran.screen
    assert_development(ran)
    assert "checks did not report" in ran.record["reasons"][0]


def test_collecting_only_starts_and_writes_nothing(project: Path) -> None:
    kept = project / "conformance-report"
    kept.mkdir()
    (kept / "certificate.json").write_text("the record of an earlier run")
    ran = run_pytest(project, "--platform=cpu", "--collect-only", "-q")
    assert ran.status == 0, ran.screen
    assert f"{BACKEND}::test_backend_is_one_stable_text" in ran.screen
    assert {path.name: path.read_text() for path in kept.iterdir()} == {
        "certificate.json": "the record of an earlier run"
    }


def test_paths_are_run_as_pytest_runs_them(project: Path) -> None:
    (project / "tests").mkdir()
    (project / "tests" / "test_own.py").write_text(
        "def test_own(tmp_path):\n    assert tmp_path.is_dir()\n\ndef test_wrong():\n    assert [1] == [2]\n"
    )
    ran = run_pytest(project, "--platform=cpu", "tests/")
    assert ran.status == 1, ran.screen
    assert "1 failed, 1 passed" in ran.screen
    assert "assert [1] == [2]" in ran.screen
    assert "sglang_conformance/suite" not in ran.screen
