"""The radar over the simulated plugin, right in every release, and over one that is right in the first only."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from sglang_conformance.contract import tables
from sglang_conformance.radar.finding import Finding, Severity
from sglang_conformance.radar.opening import open_plugin
from sglang_conformance.radar.reading.code import Code
from sglang_conformance.radar.reading.history import History
from sglang_conformance.radar.survey import Judged, between, judge
from zoo.workshop import SIMULATED, Edit

from .planted import PLANTED, Expected

RELEASES = ("0.5.11", "0.5.13", "0.5.16", "0.5.21", "0.5.22", "0.5.23")


@pytest.fixture(scope="module")
def history() -> History:
    return History({release: tables.load(release) for release in RELEASES}, tables.load_indexes)


def judged(folder: Path, history: History) -> dict[str, Judged]:
    plugin = open_plugin(str(folder))
    assert plugin.unread == ()
    code = Code.of(plugin)
    return {release: judge(plugin, code, history, release, brief=True) for release in RELEASES}


def told(findings: tuple[Finding, ...]) -> Counter[Expected]:
    return Counter((f.kind, f.severity.value, f.subject, f.since) for f in findings)


def test_simulated_plugin_works_everywhere(history: History) -> None:
    found = judged(SIMULATED.parent, history)
    grave = {r: [f for f in j.findings if f.severity is not Severity.REACHABLE] for r, j in found.items()}
    assert grave == {release: [] for release in RELEASES}
    assert {line for each in found.values() for line in each.not_judged} == set()
    assert told(between(found, "0.5.11", "0.5.23")) == Counter()


def test_what_was_planted_is_found_and_nothing_else(tmp_path: Path, history: History) -> None:
    folder = tmp_path / "plugin"
    shutil.copytree(SIMULATED.parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in (edit for planted in PLANTED for edit in planted.edits):
        path = folder / "sglang_simulated" / edit.file
        path.write_text(Edit.apply(edit, path.read_text(encoding="utf-8")), encoding="utf-8")
    found = judged(folder, history)
    assert [f for f in found["0.5.11"].findings if f.severity is not Severity.REACHABLE] == []
    expected = Counter(each for planted in PLANTED for each in planted.expected)
    assert told(between(found, "0.5.11", "0.5.23")) == expected
