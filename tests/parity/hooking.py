"""What hooks do: registered in any order and of any kind, applied, and seen by calling what they were aimed at.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import builtins
import functools
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import library
from .plain import described, read
from .witness import Witness, witness

TYPES = ("BEFORE", "AFTER", "AROUND", "REPLACE")
SHAPES = ("function", "class", "subclass", "instance", "partial", "builtin", "none", "method")
"""What is registered as a hook."""
WAYS = ("plain", "keyword", "decorator", "default", "sourced", "in plugin")
"""How it is registered."""


@dataclass(frozen=True)
class Hook:
    """One registration: its target, a name of :data:`TYPES` (or any text, passed on as it is), and what the hook does.

    ``does``: ``none``, ``changed``, ``odd``, ``empty``, ``twice``, or ``raises NAME``.
    """

    target: str
    type: str
    does: str = "changed"
    shape: str = "function"
    way: str = "plain"


@dataclass(frozen=True)
class Call:
    """A call of whatever stands at a path, with plain arguments."""

    path: str
    arguments: tuple[Any, ...] = ()
    keywords: dict[str, Any] | None = None


@dataclass(frozen=True)
class World:
    """The steps: ``hook``, ``call``, ``apply``, ``reset`` or ``survey``, with what each needs."""

    steps: tuple[tuple[str, Any], ...] = ()


def enact(data: Any) -> Any:
    """Make the library anew, take the steps, and tell what ran, what came of it, and what every name then holds."""
    with witness() as seen:
        library.alone()
        library.build(seen.tell)
        story = []
        for number, (name, given) in enumerate(read(World, data).steps):
            story.append(seen.step(name, functools.partial(_taken, name, number, given, seen)))
        return [*story, {"survey": library.survey(), "registry": _registered()}]


def _registry() -> Any:
    return importlib.import_module("sglang.srt.plugins.hook_registry")


def _registered() -> Any:
    registry = _registry().HookRegistry
    hooks = {
        target: [
            [kind.name if isinstance(kind, _registry().HookType) else kind, described(source)] for kind, _, source in of
        ]
        for target, of in registry._hooks.items()
    }
    return {"hooks": hooks, "patched": sorted(registry._patched)}


def _taken(name: str, number: int, given: Any, seen: Witness) -> Any:
    if name == "hook":
        return _register(read(Hook, given), f"hook{number}", seen)
    if name == "call":
        return _call(read(Call, given))
    if name == "apply":
        return _registry().HookRegistry.apply_hooks()
    if name == "reset":
        return _registry().HookRegistry.reset()
    return library.survey()


def _call(call: Call) -> Any:
    function = pkgutil.resolve_name(call.path)
    signature = None
    if inspect.isfunction(function):
        signature = str(inspect.signature(function))
    owner = call.path.rpartition(".")[0].rpartition(".")[2]
    mine: Any = sys.modules[library.LIBRARY]
    if owner in ("Base", "Child") and inspect.isfunction(function) and call.path.endswith(".method"):
        function = getattr(getattr(mine, owner)(), "method")  # noqa: B009
    return [signature, function(*call.arguments, **(call.keywords or {}))]


def _register(hook: Hook, name: str, seen: Witness) -> Any:
    module = _registry()
    kind = getattr(module.HookType, hook.type) if hook.type in TYPES else hook.type
    made = _made(hook, name, seen)
    register = module.HookRegistry.register
    if hook.way == "keyword":
        return register(target=hook.target, hook=made, hook_type=kind)
    if hook.way == "decorator":
        return module.plugin_hook(hook.target, type=kind)(made) is made
    if hook.way == "default":
        return module.plugin_hook(hook.target)(made) is made
    if hook.way == "sourced":
        return register(hook.target, made, kind, source=module.HookSource("vendor", None))
    if hook.way == "in plugin":
        token = module._current_plugin_source.set(module.HookSource("plugin", "vendor-plugin"))
        try:
            return register(hook.target, made, kind)
        finally:
            module._current_plugin_source.reset(token)
    return register(hook.target, made, kind)


def _made(hook: Hook, name: str, seen: Witness) -> Any:
    function = _function(hook, name, seen)
    mine: Any = sys.modules[library.LIBRARY]
    base = mine.Base if isinstance(mine.Base, type) else object
    shapes: dict[str, Callable[[], Any]] = {
        "function": lambda: function,
        "class": lambda: type(name, (), {"__module__": "vendor", "method": function, "make": classmethod(function)}),
        "subclass": lambda: type(name, (base,), {"__module__": "vendor", "method": function}),
        "instance": lambda: type(name, (), {"__call__": lambda self, *args, **kwargs: function(*args, **kwargs)})(),
        "partial": lambda: functools.partial(function),
        "builtin": lambda: max,
        "none": lambda: None,
        "method": lambda: type(name, (), {"hook": lambda self, *args, **kwargs: function(*args, **kwargs)})().hook,
    }
    return shapes[hook.shape]()


def _function(hook: Hook, name: str, seen: Witness) -> Callable[..., Any]:
    def function(*args: Any, **kwargs: Any) -> Any:
        seen.tell(name, len(args), sorted(kwargs))
        if hook.does.startswith("raises "):
            raise getattr(builtins, hook.does.removeprefix("raises "))("as the world says")
        if hook.does == "none":
            return None
        if hook.does in ("odd", "empty"):
            return 5 if hook.does == "odd" else ()
        if hook.type == "BEFORE":
            return ((*args, name), kwargs)
        if hook.type == "AROUND":
            first = args[0](*args[1:], **kwargs)
            return (name, first, args[0](*args[1:], **kwargs)) if hook.does == "twice" else (name, first)
        return (name, *args[:1])

    function.__module__, function.__name__, function.__qualname__ = "vendor", name, name
    return function
