from __future__ import annotations

import argparse
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from sglang_conformance.cli import main
from sglang_conformance.contract import tables
from sglang_conformance.radar import command, page, record, text
from sglang_conformance.radar.finding import Finding, Severity
from sglang_conformance.radar.reading.facts import Place
from sglang_conformance.radar.report import Report
from sglang_conformance.radar.survey import Judged, Run, between, runs

from .made import LAST, MIDDLE, NEW, OLD, RELEASES, history, platform, write

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "reports/schemas/radar-1.schema.json").read_text(encoding="utf-8")
)


def finding(subject: str, severity: Severity = Severity.BREAKS, line: int = 1) -> Finding:
    return Finding("import", severity, subject, f"imports {subject}", Place("v.py", line), "it went", "leave it")


def release(name: str, *findings: Finding, not_judged: tuple[str, ...] = ()) -> Judged:
    return Judged(name, findings, not_judged)


A, B, QUIET = finding("a"), finding("b"), finding("q", Severity.SILENT)


def by_name(*judged: Judged) -> dict[str, Judged]:
    return {each.release: each for each in judged}


def test_finding_is_of_the_first_release_of_those_in_a_row() -> None:
    found = by_name(release("1", A), release("2"), release("3", A), release("4", A, B))
    told = {f.subject: (f.since, f.before) for f in between(found, "2", "4")}
    assert told == {"a": ("3", False), "b": ("4", False)}


def test_finding_that_held_at_the_start_is_told_as_such() -> None:
    found = by_name(release("1", A), release("2", A), release("3", A))
    assert [(f.since, f.before) for f in between(found, "2", "3")] == [("1", True)]


def test_same_finding_is_a_change_where_it_becomes_graver() -> None:
    mild = finding("a", Severity.DEPRECATED)
    assert [f.since for f in between(by_name(release("1", mild), release("2", A)), "1", "2")] == ["2"]


def test_releases_are_put_together_by_what_breaks() -> None:
    found = [release("1"), release("2", QUIET), release("3", A), release("4", A), release("5", A, B), release("6")]
    assert list(runs(found)) == [Run("1", "2", 0), Run("3", "4", 1), Run("5", "5", 2), Run("6", "6", 0)]


def made(*judged: Judged, start: str = "", end: str = "") -> Report:
    found = by_name(*judged)
    return Report.of("vendor", "1.2", found, start, end or judged[-1].release, ("x.so is compiled",))


def test_start_is_the_oldest_release_that_works() -> None:
    assert made(release("1", A), release("2", QUIET), release("3", A)).start == "2"
    assert made(release("1", A), release("2", A)).start == "1"
    assert made(release("1"), release("2"), start="2").start == "2"


def test_text_has_all_that_a_finding_says_in_a_hundred_columns() -> None:
    long = Finding(
        "import", Severity.BREAKS, "s", "imports " + "x.y" * 60, Place("v.py", 7), "it went " * 30, "leave " * 30
    )
    report = made(release("1"), release("2", long, QUIET, not_judged=("v.py:3: computed",)))
    lines = list(text.lines(report))
    assert max(map(len, (line for line in lines if "x.yx.y" not in line))) <= 100
    told = "\n".join(lines)
    assert lines[0] == "vendor 1.2, SGLang 1 to 2"
    assert "BREAKS (1)" in told
    assert told.index("BREAKS (1)") < told.index("DIES SILENTLY (1)") < told.index("NOT JUDGED (2)")
    assert "v.py:7  since 2  [import]" in told
    assert "  works on 1\n  breaks on 2: 1 finding\n" in told
    assert lines[-1] == "breaks on 2: 1 finding"


def test_verdict_of_a_plugin_without_a_breach() -> None:
    def verdict(*judged: Judged, unread: tuple[str, ...] = ()) -> str:
        return Report.of("vendor", "1.2", by_name(*judged), "1", "1", unread).verdict()

    assert verdict(release("1")) == "nothing breaks on 1"
    assert verdict(release("1", QUIET)) == "nothing breaks on 1; 1 lesser finding"
    assert verdict(release("1", finding("r", Severity.REACHABLE))) == "nothing breaks on 1"
    assert verdict(release("1"), unread=("a.so", "b.so")) == "nothing breaks on 1; 2 parts not judged"
    assert verdict(release("1", not_judged=("c",)), unread=("a.so",)) == "nothing breaks on 1; 2 parts not judged"


