"""What a plugin defines: functions with their decorators, and classes with what is alive in their bodies."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace

from ...contract import syntax
from ...contract.syntax import FunctionNode
from .functions import Functions
from .values import (
    UNKNOWN,
    Bound,
    Class,
    Func,
    Host,
    Scope,
    Seq,
    Value,
    alternatives,
)

_BINDING = frozenset({"staticmethod", "classmethod", "property", "cached_property", "functools.cached_property"})

_PROPERTIES = frozenset({"cached_property", "functools.cached_property", "setter", "getter", "deleter"})

_SETS = frozenset({"setter", "deleter"})

_HARMLESS = frozenset(
    {
        "override",
        "overload",
        "final",
        "abstractmethod",
        "wraps",
        "lru_cache",
        "cache",
        "contextmanager",
        "setter",
        "getter",
        "deleter",
        "no_grad",
        "inference_mode",
        "plugin_hook",
    }
)


class Definitions(Functions):
    """Walks definitions."""

    def _FunctionDef(self, node: FunctionNode) -> None:  # noqa: N802
        names = [self._decorator(decorator) for decorator in node.decorator_list]
        for default in (*node.args.defaults, *node.args.kw_defaults):
            self.eval(default)
        marks = frozenset(name.rpartition(".")[2] for name in names if name in _BINDING)
        marks |= {"property"} if not _PROPERTIES.isdisjoint(names) else frozenset()
        opaque = any(n not in _BINDING and n.rpartition(".")[2] not in _HARMLESS for n in names)
        function = Func(self.name, node, self.scope, opaque, marks)
        if _SETS.isdisjoint(names) or node.name not in self.scope.names:
            self.scope.names[node.name] = function
        self.defined.append((function, None))
        self._hooked(node, function)
        self._applied(node, function)

    _AsyncFunctionDef = _FunctionDef

    def _decorator(self, node: ast.expr) -> str:
        called = node.func if isinstance(node, ast.Call) else node
        value = self.eval(node.func) if isinstance(node, ast.Call) else self.eval(node)
        if isinstance(node, ast.Call):
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                self.eval(argument)
        path = getattr(value, "path", "")
        return path.removeprefix("builtins.") or syntax.last_name(called)

    def _applied(self, node: FunctionNode | ast.ClassDef, value: Func | Class) -> None:
        """Run the decorators of the plugin's own on what they decorate: they may register it, or patch with it."""
        for decorator in node.decorator_list:
            called = self.callee(decorator.func if isinstance(decorator, ast.Call) else decorator)
            if not isinstance(called, (Func, Bound)):
                continue
            made = self.eval(decorator) if isinstance(decorator, ast.Call) else called
            for each in alternatives(made):
                if isinstance(each, (Func, Bound)):
                    self._called(each, ast.Call(decorator, [], []), [value], {}, True)

    def _hooked(self, node: FunctionNode | ast.ClassDef, hook: Func | Class) -> None:
        """Register what stands under a ``plugin_hook`` decorator."""
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and is_plugin_hook(self.callee(decorator.func)):
                places, names = self._places(decorator), self._names(decorator)
                kind = {"hook_type": places[1]} if len(places) > 1 else {}
                self.registered(decorator, [*places[:1]], {**names, **kind, "hook": hook})

    def _ClassDef(self, node: ast.ClassDef) -> None:  # noqa: N802
        bases = tuple(self._bases(node))
        for keyword in node.keywords:
            self.eval(keyword.value)
        for decorator in node.decorator_list:
            self._decorator(decorator)
        names: dict[str, Value] = {}
        of = Class(self.name, node, bases, names, self.code.set_on_self(node))
        outside, self.scope = self.scope, Scope(names, self.scope)
        first = len(self.defined)
        try:
            self.block(node.body)
        finally:
            self.scope = outside
        for i in range(first, len(self.defined)):
            function, _ = self.defined[i]
            if function.scope.names is names:
                # Methods do not see the names of the class body.
                self.owners[id(function.node)] = of
                moved = replace(function, scope=outside)
                self.defined[i] = (moved, of)
                if names.get(function.name) is function:
                    names[function.name] = moved
        self.scope.names[node.name] = of
        self.classes.append(of)
        self._hooked(node, of)
        self._applied(node, of)

    def _bases(self, node: ast.ClassDef) -> Iterator[Value]:
        for base in node.bases:
            value = self.eval(base.value if isinstance(base, ast.Starred) else base)
            if isinstance(base, ast.Starred):
                yield from value.items if isinstance(value, Seq) else (UNKNOWN,)
            else:
                yield value

    @property
    def classes(self) -> list[Class]:
        """Every class that was defined."""
        return self.facts.classes


def is_plugin_hook(value: Value) -> bool:
    """Whether it is SGLang's decorator that registers a hook."""
    return isinstance(value, Host) and value.path.endswith(".plugin_hook")
