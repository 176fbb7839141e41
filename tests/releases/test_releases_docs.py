"""The page: its commands are ones that the command takes, and it says what the exit status means."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sglang_conformance.cli import main

from .conftest import Command

PAGE = (Path(__file__).parents[2] / "docs/releases.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^sglang-conformance (releases .*)$", PAGE, re.MULTILINE)


def test_page_has_commands() -> None:
    assert len(COMMANDS) == 3


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_taken_as_they_stand(line: str, command: Command) -> None:
    """Asked for a platform that there is not, each gets as far as looking for it."""
    words = ["nosuch" if word in ("sim", "cpu") else word for word in shlex.split(line)[1:]]
    (command.home / "releases").mkdir()
    status, _, err = command(*words)
    assert status == 2
    assert "nosuch: no such platform" in err or "none of its folders holds a release" in err


def test_options_that_are_named_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["releases", "--help"])
    said = capsys.readouterr().out
    ours = set(re.findall(r"--[a-z][a-z-]+", PAGE)) - {"--platform", "--no-deps", "--target", "--profile", "--waivers"}
    assert {option for option in ours if option not in said} == set()