def test_record_keeps_its_schema() -> None:
    data = json.loads(record.dumps(made(release("1"), release("2", A, QUIET))))
    jsonschema.validate(data, SCHEMA)
    assert data["schema"] == "sglang-conformance/radar/1"
    assert data["findings"][0] == {
        "kind": "import",
        "severity": "breaks",
        "subject": "a",
        "what": "imports a",
        "file": "v.py",
        "line": 1,
        "since": "2",
        "before": False,
        "why": "it went",
        "mend": "leave it",
    }
    assert data["releases"]["2"] == {"breaks": 1, "may break": 0, "dies silently": 1, "deprecated": 0, "reachable": 0}


class Tags(HTMLParser):
    """Every tag is closed, none comes from what was found, and nothing is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_is_whole_and_escapes_what_it_is_given() -> None:
    nasty = Finding("import", Severity.BREAKS, "s", "<script>x</script>", Place("<i>.py", 1), "a & b", '"<u>"')
    tags = Tags()
    tags.feed(page.page(made(release("1"), release("2", nasty, not_judged=("<img>",)))))
    assert tags.open == []
    assert not {"script", "i", "b", "u", "img"} & tags.seen
    for part in ("<script>x</script>", "<i>.py:1", "a & b", '"<u>"', "<img>", "breaks on 2: 1 finding"):
        assert part in tags.text
    assert "prefers-color-scheme: dark" in tags.text


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The made releases in place of the bundled ones."""
    made_of = {name: history().release(name).index for name in RELEASES}
    monkeypatch.setattr(tables, "releases", lambda: RELEASES)
    monkeypatch.setattr(tables, "load_indexes", lambda *names: [made_of[name] for name in names])


BROKEN = platform("def is_pin_memory_available(self):\n    return False")


@pytest.mark.usefixtures("little")
def test_command_ends_by_what_breaks_at_the_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(write(tmp_path, {"vendor/platform.py": BROKEN}))
    assert main(["radar", folder]) == 1
    out = capsys.readouterr().out
    assert f"vendor 1.2, SGLang {OLD} to {NEW}" in out
    assert f"vendor/platform.py:11  since {MIDDLE}  [signature]" in out
    assert f"  works on {OLD}\n  breaks on {MIDDLE} to {NEW}: 1 finding" in out
    assert main(["radar", folder, "--to", OLD]) == 0
    assert "nothing breaks on 0.5.11" in capsys.readouterr().out
    assert main(["radar", folder, "--from", MIDDLE, "--to", LAST]) == 1
    assert f"since {MIDDLE}, so before" in capsys.readouterr().out


@pytest.mark.usefixtures("little")
def test_command_writes_what_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(write(tmp_path / "plugin", {"vendor/platform.py": BROKEN}))
    assert main(["radar", folder, "--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]) == 1
    data = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    jsonschema.validate(data, SCHEMA)
    assert [f["subject"] for f in data["findings"] if f["severity"] == "breaks"] == ["is_pin_memory_available"]
    assert "is_pin_memory_available" in (tmp_path / "r.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["radar", folder, "--json", "-"]) == 1
    assert json.loads(capsys.readouterr().out) == data


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["nowhere/at/all"],
            "nowhere/at/all does not exist; name a wheel, a source folder, or an installed distribution",
        ),
        (["X", "--to", "9.9"], "--to=9.9: no table for that release; there are: 0.5.11"),
        (
            ["X", "--from", "0.5.21", "--to", "0.5.11"],
            "--from=0.5.21 is newer than --to=0.5.11: name the older release",
        ),
        (["X", "--json", "no/such/folder/r.json"], "--json=no/such/folder/r.json: there is no folder no/such/folder"),
        (["X", "--html", "."], "--html=.: that is a folder; name a file"),
        (["X", "--html", "-"], "--html=-: it is written to a file, not printed; name one"),
    ],
)
@pytest.mark.usefixtures("little")
def test_wrong_usage_is_one_clear_line(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["radar", *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"sglang-conformance radar: {line}")
    assert err.count("\n") == 1


def test_command_says_what_it_takes() -> None:
    parser = argparse.ArgumentParser()
    command.declare(parser)
    assert parser.parse_args(["p", "--from", "1"]).start == "1"
