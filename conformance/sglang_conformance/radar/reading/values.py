"""What an expression of a plugin's code stands for, as far as reading can tell it for one release."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...contract.index import Symbol
from ...contract.syntax import FunctionNode


@dataclass(frozen=True)
class Unknown:
    """Something that only running the code would tell."""


UNKNOWN = Unknown()


@dataclass(frozen=True)
class Const:
    """A constant: a text, a number, True, False or None."""

    value: Any


@dataclass(frozen=True)
class Seq:
    """A tuple, list or set of known length."""

    items: tuple[Value, ...]


@dataclass(frozen=True)
class Table:
    """A dictionary of known keys."""

    items: tuple[tuple[Value, Value], ...]


@dataclass(frozen=True)
class Host:
    """Something of SGLang's: ``path`` is where it really is; ``symbol`` None where the index cannot tell what it is."""

    path: str
    symbol: Symbol | None = None


@dataclass(frozen=True)
class External:
    """Something of neither the plugin nor SGLang, by its dotted path: ``packaging.version.Version``."""

    path: str


@dataclass(frozen=True)
class Release:
    """A version as packaging compares them; ``text`` is what it was made of."""

    text: str


@dataclass(frozen=True)
class Releases:
    """A range of versions as packaging writes them: ``>=0.5.13,<0.5.22``."""

    text: str


@dataclass(frozen=True)
class Signature:
    """What ``inspect.signature`` gives for something of SGLang's: the names of its parameters."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class PluginModule:
    """A module of the plugin."""

    name: str


@dataclass(frozen=True, eq=False)
class Func:
    """A function or lambda of the plugin, with the scope that it was defined in.

    ``opaque``: a decorator that is not known here may have changed what it takes. ``marks`` are the decorators that say
    how it is bound: staticmethod, classmethod, property.
    """

    module: str
    node: FunctionNode | ast.Lambda
    scope: Scope
    opaque: bool = False
    marks: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Its name; that of a lambda is ``lambda``."""
        return "lambda" if isinstance(self.node, ast.Lambda) else self.node.name


@dataclass(frozen=True, eq=False)
class Class:
    """A class of the plugin: ``names`` is its body, as far as it is alive in this release.

    ``instance`` are the attributes that its methods set on ``self``.
    """

    module: str
    node: ast.ClassDef
    bases: tuple[Value, ...]
    names: dict[str, Value] = field(default_factory=dict)
    instance: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Its name."""
        return self.node.name


@dataclass(frozen=True)
class Instance:
    """An object of a class of the plugin; ``fields`` are those of a dataclass or named tuple, in their order."""

    of: Class
    fields: tuple[tuple[str, Value], ...] = ()


@dataclass(frozen=True)
class Bound:
    """A method as an object of the plugin has it: its first argument is given."""

    function: Func
    of: Class


@dataclass(frozen=True)
class Super:
    """What ``super()`` is for an object of class ``of``, in a method that stands in the body of ``after``."""

    of: Class
    after: Class


@dataclass(frozen=True)
class Either:
    """One of several, as a condition that cannot be told decides."""

    values: tuple[Value, ...]


Value = (
    Unknown
    | Const
    | Seq
    | Table
    | Host
    | External
    | Release
    | Releases
    | Signature
    | PluginModule
    | Func
    | Class
    | Instance
    | Bound
    | Super
    | Either
)


@dataclass(eq=False)
class Scope:
    """The names of a module, class body or function; ``outer`` are those it sees besides."""

    names: dict[str, Value]
    outer: Scope | None = None

    def get(self, name: str) -> Value | None:
        """What a name stands for, or None where nothing bound it."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None


def either(values: list[Value]) -> Value:
    """One value where all are the same, else all of them."""
    found: list[Value] = []
    for value in values:
        for part in alternatives(value):
            if part not in found:
                found.append(part)
    if len(found) == 1:
        return found[0]
    return Either(tuple(found)) if found else UNKNOWN


def alternatives(value: Value) -> tuple[Value, ...]:
    """All that a value may be."""
    return value.values if isinstance(value, Either) else (value,)


def known(values: Sequence[Value]) -> list[Value]:
    """All that values may be, without what cannot be told where something can: a setting that nobody made."""
    every = [each for value in values for each in alternatives(value)]
    return [each for each in every if each is not UNKNOWN] or every


def truth(value: Value) -> bool | None:
    """Whether it is true; None where that cannot be told."""
    if isinstance(value, Either):
        found = {truth(each) for each in value.values}
        return found.pop() if len(found) == 1 else None
    if isinstance(value, Const):
        return bool(value.value)
    if isinstance(value, (Seq, Table)):
        return bool(value.items)
    if isinstance(value, External):
        return False if value.path == "typing.TYPE_CHECKING" else None
    if isinstance(value, Host):
        known = value.symbol is not None and value.symbol.kind in ("module", "class", "function", "method")
        return True if known else None
    return True if isinstance(value, (Func, Class, Bound, PluginModule, Release)) else None
