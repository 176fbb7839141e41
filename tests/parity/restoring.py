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
        for mutable in (os.environ, sys.modules, registry._hooks, *_memories(modules)):
            stack.callback(_refill(mutable))
        for listed in (sys.meta_path, sys.path):
            stack.callback(_relist(listed))
        stack.callback(_reset(registry._patched))
        yield


def _is_sglangs(name: str) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in _ROOMS) and isinstance(
        sys.modules[name], ModuleType
    )


def _memories(modules: Sequence[ModuleType]) -> Iterator[Any]:
    """What SGLang's modules and its context remember in dictionaries."""
    for module in modules:
        yield from (
            value
            for name, value in vars(module).items()
            if type(value) is dict and name.startswith(("_group", "_warn"))
        )
        if module.__name__ == "sglang.srt.runtime_context":
            context = vars(module)["get_parallel"]()
            yield from (getattr(context, name) for name in ("_overrides", "_stamp") if hasattr(context, name))


def _refill(mutable: Any) -> Callable[[], None]:
    before = dict(mutable)

    def refill() -> None:
        # Only what changed: rewriting thousands of entries takes longer than a world.
        for name in [name for name in mutable if name not in before]:
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
