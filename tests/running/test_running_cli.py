"""The command line: what it prints, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from certificate.factories import judge, requirement, saw
from sglang_conformance.certificate import folder
from sglang_conformance.cli import main
from sglang_conformance.requirements import loader
from sglang_conformance.requirements.model import PROFILES

Screen = pytest.CaptureFixture[str]
RULES = [requirement("MEM-001"), requirement("MEM-002")]


def record(home: Path) -> Path:
    folder.write(judge(RULES, [saw("pass", rule.id) for rule in RULES]), RULES, home)
    return home


def test_requirements_are_listed_by_area(capsys: Screen) -> None:
    assert main(["requirements"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert sorted(row[0] for row in rows) == sorted(r.id for r in loader.load().requirements)


@pytest.mark.parametrize("profile", PROFILES)
def test_requirements_of_one_profile(profile: str, capsys: Screen) -> None:
    assert main(["requirements", "--profile", profile]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert {row[2] for row in rows} == {profile}


def test_unknown_profile_lists_what_there_is(capsys: Screen) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["requirements", "--profile", "speed"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert all(profile in said for profile in PROFILES)


def test_requirement_is_explained(capsys: Screen) -> None:
    assert main(["explain", "act-003"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("ACT-003  ")
    assert "Why: " in text
    assert "level     MUST" in text


def test_unknown_requirement_is_one_line(capsys: Screen) -> None:
    assert main(["explain", "ACT-999"]) == 1
    said = capsys.readouterr().err
    assert "no requirement ACT-999; `sglang-conformance requirements` lists them" in said
    assert said.count("\n") == 1


def test_a_rule_that_does_not_decide_yet_is_told_as_such(capsys: Screen) -> None:
    provisional = {r.id for r in loader.load().requirements if r.provisional}
    for name in ("API-001", "ACT-003"):
        assert main(["explain", name]) == 0
        told = "level     MUST, provisional: recorded, not deciding" in capsys.readouterr().out
        assert told == (name in provisional)


def test_sound_record_says_what_it_says(tmp_path: Path, capsys: Screen) -> None:
    home = record(tmp_path)
    for path in (home, home / folder.RECORD, home / folder.JUNIT):
        assert main(["verify", str(path)]) == 0
        said = capsys.readouterr().out
        assert said.startswith("the record is sound: a certification run of ")
        assert said.rstrip().endswith("core conformant")


def test_changed_record_is_not_sound(tmp_path: Path, capsys: Screen) -> None:
    file = record(tmp_path) / folder.RECORD
    file.write_text(file.read_text().replace('"outcome": "pass"', '"outcome": "unsupported"', 1))
    assert main(["verify", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "digest: the record was changed after it was written"
    assert lines[-1].startswith(f"{len(lines) - 1} problem")


def test_folder_without_a_record_is_named(tmp_path: Path, capsys: Screen) -> None:
    assert main(["verify", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path} holds no {folder.RECORD}; name the folder that a run wrote: conformance-report" in said
    assert said.count("\n") == 1
