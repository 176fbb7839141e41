"""A plugin's hooks, seen: when they are put on their targets, and each time one of them runs.

Rests on ``HookRegistry._apply_target`` and ``_wrap_fn``, which every release has (0.5.11 to 0.5.23,
srt/plugins/hook_registry.py).

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable
from typing import Any

from . import moments
from .recording import Recorder
from .trace import BEFORE
from .whose import caller


def patch(module: types.ModuleType, recorder: Recorder, undo: contextlib.ExitStack) -> None:
    """Have the registry tell the recorder what it applies, and the hooks when they run.

    Hooks that were applied before are told, but not when they run. A class that replaces another is put in its place as
    it is, so it is not seen to run either.
    """
    target = ""

    def applying(apply: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(apply)
        def applied(registry: Any, name: str, hooks: Any) -> Any:
            nonlocal target
            target = name
            with recorder.recorded("applied", name, caller(), [_told(*hook) for hook in hooks]):
                return apply(registry, name, hooks)

        return applied

    def wrapping(wrap: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(wrap)
        def wrapped(original_fn: Any, hook: Any, hook_type: Any) -> Any:
            if not isinstance(hook, type):
                hook = _running(recorder, target, _told(hook_type, hook), hook)
            return wrap(original_fn, hook, hook_type)

        return wrapped

    registry = module.HookRegistry
    for name, hooks in registry._hooks.items():
        if name in registry._patched:
            recorder.end(recorder.begin("applied", name, arguments=[_told(*hook) for hook in hooks], detail=BEFORE))
    moments.put(registry, "_apply_target", applying, undo)
    moments.put(module, "_wrap_fn", wrapping, undo)


def _running(recorder: Recorder, target: str, told: str, hook: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        return recorder.call("hook", target, told, hook, args, kwargs, skip=len(args))

    with contextlib.suppress(Exception):  # a hook may be any callable object
        functools.update_wrapper(run, hook)
    return run


def _told(hook_type: Any, hook: Any, source: Any = None) -> str:
    """A hook as ``AFTER vendor.hooks.watch``, or ``REPLACE class vendor.hooks.Runner``."""
    kind = getattr(hook_type, "name", str(hook_type))
    inner = hook.func if isinstance(hook, functools.partial) else hook
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    what = "class " if isinstance(hook, type) else ""
    return f"{kind} {what}{getattr(inner, '__module__', None) or type(inner).__module__}.{name}"
