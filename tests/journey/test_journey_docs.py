"""The page for vendors names what there is."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from sglang_conformance.journey import command
from sglang_conformance.journey.recording import KEEP
from sglang_conformance.journey.trace import MODEL, POOLS

PAGE = (Path(__file__).parents[2] / "docs/journey.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^sglang-conformance journey (.+)$", PAGE, re.MULTILINE)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    command.declare(made)
    return made


def test_commands_are_understood() -> None:
    assert len(COMMANDS) == 2
    plans = [command._plan(parser().parse_args([*line.split(), "--sglang=reference"])) for line in COMMANDS[:1]]
    assert [str(leg) for leg in plans[0].legs] == [f"{model}, eager, float32" for model in command.MODELS]
    assert parser().parse_args(COMMANDS[1].split()).graphs == "1,8"


def test_the_page_names_what_there_is() -> None:
    named = set(re.findall(r"--[a-z]+", PAGE)) - {"--platform"}
    assert named <= {option for action in parser()._actions for option in action.option_strings}
    assert f"{KEEP} calls" in " ".join(PAGE.split())
    assert f"`{MODEL}`, `{POOLS}`" in PAGE
    assert max(map(len, PAGE.splitlines())) <= 125
