"""Whose code did something: the line that called, the line that an error came from.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import sys
from types import FrameType

from .trace import NOWHERE, Origin, Place

_CORE = frozenset({"sglang", "sglang_reference"})
_PASSED_OVER = sys.stdlib_module_names | {"torch"}
_HERE = __name__.rpartition(".")[0]


def caller(*over: str) -> Place:
    """The line of code that called: the innermost that is neither the journey's own, the standard library nor torch.

    Modules named in ``over`` are passed over as well.
    """
    frame = calling(*over)
    if frame is None:
        return NOWHERE
    name = _module(frame)
    return Place(_path(name, frame), frame.f_lineno, origin(name))


def born(error: BaseException) -> Place:
    """The line that an error came from: the vendor's innermost, else the core's."""
    places = []
    traceback = error.__traceback__
    while traceback is not None:
        frame, line = traceback.tb_frame, traceback.tb_lineno
        name = _module(frame)
        if not name.startswith(_HERE) and name.partition(".")[0] not in _PASSED_OVER:
            places.append(Place(_path(name, frame), line, origin(name)))
        traceback = traceback.tb_next
    theirs = [place for place in places if place.origin == "vendor"]
    return (theirs or places or [NOWHERE])[-1]


def calling(*over: str) -> FrameType | None:
    """The frame of that line."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = _module(frame)
        if not name.startswith(_HERE) and name.partition(".")[0] not in _PASSED_OVER and name not in over:
            return frame
        frame = frame.f_back
    return None


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def origin(module: str) -> Origin:
    """Whose code a module is."""
    top = module.partition(".")[0]
    return "core" if top in _CORE else "kit" if top == "sglang_conformance" else "vendor" if top else "unknown"


def _path(module: str, frame: FrameType) -> str:
    names = module.removeprefix("sglang.").replace(".", "/")
    return f"{names}/__init__.py" if "__path__" in frame.f_globals else f"{names}.py"
