"""Hook programs: random registrations on a small module made for them, and the calls that show what they do.

The module (:func:`make_module`)::

    free(x, *, y=0)
    class Parent          method, shared, make (classmethod), plain (staticmethod), each (x, *, y=0)
    class Child(Parent)   method, which calls its parent's; the rest is inherited

Every function and every hook notes its name and arguments in a trace. :mod:`.rules` says what a program must give.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any

from hypothesis import strategies as st

Trace = list[tuple[Any, ...]]
Outcome = tuple[str, Any]
"""What a call came to: ``("returned", value)`` or ``("raised", its kind)``."""

UNLUCKY = 13
"""The argument at which a function of the module raises."""

ACTIONS: Mapping[str, tuple[str, ...]] = {
    "BEFORE": ("none", "add", "keyword", "raise"),
    "AFTER": ("none", "wrap", "zero", "raise"),
    "AROUND": ("call", "skip", "twice", "raise"),
    "REPLACE": ("value", "raise"),
}
CLASS_ACTIONS = ("subclass", "unrelated")
FUNCTIONS = (
    "free",
    "Parent.method",
    "Parent.make",
    "Parent.plain",
    "Child.method",
    "Child.shared",
    "Child.make",
    "Child.plain",
)
ABSENT = ("absent", "Parent.absent", "absent.method")
_USUAL = tuple((kind, action) for kind, actions in ACTIONS.items() for action in actions)
_ON_CLASSES = (("REPLACE", "subclass"), ("REPLACE", "unrelated"), ("AROUND", "call"))
_GIVEN: tuple[tuple[tuple[int, ...], dict[str, int]], ...] = (
    ((1,), {}),
    ((2,), {"y": 5}),
    ((), {"x": 3}),
    ((UNLUCKY,), {}),
)
_KEPT = ("builtins", "importlib", "logging", "pkgutil", "sglang", "sglang_reference", "sys", "traceback")
_TARGETS = st.sampled_from((*FUNCTIONS, *FUNCTIONS, *ABSENT))
_numbers = count(1)


class Boom(Exception):
    """What hooks and functions of a program raise; its text is who raised it."""


@dataclass(frozen=True)
class Hook:
    """One registration: ``kind`` is the name of a HookType, ``action`` what the hook does when it is called."""

    label: str
    target: str
    kind: str
    action: str


@dataclass(frozen=True)
class Call:
    """One call: of the module's function, or of a method through its class or through an instance."""

    path: str
    through: str
    args: tuple[int, ...]
    kwargs: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        owner, _, name = self.path.rpartition(".")
        given = [*map(str, self.args), *(f"{key}={value}" for key, value in self.kwargs.items())]
        return f"{owner}{'()' if self.through == 'instance' else ''}{'.' if owner else ''}{name}({', '.join(given)})"


@dataclass(frozen=True)
class Program:
    """Registrations in their order, then calls."""

    hooks: tuple[Hook, ...]
    calls: tuple[Call, ...]


@st.composite
def programs(draw: st.DrawFn, *, classes: bool) -> Program:
    """Programs of up to five registrations, on one to three targets, and calls that meet them.

    With ``classes`` the class ``Parent`` is among the targets: replaced, or hooked in a way that must be refused.
    """
    targets = draw(st.lists(_TARGETS, min_size=1, max_size=2, unique=True))
    steps = draw(st.lists(st.tuples(st.sampled_from(targets), st.sampled_from(_USUAL)), min_size=1, max_size=4))
    if classes:
        replacing = ("Parent", draw(st.sampled_from(_ON_CLASSES)))
        steps.insert(draw(st.integers(0, len(steps))), replacing)
    hooks = tuple(Hook(f"hook{number}", target, *what) for number, (target, what) in enumerate(steps, 1))
    meeting = [call for target in targets for call in _meeting(target)] or list(_meeting("Child.method"))
    calls = draw(st.lists(st.sampled_from(meeting), min_size=1, max_size=3))
    return Program(hooks, tuple(calls))


@cache
def _meeting(target: str) -> tuple[Call, ...]:
    """The calls that may come across a hook on the target."""
    if target == "free":
        return tuple(Call("free", "module", *given) for given in _GIVEN)
    owner, _, name = target.rpartition(".")
    ways = ("instance", "class") if name in ("make", "plain") else ("instance",)
    owners = {"Parent": ("Parent", "Child"), "Child": ("Child",)}[owner] if target not in ABSENT else ()
    return tuple(Call(f"{o}.{name}", way, *given) for o in owners for way in ways for given in _GIVEN)


def fresh_name() -> str:
    """A module's name that this process has not used."""
    return f"hooked_module_{next(_numbers)}"


