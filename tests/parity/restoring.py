"""Enacting several worlds in one process: what a world did to it is undone before the next.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

_ROOMS = ("sglang.srt.platforms", "sglang.srt.plugins", "sglang.srt.distributed", "sglang.srt.runtime_context")
_REGISTRY = "sglang.srt.plugins.hook_registry"


@contextmanager
def restored() -> Iterator[None]:
    """Undo, afterwards, what the block did to the environment, imports, SGLang's modules and its registry of hooks."""
    registry: Any = importlib.import_module(_REGISTRY).HookRegistry
    modules = [sys.modules[name] for name in list(sys.modules) if _is_sglangs(name)]
    with ExitStack() as stack:
        for module in modules:
            stack.callback(_refill(vars(module)))
        for mutable in (os.environ, registry._hooks, *_memories(modules)):
            stack.callback(_refill(mutable))
        # What SGLang imports late registers operators with torch, which cannot be done twice.
        stack.callback(_refill(sys.modules, keeping="sglang."))
        for listed in (sys.meta_path, sys.path):
            stack.callback(_relist(listed))
        stack.callback(_reset(registry._patched))
        stack.callback(_context())
        yield


def _is_sglangs(name: str) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in _ROOMS) and isinstance(
        sys.modules[name], ModuleType
    )


def _memories(modules: Sequence[ModuleType]) -> Iterator[Any]:
    """What SGLang's modules remember in dictionaries."""
    for module in modules:
        for name, value in vars(module).items():
            if type(value) is dict and name.startswith(("_group", "_warn")):
                yield value


def _context() -> Callable[[], None]:
    """Forgets what the context of sizes and groups was told, where the release has one."""
    module = sys.modules.get("sglang.srt.runtime_context")
    context = vars(module)["get_parallel"]() if module is not None else None
    told = {name: dict(getattr(context, name)) for name in ("_overrides", "_stamp") if hasattr(context, name)}

    def forget() -> None:
        for name, value in told.items():
            setattr(context, name, value)

    return forget


def _refill(mutable: Any, keeping: str = "\0") -> Callable[[], None]:
    before = dict(mutable)

    def refill() -> None:
        # Only what changed: rewriting thousands of entries takes longer than a world.
        for name in [name for name in mutable if name not in before and not name.startswith(keeping)]:
            del mutable[name]
        for name, value in before.items():
            if mutable.get(name, refill) is not value:
                mutable[name] = value

    return refill


def _relist(mutable: list[Any]) -> Callable[[], None]:
    before = list(mutable)

    def relist() -> None:
        mutable[:] = before

    return relist


def _reset(mutable: set[Any]) -> Callable[[], None]:
    before = set(mutable)

    def reset() -> None:
        mutable.clear()
        mutable.update(before)

    return reset
