"""What SGLang's hook registry must do, with a vendor's plugins loaded: small scenes on modules made for them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import functools
import logging
import sys
import types
from typing import Any

from .. import expect
from .programs import Program, execute, few_modules, fresh_name, make_module
from .rules import predict

_PATCHED = "SGLang's registry behaves as it should without this plugin: the plugin has patched it"


def _registry() -> tuple[Any, Any]:
    """SGLang's registry, emptied, and its hook types; what it logs of a scene is not shown."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    logging.disable(logging.CRITICAL)
    HookRegistry.reset()
    return HookRegistry, HookType


def run(program: Program, *, applications: int = 1) -> None:
    """Run a hook program and compare each call's trace and outcome with the rules."""
    registry, types_ = _registry()
    seen = execute(program, registry, types_, applications=applications)
    for call, got, wanted in zip(program.calls, seen, predict(program), strict=True):
        hooks = "; ".join(f"{h.kind} {h.label} ({h.action}) on {h.target}" for h in program.hooks)
        expect.that(
            got == wanted,
            expected=_told(*wanted),
            seen=_told(*got),
            call=f"{call} after {hooks}, applied {applications} time{'s' * (applications > 1)}",
            cause=_PATCHED,
        )


def _told(trace: list[tuple[Any, ...]], outcome: tuple[str, Any]) -> str:
    order = " > ".join(step[0] for step in trace) or "nothing ran"
    return f"{order}; {outcome[0]} {outcome[1]!r}; arguments {[step[1:] for step in trace]}"


def rebind(kind: str) -> None:
    """Hook a function that another module holds: under two names, and by ways that a registry cannot reach."""
    registry, types_ = _registry()
    trace: list[tuple[Any, ...]] = []
    module, importer = make_module(fresh_name(), trace), types.ModuleType(fresh_name())
    original = module.free

    def default(function: Any = original) -> Any:
        return function

    held = {"entry": original}
    vars(importer).update(free=original, alias=original, table=held, partial=functools.partial(original, 1))
    sys.modules[importer.__name__] = importer
    registry.register(f"{module.__name__}.free", lambda *args, **kwargs: None, types_[kind])
    with few_modules(module.__name__, importer.__name__):
        registry.apply_hooks()
    patched = module.free
    told = f"{kind} on module.free, which another module had imported"
    expect.that(patched is not original, expected="another function", seen="the original", call=told, cause=_PATCHED)
    for name in ("free", "alias"):
        same = getattr(importer, name) is patched
        expect.that(same, expected=f"importer.{name} is the hooked function", seen="the original", call=told)
    for name, value in (
        ("a dict's entry", held["entry"]),
        ("a partial", importer.partial.func),
        ("a default argument", default()),
    ):
        expect.that(value is original, expected=f"{name} keeps the original", seen="another function", call=told)
    for gone in (module, importer):
        del sys.modules[gone.__name__]


def replace_class() -> None:
    """Replace a class that another module imported, hook its methods, and look at the types."""
    registry, types_ = _registry()
    module, importer = make_module(fresh_name(), []), types.ModuleType(fresh_name())
    original = module.Parent
    earlier = module.Child()
    importer.Parent = original  # type: ignore[attr-defined]
    sys.modules[importer.__name__] = importer
    replacing = type("Replacing", (original,), {})
    home = module.__name__
    registry.register(f"{home}.Child.method", lambda *args, **kwargs: None, types_.BEFORE)
    registry.register(f"{home}.Parent", replacing, types_.REPLACE)
    with few_modules(home, importer.__name__):
        registry.apply_hooks()
    told = "REPLACE of module.Parent with a subclass, and a hook on a subclass of the original"
    expect.that(module.Parent is replacing, expected="Replacing", seen=repr(module.Parent), call=told, cause=_PATCHED)
    same = importer.Parent is replacing
    expect.that(same, expected="Replacing in the importer too", seen=repr(importer.Parent), call=told, cause=_PATCHED)
    for instance, kind in ((module.Parent(), replacing), (module.Parent(), original), (earlier, original)):
        text = f"isinstance of {kind.__name__}"
        expect.that(isinstance(instance, kind), expected=text, seen=f"{type(instance).__mro__}", call=told)
    for gone in (module, importer):
        del sys.modules[gone.__name__]


def refuse_class(kind: str) -> None:
    """Register a class as a hook of another type than REPLACE."""
    registry, types_ = _registry()
    target = f"{fresh_name()}.free"
    call = f"HookRegistry.register({target!r}, a class, HookType.{kind})"
    try:
        registry.register(target, type("Hook", (), {}), types_[kind])
    except TypeError:
        return
    expect.fail(expected="TypeError", seen="no error", call=call, cause=_PATCHED)


def refuse_target(kind: str) -> None:
    """Register hooks that cannot be applied beside one that can: a class, and targets that are not there."""
    registry, types_ = _registry()
    trace: list[tuple[Any, ...]] = []
    module = make_module(fresh_name(), trace)
    home, parent = module.__name__, module.Parent
    wrong = (f"{home}.Parent", f"{home}.absent", f"{home}.Parent.absent", "undotted", f"absent_{home}.free")
    for target in (*wrong, f"{home}.free"):
        registry.register(target, lambda *args, **kwargs: trace.append(("hook", args)), types_[kind])
    call = f"apply_hooks() with {kind} hooks on a class, on absent names and on a function"
    with few_modules(home):
        expect.attempt(call, registry.apply_hooks, cause=_PATCHED)
    expect.that(module.Parent is parent, expected="the class untouched", seen=repr(module.Parent), call=call)
    expect.equal(sorted(registry._patched), [f"{home}.free"], call=f"{call}: the targets patched", cause=_PATCHED)
    module.free(1)
    expect.that(any(step[0] == "hook" for step in trace), expected="the right hook runs", seen=f"{trace}", call=call)
    del sys.modules[home]
