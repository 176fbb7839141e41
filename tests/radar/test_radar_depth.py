"""Code that is long, deep or goes round in circles ends the walk of no plugin."""

from __future__ import annotations

import sys
from pathlib import Path

from .made import NEW, found, judged, platform, write


def test_chain_of_imports_is_followed_to_its_end(tmp_path: Path) -> None:
    files = {f"vendor/m{i}.py": f"from vendor.m{i + 1} import x" for i in range(150)}
    files["vendor/m150.py"] = "from sglang.srt.lost import old\nx = 1"
    folder = write(tmp_path, {**files, "vendor/platform.py": platform("", "from vendor.m0 import x")})
    assert found(folder, NEW) == [("import", "breaks", "sglang.srt.lost")]


def test_circles_end(tmp_path: Path) -> None:
    before = """
from vendor import other
def once(n):
    return twice(n) if n else once(n + 1)
def twice(n):
    return once(n - 1)
class Loop(Loop2 if 'Loop2' in globals() else object):
    pass
value = once(3)
value = value + value
"""
    files = {
        "vendor/platform.py": platform("", before),
        "vendor/other.py": "from vendor import platform\nplatform.value",
    }
    assert found(write(tmp_path, files), NEW) == []


def test_what_is_too_deep_is_told_and_the_rest_judged(tmp_path: Path) -> None:
    limit = sys.getrecursionlimit()
    deep = "def deep():\n    return " + "(" * 90 + "1" + ")" * 90 + "".join(f".a{i}" for i in range(4000))
    folder = write(
        tmp_path, {"vendor/deep.py": deep, "vendor/platform.py": platform("", "from sglang.srt.lost import old")}
    )
    assert found(folder, NEW) == [("import", "breaks", "sglang.srt.lost")]
    assert sys.getrecursionlimit() == limit


def test_text_that_grows_without_end_is_let_go(tmp_path: Path) -> None:
    before = (
        "x = 'ab'\n"
        + "x = x + x\n" * 80
        + "y = '%999999999d' % 1\nz = '{:999999999}'.format(1)\nr = list(range(10**12))"
    )
    folder = write(tmp_path, {"vendor/platform.py": platform("", before)})
    assert judged(folder, NEW).not_judged == ()