def make_module(name: str, trace: Trace) -> types.ModuleType:
    """The module that a program is applied to, importable by its name."""

    def note(label: str, *args: Any, y: int) -> tuple[Any, ...]:
        shown = tuple(map(render, args))
        trace.append((label, shown, (("y", y),)))
        if args[-1] == UNLUCKY:
            raise Boom(label)
        return (label, shown, y)

    def free(x: int, *, y: int = 0) -> Any:
        return note("free", x, y=y)

    class Parent:
        def method(self, x: int, *, y: int = 0) -> Any:
            return note("Parent.method", self, x, y=y)

        def shared(self, x: int, *, y: int = 0) -> Any:
            return note("Parent.shared", self, x, y=y)

        @classmethod
        def make(cls, x: int, *, y: int = 0) -> Any:
            return note("Parent.make", cls, x, y=y)

        @staticmethod
        def plain(x: int, *, y: int = 0) -> Any:
            return note("Parent.plain", x, y=y)

    class Child(Parent):
        def method(self, x: int, *, y: int = 0) -> Any:
            note("Child.method", self, x, y=y)
            return ("Child.method", super().method(x, y=y))

    module = types.ModuleType(name)
    vars(module).update(free=free, Parent=Parent, Child=Child)
    for member in (free, Parent, Child):
        member.__module__ = name
    sys.modules[name] = module
    return module


def make_hook(hook: Hook, trace: Trace, parent: type) -> Callable[..., Any]:
    """The function or class that a registration registers."""
    if hook.action in CLASS_ACTIONS:
        return _replacing_class(hook, trace, parent)

    def seen(*args: Any, **kwargs: Any) -> None:
        trace.append((hook.label, tuple(map(render, args)), tuple(sorted(kwargs.items()))))
        if hook.action == "raise":
            raise Boom(hook.label)

    def before(*args: Any, **kwargs: Any) -> Any:
        seen(*args, **kwargs)
        if hook.action == "add" and args and isinstance(args[-1], int):
            return (*args[:-1], args[-1] + 1), kwargs
        return (args, {**kwargs, "y": 7}) if hook.action == "keyword" else None

    def after(result: Any, *args: Any, **kwargs: Any) -> Any:
        seen(result, *args, **kwargs)
        return {"wrap": (hook.label, result), "zero": 0}.get(hook.action)

    def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        seen(*args, **kwargs)
        if hook.action == "twice":
            original(*args, **kwargs)
        return (hook.label, "skipped") if hook.action == "skip" else (hook.label, original(*args, **kwargs))

    def replace(*args: Any, **kwargs: Any) -> Any:
        seen(*args, **kwargs)
        return (hook.label, tuple(map(render, args)))

    return {"BEFORE": before, "AFTER": after, "AROUND": around, "REPLACE": replace}[hook.kind]


def _replacing_class(hook: Hook, trace: Trace, parent: type) -> type:
    def method(self: Any, x: int, *, y: int = 0) -> Any:
        trace.append((f"{hook.label}.method", (render(self), x), (("y", y),)))
        return (f"{hook.label}.method", x, y)

    bases: tuple[type, ...] = (parent,) if hook.action == "subclass" else ()
    return type(hook.label, bases, {"method": method})


def render(value: Any) -> Any:
    """A value as a trace holds it: instances and classes of the module by their names."""
    if isinstance(value, type):
        return value.__name__
    plain = isinstance(value, (int, str, tuple)) or value is None
    return value if plain else f"<{type(value).__name__}>"


def execute(program: Program, registry: Any, hook_types: Any, *, applications: int = 1) -> list[tuple[Trace, Outcome]]:
    """Register the hooks with SGLang's registry, apply them, make the calls: the trace and outcome of each."""
    registry.reset()
    trace: Trace = []
    module = make_module(fresh_name(), trace)
    parent = module.Parent
    for hook in program.hooks:
        registry.register(f"{module.__name__}.{hook.target}", make_hook(hook, trace, parent), hook_types[hook.kind])
    for _ in range(applications):
        with few_modules(module.__name__):
            registry.apply_hooks()
    found = []
    for call in program.calls:
        trace.clear()
        outcome = _outcome(module, call)
        found.append((list(trace), outcome))
    registry.reset()
    del sys.modules[module.__name__]
    return found


@contextlib.contextmanager
def few_modules(*names: str) -> Iterator[None]:
    """Meanwhile ``sys.modules`` holds the host and these alone: applying a hook looks through every module there is."""
    aside = {n: m for n, m in sys.modules.items() if n not in names and n.partition(".")[0] not in _KEPT}
    for name in aside:
        del sys.modules[name]
    try:
        yield
    finally:
        sys.modules.update(aside)


def _outcome(module: types.ModuleType, call: Call) -> Outcome:
    owner_name, _, name = call.path.rpartition(".")
    owner: Any = getattr(module, owner_name) if owner_name else module
    try:
        callee: Any = getattr(owner() if call.through == "instance" else owner, name)
        return ("returned", render(callee(*call.args, **call.kwargs)))
    except Boom as boom:
        return ("raised", str(boom))
    except (TypeError, AttributeError) as error:
        return ("raised", type(error).__name__)
