"""The probe's side of ``--import``: what a plugin gives and registers when it is really imported.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..hosts.enter import enter
from ..probes.server import Probe
from .plugin import PLATFORMS


def look(probe: Probe, table: Mapping[str, Any], points: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The job: inside the reference of a release, import each entry point, given as group, name and value, and call it.

    Gives the classes that platforms name, the hooks that are registered (target, type, module and name of the hook),
    and a line for each entry point that failed.
    """
    enter("reference", table)
    from sglang.srt.plugins.hook_registry import HookRegistry

    classes: list[str] = []
    failed: list[str] = []
    for group, name, value in points:
        try:
            answer = _entry(value)()
        except BaseException as error:
            failed.append(f"{name} = {value}: {type(error).__name__}: {str(error).partition(chr(10))[0]}")
            continue
        if group == PLATFORMS and isinstance(answer, str):
            classes.append(answer)
    hooks = [
        (target, kind.name, getattr(hook, "__module__", "") or "", getattr(hook, "__qualname__", "") or "")
        for target, registered in HookRegistry._hooks.items()
        for kind, hook, *_ in registered
    ]
    return {"classes": classes, "hooks": hooks, "failed": failed}


def _entry(value: str) -> Callable[[], Any]:
    module, _, attribute = value.partition(":")
    found = importlib.import_module(module.strip())
    for part in filter(None, attribute.partition("[")[0].strip().split(".")):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError("it cannot be called")
    return found
