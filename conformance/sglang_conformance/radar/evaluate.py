"""What the expressions of a plugin come to in one release; what they need of SGLang is noted on the way."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ..contract import syntax
from . import constants
from .classes import lookup
from .fits import Given, Parameters, misfit
from .frames import Frames
from .host import BASES, CAPABILITIES, CURRENT, MIXIN, arguments
from .values import (
    UNKNOWN,
    Bound,
    Class,
    Const,
    Either,
    External,
    Func,
    Host,
    Instance,
    PluginModule,
    Release,
    Scope,
    Seq,
    Signature,
    Super,
    Table,
    Value,
    alternatives,
    either,
    truth,
)

_VERSIONS = frozenset({f"sglang.{path}__version__" for path in ("", "version.", "_version.")})
_ASKS_VERSION = frozenset({"importlib.metadata.version", "importlib_metadata.version"})
_VERSION_CLASSES = frozenset({"Version", "parse", "parse_version", "LooseVersion"})
_ENVIRONMENT = frozenset({"os.getenv", "os.environ.get", "os.environ.pop", "os.environ.setdefault"})
_ENVS = "sglang.srt.environ.envs"
_INTROSPECTION = frozenset({"inspect.signature", "inspect.getfullargspec"})
_CAN_BE_READ = ("module", "class")


class Expressions(Frames):
    """Evaluates expressions; statements, functions and modules are walked by the class that derives from it."""

    # ---- what the walker adds

    def call(self, function: Func, places: list[Value], names: dict[str, Value], of: Class | None = None) -> Value:
        """Walk a function of the plugin as it is called here, and give what it returns."""
        raise NotImplementedError

    def module(self, name: str) -> Scope:
        """Walk a module of the plugin, once, and give its names."""
        raise NotImplementedError

    def import_path(self, path: str, node: ast.AST) -> Value:
        """Import a dotted module, as ``importlib.import_module`` does."""
        raise NotImplementedError

    def use(self, value: Value) -> Value:
        """Note that a value is used otherwise than by a call."""
        raise NotImplementedError

    def above(self) -> Value:
        """What ``super()`` is in the function that is being walked."""
        raise NotImplementedError

    def bind(self, target: ast.expr, value: Value) -> None:
        """Give a value to what stands on the left of an assignment."""
        raise NotImplementedError

    # ---- names and attributes

    def eval(self, node: ast.expr | None) -> Value:
        """What an expression comes to."""
        if node is None:
            return Const(None)
        self.step(node)
        found = getattr(self, f"_{type(node).__name__}", None)
        if found is not None:
            value: Value = found(node)
            return self.use(value) if isinstance(node, (ast.Name, ast.Attribute)) else value
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.eval(child)
        self.doubt()
        return UNKNOWN

    def callee(self, node: ast.expr) -> Value:
        """What is called: not used otherwise, so not noted as such."""
        self.step(node)
        if isinstance(node, ast.Name):
            return self._Name(node)
        return self._Attribute(node) if isinstance(node, ast.Attribute) else self.eval(node)

    def _Constant(self, node: ast.Constant) -> Value:  # noqa: N802
        return constants.value_of(node.value)

    def _Name(self, node: ast.Name) -> Value:  # noqa: N802
        found = self.scope.get(node.id)
        if found is not None:
            return found
        self.mentioned.add(node.id)
        return External(f"builtins.{node.id}")

    def _Attribute(self, node: ast.Attribute) -> Value:  # noqa: N802
        holder = self.callee(node.value)
        return either([self.attribute(each, node.attr, node) for each in alternatives(holder)])

    def attribute(self, holder: Value, name: str, node: ast.AST) -> Value:
        """What an attribute comes to; one that SGLang certainly lacks is noted, and ends the block that guards it."""
        if isinstance(holder, Host):
            return self._of_host(holder, name, node)
        if isinstance(holder, PluginModule):
            return self._of_module(holder.name, name)
        if isinstance(holder, (Class, Instance, Super)):
            return self._of_class(holder, name, node)
        self.mentioned.add(name)
        if isinstance(holder, Release):
            return constants.attribute(holder, name)
        if isinstance(holder, Signature) and name == "parameters":
            return Seq(tuple(map(Const, holder.names)))
        if isinstance(holder, External):
            self.doubt()
            return External(f"{holder.path}.{name}".removeprefix("builtins."))
        self.doubt()
        return UNKNOWN

    def _of_host(self, holder: Host, name: str, node: ast.AST) -> Value:
        path = f"{holder.path}.{name}"
        if path in _VERSIONS:
            return Const(self.release.name)
        if holder.path == f"{MIXIN}.PlatformEnum" and name == "__members__":
            return Seq(tuple(map(Const, self.release.contract.platform_enum)))
        if holder.path == CAPABILITIES and name in ("__struct_fields__", "__annotations__"):
            return Seq(tuple(map(Const, self.release.contract.capabilities)))
        if holder.path.endswith(CURRENT):
            return self._asked(name, node)
        if holder.path == _ENVS:
            path = f"sglang.srt.environ.Envs.{name}"
        elif holder.symbol is None or holder.symbol.kind not in _CAN_BE_READ or name.startswith("__"):
            self.mentioned.add(name)
            self.doubt()
            return UNKNOWN
        found = self.release.find(path)
        if found is None:
            self.missing("attribute", path, node)
            return UNKNOWN
        return found

    def _asked(self, name: str, node: ast.AST) -> Value:
        """A member of the platform in use: the plugin's own, where its class has it."""
        self.mentioned.add(name)
        known = self.release.contract.has(name) or not self.is_member(name)
        has_it = any(lookup(self.lineage(of), name, self.release) for of in self.facts.platforms)
        if not known and not has_it:
            self.missing("attribute", f"{BASES[0]}.{name}", node)
        self.doubt()
        return UNKNOWN

    def _of_module(self, module: str, name: str) -> Value:
        found = self.module(module).names.get(name)
        if found is not None:
            return found
        return PluginModule(f"{module}.{name}") if f"{module}.{name}" in self.code.modules else UNKNOWN

    def _of_class(self, holder: Class | Instance | Super, name: str, node: ast.AST) -> Value:
        self.mentioned.add(name)
        of = holder if isinstance(holder, Class) else holder.of
        lineage = self.lineage(of)
        found = lookup(lineage, name, self.release, after=_after(holder))
        if found is None:
            gone = self._gone_from(holder, name)
            if gone:
                self.missing("attribute", gone, node)
            self.doubt()
            return UNKNOWN
        value = found.value
        if isinstance(value, Func) and not isinstance(holder, Class):
            return UNKNOWN if "property" in value.marks else Bound(value, of)
        if isinstance(value, Host) and not isinstance(holder, Class):
            return value if value.symbol is not None and value.symbol.kind in ("method", "classmethod") else UNKNOWN
        return value

    def _gone_from(self, holder: Class | Instance | Super, name: str) -> str:
        """Where another release has the member that an object is asked for; empty where that cannot be told."""
        of = holder if isinstance(holder, Class) else holder.of
        lineage = self.lineage(of)
        set_by_itself = any(isinstance(s, Class) and name in s.instance for s in lineage.steps)
        if lineage.open or (set_by_itself and not isinstance(holder, Super)) or name.startswith("__"):
            return ""
        bases = [step for step in lineage.steps if isinstance(step, str)]
        return next((f"{base}.{name}" for base in bases if self.elsewhere(f"{base}.{name}")), "")

    # ---- calls

    def _Call(self, node: ast.Call) -> Value:  # noqa: N802
        if isinstance(node.func, ast.Attribute):
            receiver = self.callee(node.func.value)
            if isinstance(receiver, (Const, Table)):
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
            first: list[Value] = [] if is_static else [Instance(called.of)]
            return self.call(called.function, [*first, *places], names, called.of) if whole else self._uncertain(called)
        if isinstance(called, Class):
            self.use(called)
            return Instance(called)
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
        elif called.path == CAPABILITIES:
            for name in names:
                if self.release.find(f"{CAPABILITIES}.{name}") is None:
                    self.misfit(CAPABILITIES, Given(0, (name,)), f"it has no field {name}", node)
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
            return constants.release(places)
        if name in ("importlib.import_module", "__import__") and isinstance(text, str):
            return self.import_path(text, node)
        if name == "importlib.util.find_spec" and isinstance(text, str) and text.startswith("sglang."):
            found = self.release.find(text)
            return Const(None) if found is None else UNKNOWN
        if name in _ENVIRONMENT and isinstance(text, str):
            self.variable(text, node)
        if name in _INTROSPECTION and places and isinstance(places[0], Host):
            return self._signature(places[0])
        if name == "map" and len(places) == 2 and isinstance(places[1], Seq):
            return Seq(tuple(self._called(places[0], node, [item], {}, True) for item in places[1].items))
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
        there = self._has(holder, name)
        if how == "hasattr":
            return UNKNOWN if there is None else Const(there)
        if len(places) > 2 and there is not True:
            return places[2] if there is False else UNKNOWN
        return self.use(self.attribute(holder, name, node))

    def _has(self, holder: Value, name: str) -> bool | None:
        """Whether something has an attribute; None where that cannot be told."""
        if isinstance(holder, Host):
            if holder.path.endswith(CURRENT):
                return True if self.release.contract.has(name) else False if self.is_member(name) else None
            if holder.symbol is None or holder.symbol.kind not in _CAN_BE_READ:
                return None
            found = self.release.find(f"{holder.path}.{name}")
            return (
                None
                if found is not None and found.symbol is None and not self._is_listed(holder)
                else found is not None
            )
        if isinstance(holder, (Class, Instance, Super)):
            of = holder if isinstance(holder, Class) else holder.of
            lineage = self.lineage(of)
            if lookup(lineage, name, self.release, after=_after(holder)) is not None:
                return True
            return False if self._gone_from(holder, name) else None
        if isinstance(holder, PluginModule):
            return name in self.module(holder.name).names
        return None

    @staticmethod
    def _is_listed(holder: Host) -> bool:
        return holder.path in (CAPABILITIES, f"{MIXIN}.PlatformEnum", f"{MIXIN}.CpuArchEnum")

    def _signature(self, of: Host) -> Value:
        taken = arguments(of.symbol.signature) if of.symbol is not None else None
        if taken is None:
            return UNKNOWN
        every = (*taken.posonlyargs, *taken.args, *taken.kwonlyargs)
        return Signature(tuple(argument.arg for argument in every))

    # ---- conditions

    def _BoolOp(self, node: ast.BoolOp) -> Value:  # noqa: N802
        """Stops where Python does, so that a guard on the left keeps what is right of it from being judged."""
        stops = isinstance(node.op, ast.Or)
        found: list[Value] = []
        for part in node.values:
            value = self.eval(part)
            known = truth(value)
            if known is not (not stops):
                found.append(value)
            if known is stops:
                break
        return either(found) if found else Const(not stops)

    def _UnaryOp(self, node: ast.UnaryOp) -> Value:  # noqa: N802
        known = truth(self.eval(node.operand))
        return Const(not known) if isinstance(node.op, ast.Not) and known is not None else UNKNOWN

    def _IfExp(self, node: ast.IfExp) -> Value:  # noqa: N802
        known = truth(self.eval(node.test))
        if known is not None:
            return self.eval(node.body if known else node.orelse)
        with self.unsure():
            return either([self.eval(node.body), self.eval(node.orelse)])

    def _Compare(self, node: ast.Compare) -> Value:  # noqa: N802
        sides = [self.eval(side) for side in (node.left, *node.comparators)]
        found = [self._compared(op, *sides[i : i + 2]) for i, op in enumerate(node.ops)]
        known = [truth(value) for value in found]
        if False in known:
            return Const(False)
        return UNKNOWN if None in known else Const(True)

    @staticmethod
    def _compared(operation: ast.cmpop, left: Value, right: Value) -> Value:
        if isinstance(operation, (ast.Is, ast.IsNot, ast.Eq, ast.NotEq)):
            same = _same(left, right)
            if same is not None:
                return Const(same is isinstance(operation, (ast.Is, ast.Eq)))
            if isinstance(operation, (ast.Is, ast.IsNot)):
                return UNKNOWN
        return constants.compare(operation, left, right)

    # ---- literals

    def _Tuple(self, node: ast.Tuple | ast.List | ast.Set) -> Value:  # noqa: N802
        found: list[Value] = []
        for item in node.elts:
            value = self.eval(item.value if isinstance(item, ast.Starred) else item)
            if isinstance(item, ast.Starred):
                if not isinstance(value, Seq):
                    return UNKNOWN
                found += value.items
            else:
                found.append(value)
        return Seq(tuple(found))

    _List = _Set = _Tuple

    def _Dict(self, node: ast.Dict) -> Value:  # noqa: N802
        pairs = [
            (self.eval(key) if key is not None else UNKNOWN, self.eval(value))
            for key, value in zip(node.keys, node.values, strict=True)
        ]
        return UNKNOWN if None in node.keys else Table(tuple(pairs))

    def _JoinedStr(self, node: ast.JoinedStr) -> Value:  # noqa: N802
        text = ""
        for part in node.values:
            value = self.eval(part.value if isinstance(part, ast.FormattedValue) else part)
            plain = isinstance(value, Const) and not (isinstance(part, ast.FormattedValue) and part.format_spec)
            if not plain or not isinstance(value, Const):
                return UNKNOWN
            text += str(value.value)
        return Const(text)

    def _BinOp(self, node: ast.BinOp) -> Value:  # noqa: N802
        return constants.binary(node.op, self.eval(node.left), self.eval(node.right))

    def _Subscript(self, node: ast.Subscript) -> Value:  # noqa: N802
        holder = self.eval(node.value)
        if isinstance(node.slice, ast.Slice):
            return constants.cut(holder, self.eval(node.slice.lower), self.eval(node.slice.upper))
        key = self.eval(node.slice)
        text = syntax.text(node.slice)
        if isinstance(holder, External) and holder.path == "os.environ" and text:
            self.variable(text, node)
        found = constants.index(holder, key)
        if found is UNKNOWN:
            self.doubt()
        return found

    def _NamedExpr(self, node: ast.NamedExpr) -> Value:  # noqa: N802
        value = self.eval(node.value)
        self.scope.names[node.target.id] = value
        return value

    def _Lambda(self, node: ast.Lambda) -> Value:  # noqa: N802
        return Func(self.name, node, self.scope)

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Value:
        outside = self.scope
        self.scope = Scope({}, outside)
        try:
            rows = list(self._rows(node.generators, node))
        finally:
            self.scope = outside
        if any(row is None for row in rows):
            return UNKNOWN
        made = tuple(row for row in rows if row is not None)
        return Table(made) if isinstance(node, ast.DictComp) else Seq(tuple(value for _, value in made))

    _ListComp = _SetComp = _GeneratorExp = _DictComp = _comprehension

    def _rows(
        self, generators: list[ast.comprehension], node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> Iterator[tuple[Value, Value] | None]:
        if not generators:
            yield (
                (self.eval(node.key), self.eval(node.value))
                if isinstance(node, ast.DictComp)
                else (UNKNOWN, self.eval(node.elt))
            )
            return
        first, *rest = generators
        over = self.eval(first.iter)
        items: tuple[Value, ...] = over.items if isinstance(over, Seq) else (UNKNOWN,)
        if not isinstance(over, Seq):
            yield None
        for item in items:
            self.bind(first.target, item)
            known = [truth(self.eval(test)) for test in first.ifs]
            if None in known:
                yield None
            if False not in known:
                yield from self._rows(rest, node)


def _after(holder: Class | Instance | Super) -> Class | None:
    return holder.after if isinstance(holder, Super) else None


def _same(left: Value, right: Value) -> bool | None:
    """Whether two values are one; None where that cannot be told."""
    if isinstance(left, Const) and isinstance(right, Const):
        return left.value == right.value and type(left.value) is type(right.value)
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Const) and one.value is None:
            if isinstance(other, Host):
                return (
                    False if other.symbol is not None and other.symbol.kind in ("class", "function", "module") else None
                )
            if isinstance(other, Either):
                return None
            if isinstance(other, (Func, Class, Instance, Bound, PluginModule, Release, Seq, Table)):
                return False
    return None
