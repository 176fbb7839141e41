"""What the page of SGLang's defects names is there."""

from __future__ import annotations

import re
from pathlib import Path

from sglang_conformance.requirements import loader

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "host-defects.md").read_text()


def test_requirements_that_tell_of_a_defect_exist() -> None:
    named = set(re.findall(r"\b[A-Z]+-\d{3}\b", PAGE))
    assert len(named) > 10
    assert {name for name in named if name not in loader.load()} == set()


def test_packages_are_those_that_ci_installs() -> None:
    lines = (ROOT / ".ci" / "sglang.txt").read_text().splitlines()
    packages = [line.partition("==")[0] for line in lines if line and not line.startswith(("#", "."))]
    assert [name for name in packages if name not in PAGE] == []
