"""The rules of hooks, told a second time: what a hook program must give, computed without SGLang's registry.

The rules (SGLang 0.5.11 and 0.5.23, srt/plugins/hook_registry.py): targets whose class is replaced come first, the rest
by name; within a target REPLACE stands innermost, the others around it in the order of registration. Names, classes and
attribute look-up are modelled as plain data; nothing here is ever patched.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .programs import CLASS_ACTIONS, UNLUCKY, Call, Hook, Outcome, Program, Trace


@dataclass(frozen=True)
class Function:
    """A function of the module; ``owned``: its first argument is an instance or a class."""

    label: str
    owned: bool
    calls_parent: bool = False
    of_hook: bool = False


@dataclass(frozen=True)
class Bound:
    """A callable with its first argument given."""

    inner: Callable_
    first: Value


@dataclass(frozen=True)
class Layer:
    """A callable with one hook around it."""

    inner: Callable_
    hook: Hook


@dataclass(frozen=True)
class Entry:
    """What a class holds under a name: ``kind`` is function, class or static."""

    kind: str
    value: Callable_


@dataclass
class Class:
    """A class: its name, its parent, its own entries."""

    name: str
    parent: Class | None
    table: dict[str, Entry] = field(default_factory=dict)

    def find(self, name: str) -> Entry | None:
        """The entry that look-up finds: its own or the nearest inherited one."""
        if name in self.table or self.parent is None:
            return self.table.get(name)
        return self.parent.find(name)


@dataclass(frozen=True)
class Instance:
    """An instance of a class."""

    name: str


Callable_ = Function | Bound | Layer
Value = Class | Instance | int


class Raised(Exception):
    """A call raised; its text is the kind, as an outcome gives it."""


def predict(program: Program) -> list[tuple[Trace, Outcome]]:
    """The trace and the outcome of each call of a program."""
    world = _World()
    targets = dict.fromkeys(hook.target for hook in program.hooks)
    hooks = {target: [h for h in program.hooks if h.target == target] for target in targets}
    replaces_class = {target: any(h.action in CLASS_ACTIONS for h in hooks[target]) for target in targets}
    for target in sorted(targets, key=lambda t: (not replaces_class[t], t)):
        world.apply(target, sorted(hooks[target], key=lambda h: h.kind != "REPLACE"))
    return [world.outcome(call) for call in program.calls]


class _World:
    """The module's names and classes as they stand after hooks were applied."""

    def __init__(self) -> None:
        methods = {name: Entry("function", Function(f"Parent.{name}", True)) for name in ("method", "shared")}
        made = Entry("class", Function("Parent.make", True))
        plain = Entry("static", Function("Parent.plain", False))
        self._original = Class("Parent", None, {**methods, "make": made, "plain": plain})
        child = Class("Child", self._original, {"method": Entry("function", Function("Child.method", True, True))})
        self._classes = {"Parent": self._original, "Child": child}
        self._free: Callable_ = Function("free", False)
        self._trace: Trace = []

    def apply(self, target: str, hooks: list[Hook]) -> None:
        """Put hooks on a target; one that is absent, or a class with other hooks than REPLACE, stays as it is."""
        if target == "Parent":
            if all(hook.kind == "REPLACE" for hook in hooks):
                self._classes["Parent"] = self._replacing(hooks[-1])
            return
        owner_name, _, name = target.rpartition(".")
        if target == "free":
            self._free = _layered(self._free, hooks)
        elif (owner := self._classes.get(owner_name)) and (found := owner.find(name)):
            kind = found.kind if name in owner.table else "function"  # an inherited one is met already bound
            inner: Callable_ = Bound(found.value, owner) if kind != found.kind == "class" else found.value
            owner.table[name] = Entry(kind, _layered(inner, hooks))

    def _replacing(self, hook: Hook) -> Class:
        parent = self._original if hook.action == "subclass" else None
        own = Function(f"{hook.label}.method", True, of_hook=True)
        return Class(hook.label, parent, {"method": Entry("function", own)})

    def outcome(self, call: Call) -> tuple[Trace, Outcome]:
        """The trace and the outcome of one call."""
        self._trace = []
        try:
            return self._trace, ("returned", self._call(*self._look_up(call), call.kwargs))
        except Raised as raised:
            return self._trace, ("raised", str(raised))

    def _look_up(self, call: Call) -> tuple[Callable_, tuple[Any, ...]]:
        if call.path == "free":
            return self._free, call.args
        owner_name, _, name = call.path.rpartition(".")
        owner = self._classes[owner_name]
        entry = owner.find(name)
        if entry is None:
            raise Raised("AttributeError")
        if entry.kind == "class":
            return entry.value, (owner, *call.args)
        first = (Instance(owner.name),) if entry.kind == "function" and call.through == "instance" else ()
        return entry.value, (*first, *call.args)

    def _call(self, callee: Callable_, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if isinstance(callee, Bound):
            return self._call(callee.inner, (callee.first, *args), kwargs)
        if isinstance(callee, Layer):
            return getattr(self, f"_{callee.hook.kind.lower()}")(callee, args, kwargs)
        return self._function(callee, args, kwargs)

    def _function(self, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        names = ("self", "x") if function.owned else ("x",)
        given = dict(zip(names, args, strict=False))
        if len(args) > len(names) or set(given) & set(kwargs) or set(given) | (set(kwargs) - {"y"}) != set(names):
            raise Raised("TypeError")
        values = {**given, "y": 0, **kwargs}
        shown = tuple(_shown(values[name]) for name in names)
        self._trace.append((function.label, shown, (("y", values["y"]),)))
        if function.of_hook:
            return (function.label, values["x"], values["y"])
        if values["x"] == UNLUCKY:
            raise Raised(function.label)
        if function.calls_parent:
            entry = self._original.table["method"]
            return (function.label, self._call(entry.value, (values["self"], values["x"]), {"y": values["y"]}))
        return (function.label, shown, values["y"])

    def _note(self, hook: Hook, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._trace.append((hook.label, tuple(map(_shown, args)), tuple(sorted(kwargs.items()))))
        if hook.action == "raise":
            raise Raised(hook.label)

    def _before(self, layer: Layer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        self._note(layer.hook, args, kwargs)
        if layer.hook.action == "add" and args and isinstance(args[-1], int):
            args = (*args[:-1], args[-1] + 1)
        if layer.hook.action == "keyword":
            kwargs = {**kwargs, "y": 7}
        return self._call(layer.inner, args, kwargs)

    def _after(self, layer: Layer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        result = self._call(layer.inner, args, kwargs)
        self._note(layer.hook, (result, *args), kwargs)
        if layer.hook.action == "wrap":
            return (layer.hook.label, result)
        return 0 if layer.hook.action == "zero" else result

    def _around(self, layer: Layer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        self._note(layer.hook, args, kwargs)
        if layer.hook.action == "skip":
            return (layer.hook.label, "skipped")
        if layer.hook.action == "twice":
            self._call(layer.inner, args, kwargs)
        return (layer.hook.label, self._call(layer.inner, args, kwargs))

    def _replace(self, layer: Layer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        self._note(layer.hook, args, kwargs)
        return (layer.hook.label, tuple(map(_shown, args)))


def _layered(inner: Callable_, hooks: list[Hook]) -> Callable_:
    for hook in hooks:
        inner = Layer(inner, hook)
    return inner


def _shown(value: Any) -> Any:
    if isinstance(value, Class):
        return value.name
    return f"<{value.name}>" if isinstance(value, Instance) else value
