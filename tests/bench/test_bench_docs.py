"""The page for vendors: its commands work as they stand there, and it names what there is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest

from bench.conftest import COMMAND, SCHEMA, simulated
from plugin.conftest import environment
from sglang_conformance.bench import command
from sglang_conformance.bench.layout import WIDTH
from sglang_conformance.bench.model import ENGINES

PAGE = (Path(__file__).parents[2] / "docs/bench.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS)
def test_commands_run_as_they_stand(block: str, project: Path) -> None:
    pytest.importorskip("matplotlib")
    program = project.parent / "bin" / "sglang-conformance"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{COMMAND}")
    program.chmod(0o755)
    plain = environment([simulated(project.parent)])
    path = os.pathsep.join((str(program.parent), plain["PATH"]))
    for line in block.splitlines():
        ran = subprocess.run(
            line, shell=True, cwd=project, env={**plain, "PATH": path}, capture_output=True, text=True, timeout=110
        )
        assert (ran.returncode, ran.stderr) == (0, ""), line
        assert "every value is right" in ran.stdout
        assert max(map(len, ran.stdout.splitlines())) <= WIDTH
        assert "not alike" not in ran.stdout
        assert ("against the run of " in ran.stdout) == ("--against" in line)
    for record in project.glob("*.json"):
        jsonschema.validate(json.loads(record.read_text()), SCHEMA)
    written = set(re.findall(r"--(?:json|plot) (\S+)", block))
    assert {path.name for path in project.iterdir()} == written


def test_page_has_commands() -> None:
    assert len(BLOCKS) == 3
    assert all(line.startswith("sglang-conformance bench ") for block in BLOCKS for line in block.splitlines())


def test_every_engine_is_explained() -> None:
    for engine in ENGINES:
        assert f"\n| {engine} | " in PAGE


def test_options_that_are_named_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    from sglang_conformance.cli import main

    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    said = capsys.readouterr().out
    named = set(re.findall(r"--[a-z][a-z-]+", PAGE)) - {"--platform"}
    assert {option for option in named if option not in said} == set()
    assert f"default: {command.DEFAULT_ITERATIONS}" in said
