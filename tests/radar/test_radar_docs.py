from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from sglang_conformance.radar.finding import Kind, Severity

PAGE = (Path(__file__).parents[2] / "docs/radar.md").read_text(encoding="utf-8")
ROWS = [row.strip() for cell in re.findall(r"^\| ([^|]+) \|", PAGE, re.MULTILINE) for row in cell.split(",")]


def test_page_explains_every_kind_and_severity() -> None:
    assert set(get_args(Kind)) - set(ROWS) == set()
    assert {severity.value for severity in Severity} - set(ROWS) == set()
    known = {*get_args(Kind), *(severity.value for severity in Severity), "severity", "kind", "---"}
    assert set(ROWS) - known == set()
