"""SGLang's own modules, as far as this host has them: what a platform's classes are made together with.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any

from ...hosts import lacking, serving
from .. import expect
from . import within
from .lacking import raised_in_sglang


def module(name: str) -> ModuleType:
    """SGLang's module of that name below ``sglang``; NotCovered, of some kind, where this host cannot import it."""
    found = _imported(name)
    if isinstance(found, ModuleType):
        return found
    raise found


@lru_cache(maxsize=64)
def _imported(name: str) -> ModuleType | Exception:
    """The module, or why there is none: an import that failed may seem to succeed when it is tried again."""
    try:
        return importlib.import_module(f"sglang.{name}")
    except Exception as error:
        if expect.is_uncovered(error):
            return error
        return serving.lacking(f"SGLang's {name} does not import on this host: {_told(error)}")


def part(name: str, *modules: str) -> Any:
    """SGLang's class or function of that name, in the first of these modules that the release has."""
    for each in modules[:-1]:
        try:
            return getattr(module(each), name)
        except (ImportError, AttributeError):
            continue
    found = getattr(module(modules[-1]), name, None)
    if found is None:
        raise serving.lacking(f"this SGLang has no {name} in sglang.{modules[-1]}")
    return found


# Where SGLang's own code asks for a server's settings and groups, and says that there are none.
_OF_A_SERVER = (
    "sglang.srt.runtime_context",
    "sglang.srt.server_args",
    "sglang.srt.distributed.parallel_state",
    "sglang.srt.layers.dp_attention",
)


def attempt(call: str, action: Callable[[], Any], *, where: str = "", cause: str = "") -> Any:
    """What an action gives; a violation where it raises.

    NotCovered where it does so for want of a package that SGLang's own code wants, or of what a server is.
    """
    try:
        return expect.attempt(call, action, where=where, cause=cause).value
    except expect.Violation as violation:
        raised = violation.__context__
        if raised is not None and raised_in_sglang(raised):
            raise serving.lacking(f"{call} cannot be seen on this host: {_told(raised)}") from violation
        if raised is not None and _innermost(raised) in _OF_A_SERVER:
            why = within.unsettled() or _told(raised)
            raise serving.lacking(f"{call} is only to be made within a server: {why}") from violation
        raise


def _innermost(error: BaseException) -> str:
    """The module whose line raised an error."""
    trace, name = error.__traceback__, ""
    while trace is not None:
        name, trace = str(trace.tb_frame.f_globals.get("__name__", "")), trace.tb_next
    return name


def _told(error: BaseException) -> str:
    """Why, and how to mend it where a package lacks."""
    missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if missing and missing != "sglang":
        return f"it lacks {missing}; {lacking.command([missing])}"
    return f"{type(error).__name__}: {error}"
