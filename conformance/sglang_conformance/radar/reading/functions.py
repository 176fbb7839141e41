"""The functions and modules of a plugin: a module is walked when it is imported, a function as it is called."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum

from ...contract import syntax
from .calls import Calls
from .facts import Place, Reach
from .frames import Raised
from .values import (
    UNKNOWN,
    Bound,
    Class,
    Const,
    External,
    Func,
    Host,
    Instance,
    PluginModule,
    Scope,
    Seq,
    Super,
    Value,
    alternatives,
    either,
)

_DEEPEST = 8

_MOST_WALKS = 300


class Flow(Enum):
    """Whether a block goes on to its end."""

    NEXT = "next"
    END = "end"


class Functions(Calls):
    """Walks functions and modules; their statements are walked by the class that derives from it."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self.modules: dict[str, Scope] = {}
        self.defined: list[tuple[Func, Class | None]] = []
        self.waiting: list[tuple[Func, Class | None, Reach]] = []
        self.walked: dict[int, set[object]] = {}
        self.known: dict[object, Value] = {}
        self.returns: list[Value] = []
        self.owners: dict[int, Class] = {}
        self.used: set[Class] = set()

    def module(self, name: str) -> Scope:
        """The names of a module of the plugin, which is walked the first time, after its packages."""
        if name in self.modules:
            return self.modules[name]
        parent, _, last = name.rpartition(".")
        if parent in self.code.modules:
            self.module(parent).names.setdefault(last, PluginModule(name))
        scope = self.modules.setdefault(name, Scope({"__name__": Const(name)}))
        with self._within(name, scope, None):
            try:
                self.block(self.code.modules[name].tree.body)
            except RecursionError:
                self.too_deep[Place(self.code.modules[name].file.name, 1)] = None
        return scope

    @contextmanager
    def _within(self, name: str, scope: Scope, of: Class | None) -> Iterator[None]:
        before = self.name, self.scope, self.of, self.returns
        self.name, self.scope, self.of, self.returns = name, scope, of, []
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
            self.name, self.scope, self.of, self.returns = before

    def import_path(self, path: str, node: ast.AST) -> Value:
        """What importing a dotted module gives: the module itself."""
        if path in self.code.modules:
            self.module(path)
            return PluginModule(path)
        if path == "sglang" or path.startswith("sglang."):
            found = self.release.find(path)
            if found is None:
                self.missing("import", path, node, kind="ModuleNotFoundError")
                return UNKNOWN
            self.outdated(path, node)
            return found
        self.doubt()
        return External(path)

    def _Import(self, node: ast.Import) -> None:  # noqa: N802
        for alias in node.names:
            value = self.import_path(alias.name, node)
            top = alias.name.split(".")[0]
            if alias.asname:
                self.scope.names[alias.asname] = value
            elif top == "sglang":
                self.scope.names[top] = Host(top, self.release.index.symbols.get(top))
            else:
                self.scope.names[top] = PluginModule(top) if top in self.code.modules else External(top)

    def _ImportFrom(self, node: ast.ImportFrom) -> None:  # noqa: N802
        module = self.code.modules[self.name].absolute(node)
        holder = self.import_path(module, node)
        for alias in node.names:
            if alias.name == "*":
                if isinstance(holder, PluginModule):
                    self.scope.names.update(self.module(holder.name).names)
                continue
            self.scope.names[alias.asname or alias.name] = self._imported(holder, module, alias.name, node)

    def _imported(self, holder: Value, module: str, name: str, node: ast.AST) -> Value:
        path = f"{module}.{name}"
        if isinstance(holder, PluginModule):
            if name not in self.module(module).names and path in self.code.modules:
                return self.import_path(path, node)
            found = self.member_of(module, name)
            return UNKNOWN if found is None else self.use(found)
        if isinstance(holder, Host):
            if path.endswith(".__version__"):
                return Const(self.release.name)
            host = self.release.find(path)
            if host is None:
                self.missing("import", path, node, kind="ImportError")
                return UNKNOWN
            self.outdated(path, node)
            return host
        if isinstance(holder, External):
            return External(path)
        return UNKNOWN

    def use(self, value: Value) -> Value:
        """A function or class that is handed on will be called by somebody."""
        for each in alternatives(value):
            if isinstance(each, Bound):
                self.waiting.append((each.function, each.of, replace(self.reach, sure=False)))
            elif isinstance(each, Func):
                self.waiting.append((each, None, replace(self.reach, sure=False)))
            elif isinstance(each, Class):
                self.used.add(each)
        return value

    def call(self, function: Func, places: list[Value], names: dict[str, Value], of: Class | None = None) -> Value:
        """Walk a function with the arguments of one call; what it returns."""
        key = (id(function.node), id(function.scope), tuple(places), tuple(sorted(names.items())), self.reach)
        node = id(function.node)
        done = self.walked.setdefault(node, set())
        if key in self.known:
            return self.known[key]
        if node in self.running or len(self.running) >= _DEEPEST or len(done) >= _MOST_WALKS:
            self.doubt()
            return UNKNOWN
        done.add(key)
        self.running.append(node)
        try:
            self.known[key] = self._run(function, places, names, of)
        except RecursionError:
            self.too_deep[Place(self.code.modules[function.module].file.name, function.node.lineno)] = None
            self.known[key] = UNKNOWN
        finally:
            self.running.pop()
        return self.known[key]

    def _run(self, function: Func, places: list[Value], names: dict[str, Value], of: Class | None) -> Value:
        scope = Scope(self._bound(function, places, names), function.scope)
        with self._within(function.module, scope, of):
            if isinstance(function.node, ast.Lambda):
                return self.eval(function.node.body)
            ends = self.block(function.node.body) is Flow.END
            returned = self.returns
        is_plain = isinstance(function.node, ast.FunctionDef) and not function.opaque
        if not is_plain or self.code.is_generator(function.node):
            return UNKNOWN
        return either([*returned, *([] if ends else [Const(None)])])

    def _bound(self, function: Func, places: list[Value], names: dict[str, Value]) -> dict[str, Value]:
        arguments = function.node.args
        every = [*arguments.posonlyargs, *arguments.args]
        found: dict[str, Value] = {a.arg: UNKNOWN for a in (*every, *arguments.kwonlyargs)}
        defaults = [*zip(reversed(every), reversed(arguments.defaults), strict=False)]
        defaults += [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None]
        found.update({a.arg: value for a, d in defaults if (value := self._default(d)) is not UNKNOWN})
        found.update({a.arg: value for a, value in zip(every, places, strict=False)})
        found.update({name: value for name, value in names.items() if name in found})
        if arguments.vararg is not None:
            found[arguments.vararg.arg] = Seq(tuple(places[len(every) :]))
        if arguments.kwarg is not None:
            found[arguments.kwarg.arg] = UNKNOWN
        return found

    def _default(self, node: ast.expr) -> Value:
        value = syntax.constant(node)
        return Const(value) if value is None or isinstance(value, (str, bool, int, float)) else UNKNOWN

    def above(self) -> Value:
        """What ``super()`` is in the method that is being walked."""
        owner = self.owners.get(self.running[-1]) if self.running else None
        return Super(self.of, owner) if owner is not None and self.of is not None else UNKNOWN

    def alone(self, function: Func, of: Class | None, reach: Reach, names: dict[str, Value] | None = None) -> Value:
        """Walk a function as somebody unknown calls it: only ``self`` and what ``names`` gives are known."""
        before, self.reach = self.reach, reach
        first: list[Value] = []
        if of is not None and "staticmethod" not in function.marks:
            first = [of if "classmethod" in function.marks else Instance(of)]
        arguments = function.node.args
        count = len(arguments.posonlyargs) + len(arguments.args)
        try:
            return self.call(function, [*first, *[UNKNOWN] * (count - len(first))][:count], names or {}, of)
        except Raised:
            return UNKNOWN
        finally:
            self.reach = before

    def block(self, body: Sequence[ast.stmt]) -> Flow:
        """Walk statements in their order, as far as they are come to."""
        raise NotImplementedError
