"""What calls come to: of SGLang's functions, of the plugin's own, and of what asks for versions and attributes."""

from __future__ import annotations

import ast

from . import constants
from .expressions import Expressions
from .fits import Given, Parameters, misfit
from .host import CAPABILITIES, HOOK_TYPE, arguments
from .records import fields, members
from .values import (
    UNKNOWN,
    Bound,
    Class,
    Const,
    External,
    Func,
    Host,
    Instance,
    Releases,
    Seq,
    Signature,
    Table,
    Value,
    alternatives,
    either,
    known,
)

_ASKS_VERSION = frozenset({"importlib.metadata.version", "importlib_metadata.version"})

_VERSION_CLASSES = frozenset({"Version", "parse", "parse_version", "LooseVersion"})

_ENVIRONMENT = frozenset({"os.getenv", "os.environ.get", "os.environ.pop", "os.environ.setdefault"})

_RAISES = ("-> NoReturn", "-> Never")

_INTROSPECTION = frozenset({"inspect.signature", "inspect.getfullargspec"})


class Calls(Expressions):
    """Evaluates calls; the functions and modules of the plugin are walked by the class that derives from it."""

    def import_path(self, path: str, node: ast.AST) -> Value:
        """Import a dotted module, as ``importlib.import_module`` does."""
        raise NotImplementedError

    def _Call(self, node: ast.Call) -> Value:  # noqa: N802
        if isinstance(node.func, ast.Attribute):
            receiver = self.callee(node.func.value)
            if isinstance(receiver, (Const, Table, Releases)):
                return constants.method(receiver, node.func.attr, self._places(node))
            parts = [self.attribute(each, node.func.attr, node.func) for each in alternatives(receiver)]
            called = either(parts)
        else:
            called = self.callee(node.func)
        places, names = self._places(node), self._names(node)
        whole = not any(isinstance(a, ast.Starred) for a in node.args) and not any(k.arg is None for k in node.keywords)
        return either([self._called(each, node, places, names, whole) for each in alternatives(called)])

    def _places(self, node: ast.Call) -> list[Value]:
        found: list[Value] = []
        for argument in node.args:
            value = self.eval(argument.value if isinstance(argument, ast.Starred) else argument)
            found += value.items if isinstance(argument, ast.Starred) and isinstance(value, Seq) else [value]
        return found

    def _names(self, node: ast.Call) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for keyword in node.keywords:
            value = self.eval(keyword.value)
            if keyword.arg:
                found[keyword.arg] = value
            elif isinstance(value, Table):
                found.update({k.value: v for k, v in value.items if isinstance(k, Const) and isinstance(k.value, str)})
        return found

    def _called(
        self, called: Value, node: ast.Call, places: list[Value], names: dict[str, Value], whole: bool
    ) -> Value:
        if isinstance(called, Func):
            return self.call(called, places, names) if whole else self._uncertain(called)
        if isinstance(called, Bound):
            is_static = "staticmethod" in called.function.marks
            bound = called.of if "classmethod" in called.function.marks else Instance(called.of)
            first: list[Value] = [] if is_static else [bound]
            return self.call(called.function, [*first, *places], names, called.of) if whole else self._uncertain(called)
        if isinstance(called, Class):
            self.use(called)
            return Instance(called, fields(called, places, names) if whole else ())
        if isinstance(called, Instance):
            method = self.attribute(called, "__call__", node)
            return self._called(method, node, places, names, whole) if isinstance(method, Bound) else UNKNOWN
        if isinstance(called, Host):
            return self._host_called(called, node, places, names)
        if isinstance(called, External):
            return self._external_called(called.path, node, places, names)
        self.doubt()
        return UNKNOWN

    def _uncertain(self, called: Value) -> Value:
        self.use(called)
        self.doubt()
        return UNKNOWN

    def _host_called(self, called: Host, node: ast.Call, places: list[Value], names: dict[str, Value]) -> Value:
        self.doubt()
        if called.path.endswith("hook_registry.HookRegistry.register"):
            self.registered(node, places, names)
        elif called.path.endswith(HOOK_TYPE) and len(places) == 1:
            return places[0]
        elif called.path.endswith("_env_var") and places:
            self.variable(places[0], node)
        elif called.path == CAPABILITIES:
            for name in names:
                if self.release.find(f"{CAPABILITIES}.{name}") is None:
                    self.misfit(CAPABILITIES, Given(0, (name,)), f"it has no field {name}", node)
            plain = not places and not any(keyword.arg is None for keyword in node.keywords)
            return Table(tuple((Const(name), given) for name, given in names.items())) if plain else UNKNOWN
        elif called.symbol is not None and called.symbol.signature.endswith(_RAISES):
            self.misfit(called.path, Given(len(places), tuple(names)), "it does nothing but raise", node)
        elif called.symbol is not None and called.symbol.signature and called.symbol.kind in ("function", "class"):
            stars = any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords)
            given = Given(len(places), tuple(names), stars)
            taken = arguments(called.symbol.signature)
            bound = int(called.symbol.kind == "class")
            why = misfit(given, Parameters.of(taken, bound=bound)) if taken is not None else ""
            if why:
                self.misfit(called.path, given, why, node)
        return UNKNOWN

    def _external_called(self, path: str, node: ast.Call, places: list[Value], names: dict[str, Value]) -> Value:
        name = path.removeprefix("builtins.")
        text = places[0].value if places and isinstance(places[0], Const) else None
        if name in ("hasattr", "getattr", "setattr") and len(places) > 1:
            return self._by_name(name, node, places)
        if name == "super":
            return self.above()
        if name in _ASKS_VERSION and text == "sglang":
            return Const(self.release.name)
        if name.rpartition(".")[2] in _VERSION_CLASSES:
            return either([constants.release([each]) for each in known(places[:1])] or [UNKNOWN])
        if name == "packaging.specifiers.SpecifierSet":
            return constants.releases(places)
        if name in ("importlib.import_module", "__import__") and isinstance(text, str):
            return self.import_path(text, node)
        if name == "pkgutil.resolve_name" and isinstance(text, str) and text.startswith("sglang."):
            module, _, member = text.replace(":", ".").rpartition(".")
            return self.attribute(self.import_path(module, node), member, node) if member else UNKNOWN
        if name == "importlib.util.find_spec" and isinstance(text, str) and text.startswith("sglang."):
            found = self.release.find(text)
            return Const(None) if found is None else UNKNOWN
        if name in _ENVIRONMENT and places:
            self.variable(places[0], node)
        if name == "sys.modules.setdefault" and isinstance(text, str):
            self.facts.shims.add(text)
        if name in _INTROSPECTION and places and isinstance(places[0], Host):
            return self._signature(places[0])
        if name == "map" and len(places) == 2 and isinstance(places[1], Seq):
            return Seq(tuple(self._called(places[0], node, [item], {}, True) for item in places[1].items))
        if name in ("list", "tuple") and len(places) == 1 and isinstance(places[0], Class):
            return members(places[0])
        if name in constants.BUILT_IN and not names:
            return constants.built_in(name, places)
        self.doubt()
        return UNKNOWN

    def _by_name(self, how: str, node: ast.Call, places: list[Value]) -> Value:
        holder, name = places[0], places[1].value if isinstance(places[1], Const) else None
        if not isinstance(name, str):
            self.doubt()
            return UNKNOWN
        if how == "setattr":
            self.patched(holder, name, node)
            return Const(None)
        there = self.has(holder, name)
        if how == "hasattr":
            return UNKNOWN if there is None else Const(there)
        if len(places) > 2 and there is not True:
            return places[2] if there is False else UNKNOWN
        return self.use(self.attribute(holder, name, node))

    def _signature(self, of: Host) -> Value:
        taken = arguments(of.symbol.signature) if of.symbol is not None else None
        if taken is None:
            return UNKNOWN
        every = (*taken.posonlyargs, *taken.args, *taken.kwonlyargs)
        return Signature(tuple(argument.arg for argument in every))
