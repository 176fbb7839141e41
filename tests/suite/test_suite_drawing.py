"""What hypothesis draws for a run does not hang on the modules that a process has imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_NUMBER = 4_637_285_906

_DRAWN = """
import contextlib, json, sys

from hypothesis import given, strategies as st
from sglang_conformance.suite.drawing import alike, drawing

if sys.argv[1] == "project":
    import project

def drawn(surroundings):
    seen = []

    @given(st.integers(0, 10**12))
    def one(number):
        seen.append(number)

    with surroundings():
        drawing(300)(one)()
    return seen

print(json.dumps([drawn(alike), drawn(contextlib.nullcontext), drawn(alike)]))
"""


def drawn(folder: Path, *arguments: str) -> list[list[int]]:
    """What is drawn alike, as hypothesis draws by itself, and alike again, in a process of its own."""
    (folder / "project.py").write_text(f"SIZE = {_NUMBER}\n")
    (folder / "drawn.py").write_text(_DRAWN)
    command = [sys.executable, "drawn.py", *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    lists: list[list[int]] = json.loads(ended.stdout)
    return lists


def test_constants_of_a_project_are_not_drawn(tmp_path: Path) -> None:
    first, by_itself, again = drawn(tmp_path, "project")
    assert _NUMBER in by_itself
    assert _NUMBER not in first
    assert first == again
    assert first == drawn(tmp_path, "nothing")[0]
