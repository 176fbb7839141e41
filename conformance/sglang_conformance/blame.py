"""Whose line a traceback ends in: the innermost that is not the kit's, the host's, Python's or a library's."""

from __future__ import annotations

import itertools
import os
import re
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

_PACKAGES = ("torch", "numpy", "hypothesis", "pytest", "_pytest", "pluggy", "sglang")
_PARTS = ("srt", "kernels", "jit_kernel")
"""Of SGLang, also where it is installed from its sources (0.5.11 and 0.5.23)."""
_STDLIB = tuple({f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib")})
_KIT = f"{Path(__file__).parent}{os.sep}"
_REFERENCE = "sglang_reference"


def vendor_line(frames: Iterable[Sequence[object]]) -> str:
    """``file:line`` of the innermost frame of vendor code, given (file, line, function), outermost first.

    Empty where there is none.
    """
    theirs = [(str(file), line) for file, line, _ in frames if is_vendor(str(file))]
    return f"{theirs[-1][0]}:{theirs[-1][1]}" if theirs else ""


def is_vendor(file: str) -> bool:
    """Whether a source file is neither the kit's, the host's, Python's nor a well-known library's."""
    if file.startswith(("<", _KIT)):
        return False
    parts = Path(file).parts
    if "site-packages" in parts or "dist-packages" in parts:
        home = next(place for place in ("site-packages", "dist-packages") if place in parts)
        package = parts[parts.index(home) + 1]
        return package.removesuffix(".py") not in (*_PACKAGES, _REFERENCE)
    from_checkout = not {("sglang", part) for part in _PARTS}.isdisjoint(itertools.pairwise(parts))
    return not file.startswith(_STDLIB) and _REFERENCE not in parts and not from_checkout


_STACK_LINE = re.compile(r'^  File "([^"]+)", line (\d+) in (\S+)', re.MULTILINE)


def stack_in(output: str) -> list[tuple[str, int, str]]:
    """The frames of a stack that faulthandler dumped among a probe's output, outermost first."""
    return [(file, int(line), name) for file, line, name in _STACK_LINE.findall(output)][::-1]
