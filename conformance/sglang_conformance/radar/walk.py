"""Walk a plugin's code as one SGLang release would run it: modules as they are imported, functions as they are called.

Nothing is run. Where a condition can be told (the release, what SGLang has, what an import finds), only the branch that
would be taken is walked; where it cannot, both are, and what is found there is not sure.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum

from ..contract import syntax
from ..contract.syntax import FunctionNode
from . import constants
from .evaluate import Expressions
from .facts import Reach
from .frames import Guard, Raised
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
    Table,
    Value,
    alternatives,
    either,
    truth,
)

_DEEPEST = 8
_MOST_ITEMS = 1000
_MOST_WALKS = 300
_BINDING = frozenset({"staticmethod", "classmethod", "property", "cached_property", "functools.cached_property"})
_PROPERTIES = frozenset({"cached_property", "functools.cached_property", "setter", "getter", "deleter"})
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


class Flow(Enum):
    """Whether a block goes on to its end."""

    NEXT = "next"
    END = "end"


class Walk(Expressions):
    """One walk; what it saw is in ``facts``."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self.modules: dict[str, Scope] = {}
        self.defined: list[tuple[Func, Class | None]] = []
        self.waiting: list[tuple[Func, Class | None, Reach]] = []
        self.walked: dict[int, set[object]] = {}
        self.known: dict[object, Value] = {}
        self.returns: list[Value] = []
        self.running: list[int] = []
        self.owners: dict[int, Class] = {}
        self.used: set[Class] = set()

    # ---- modules

    def module(self, name: str) -> Scope:
        """The names of a module of the plugin, which is walked the first time, after its packages."""
        if name in self.modules:
            return self.modules[name]
        parent, _, last = name.rpartition(".")
        if parent in self.code.modules:
            self.module(parent).names.setdefault(last, PluginModule(name))
        scope = self.modules.setdefault(name, Scope({"__name__": Const(name)}))
        with self._within(name, scope, None):
            self.block(self.code.modules[name].tree.body)
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
            return self.use(self.module(module).names.get(name, UNKNOWN))
        if isinstance(holder, Host):
            if path.endswith(".__version__"):
                return Const(self.release.name)
            found = self.release.find(path)
            if found is None:
                self.missing("import", path, node, kind="ImportError")
                return UNKNOWN
            return found
        if isinstance(holder, External):
            return External(path)
        return UNKNOWN

    # ---- functions

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
        if not is_plain or any(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in ast.walk(function.node)):
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

    def alone(self, function: Func, of: Class | None, reach: Reach) -> Value:
        """Walk a function as somebody unknown calls it: of its arguments, only ``self`` is known."""
        before, self.reach = self.reach, reach
        first: list[Value] = []
        if of is not None and "staticmethod" not in function.marks:
            first = [of if "classmethod" in function.marks else Instance(of)]
        arguments = function.node.args
        count = len(arguments.posonlyargs) + len(arguments.args)
        try:
            return self.call(function, [*first, *[UNKNOWN] * (count - len(first))][:count], {}, of)
        except Raised:
            return UNKNOWN
        finally:
            self.reach = before

    def _FunctionDef(self, node: FunctionNode) -> None:  # noqa: N802
        names = [self._decorator(decorator) for decorator in node.decorator_list]
        for default in (*node.args.defaults, *node.args.kw_defaults):
            self.eval(default)
        marks = frozenset(name.rpartition(".")[2] for name in names if name in _BINDING)
        marks |= {"property"} if not _PROPERTIES.isdisjoint(names) else frozenset()
        opaque = any(n not in _BINDING and n.rpartition(".")[2] not in _HARMLESS for n in names)
        function = Func(self.name, node, self.scope, opaque, marks)
        self.scope.names[node.name] = function
        self.defined.append((function, None))
        self._hooked(node, function)

    _AsyncFunctionDef = _FunctionDef

    def _decorator(self, node: ast.expr) -> str:
        called = node.func if isinstance(node, ast.Call) else node
        value = self.eval(node.func) if isinstance(node, ast.Call) else self.eval(node)
        if isinstance(node, ast.Call):
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                self.eval(argument)
        path = getattr(value, "path", "")
        return path.removeprefix("builtins.") or syntax.last_name(called)

    def _hooked(self, node: FunctionNode | ast.ClassDef, hook: Func | Class) -> None:
        """Register what stands under a ``plugin_hook`` decorator."""
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and _is_plugin_hook(self.callee(decorator.func)):
                places, names = self._places(decorator), self._names(decorator)
                kind = {"hook_type": places[1]} if len(places) > 1 else {}
                self.registered(decorator, [*places[:1]], {**names, **kind, "hook": hook})

    def _ClassDef(self, node: ast.ClassDef) -> None:  # noqa: N802
        bases = tuple(self.eval(base) for base in node.bases)
        for keyword in node.keywords:
            self.eval(keyword.value)
        for decorator in node.decorator_list:
            self._decorator(decorator)
        names: dict[str, Value] = {}
        of = Class(self.name, node, bases, names, _set_on_self(node))
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

    @property
    def classes(self) -> list[Class]:
        """Every class that was defined."""
        return self.facts.classes

    # ---- statements

    def block(self, body: Sequence[ast.stmt]) -> Flow:
        """Walk statements in their order, as far as they are come to."""
        for statement in body:
            self.step(statement)
            if self.statement(statement) is Flow.END:
                return Flow.END
        return Flow.NEXT

    def statement(self, node: ast.stmt) -> Flow:
        """Walk one."""
        found = getattr(self, f"_{type(node).__name__}", None)
        if found is not None:
            flow = found(node)
            return flow if isinstance(flow, Flow) else Flow.NEXT
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.eval(child)
        return Flow.NEXT

    def _Expr(self, node: ast.Expr) -> None:  # noqa: N802
        call = node.value
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Call)
            and _is_plugin_hook(self.callee(call.func.func))
        ):
            places, names = self._places(call.func), self._names(call.func)
            kind = {"hook_type": places[1]} if len(places) > 1 else {}
            self.registered(
                call, places[:1], {**names, **kind, "hook": self._places(call)[0] if call.args else UNKNOWN}
            )
            return
        self.eval(call)

    def _Return(self, node: ast.Return) -> Flow:  # noqa: N802
        self.returns.append(self.use(self.eval(node.value)))
        return Flow.END

    def _Raise(self, node: ast.Raise) -> Flow:  # noqa: N802
        if node.exc is not None:
            self.eval(node.exc)
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        self.doubt()
        self.caught(syntax.last_name(raised) if raised is not None else "Exception")
        return Flow.END

    def _Continue(self, node: ast.Continue) -> Flow:  # noqa: N802
        return Flow.END

    _Break = _Continue

    def _Assign(self, node: ast.Assign) -> None:  # noqa: N802
        value = self.eval(node.value)
        for target in node.targets:
            self.bind(target, value)

    def _AnnAssign(self, node: ast.AnnAssign) -> None:  # noqa: N802
        if node.value is not None:
            self.bind(node.target, self.eval(node.value))

    def _AugAssign(self, node: ast.AugAssign) -> None:  # noqa: N802
        value = self.eval(node.value)
        if isinstance(node.target, ast.Name):
            before = self.scope.get(node.target.id) or UNKNOWN
            grown = isinstance(before, (Seq, Const)) and isinstance(node.op, ast.Add)
            self.scope.names[node.target.id] = constants.binary(ast.Add(), before, value) if grown else UNKNOWN

    def bind(self, target: ast.expr, value: Value) -> None:
        """Give a value to what stands on the left of an assignment."""
        if isinstance(target, ast.Name):
            self.scope.names[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            fits = isinstance(value, Seq) and len(value.items) == len(target.elts)
            parts = value.items if fits and isinstance(value, Seq) else (UNKNOWN,) * len(target.elts)
            for part, item in zip(target.elts, parts, strict=True):
                self.bind(part.value if isinstance(part, ast.Starred) else part, item)
        elif isinstance(target, ast.Attribute):
            self.patched(self.eval(target.value), target.attr, target)
            self.use(value)
        elif isinstance(target, ast.Subscript):
            self._put(target, value)

    def _put(self, target: ast.Subscript, value: Value) -> None:
        holder, key = self.eval(target.value), self.eval(target.slice)
        if isinstance(target.value, ast.Name) and isinstance(holder, Table) and target.value.id in self.scope.names:
            known = isinstance(key, Const) and self.reach.sure
            pairs = tuple(pair for pair in holder.items if pair[0] != key)
            self.scope.names[target.value.id] = Table((*pairs, (key, value))) if known else holder

    def _Global(self, node: ast.Global) -> None:  # noqa: N802
        for name in node.names:
            self.scope.names.setdefault(name, UNKNOWN)

    def _If(self, node: ast.If) -> Flow:  # noqa: N802
        known = truth(self.eval(node.test))
        if known is not None:
            return self.block(node.body if known else node.orelse)
        before = dict(self.scope.names)
        with self.unsure():
            taken = self.block(node.body)
            after = dict(self.scope.names)
            self._restore(before)
            other = self.block(node.orelse)
        if taken is Flow.NEXT:
            self._join(after, other is Flow.NEXT)
        return Flow.END if taken is other is Flow.END else Flow.NEXT

    def _restore(self, names: dict[str, Value]) -> None:
        self.scope.names.clear()
        self.scope.names.update(names)

    def _join(self, names: dict[str, Value], both: bool) -> None:
        for name, value in names.items():
            here = self.scope.names.get(name)
            self.scope.names[name] = value if here is None or not both else either([value, here])

    def _For(self, node: ast.For | ast.AsyncFor) -> Flow:  # noqa: N802
        over = self.eval(node.iter)
        items = over.items[:_MOST_ITEMS] if isinstance(over, Seq) else (UNKNOWN,)
        for item in items:
            self.bind(node.target, item)
            self.block(node.body)
        self.block(node.orelse)
        return Flow.NEXT

    _AsyncFor = _For

    def _While(self, node: ast.While) -> Flow:  # noqa: N802
        known = truth(self.eval(node.test))
        if known is not False:
            with self.unsure():
                self.block(node.body)
        return Flow.NEXT

    def _With(self, node: ast.With | ast.AsyncWith) -> Flow:  # noqa: N802
        suppressed: set[str] = set()
        for item in node.items:
            called = item.context_expr
            if isinstance(called, ast.Call) and syntax.last_name(called.func) == "suppress":
                suppressed |= {syntax.last_name(argument) for argument in called.args}
            else:
                self.eval(called)
            if item.optional_vars is not None:
                self.bind(item.optional_vars, UNKNOWN)
        if not suppressed:
            return self.block(node.body)
        return self._guarded(node.body, frozenset(suppressed))[0] or Flow.NEXT

    _AsyncWith = _With

    def _guarded(self, body: Sequence[ast.stmt], catches: frozenset[str]) -> tuple[Flow | None, str, bool]:
        """Walk a block inside a guard: how it ends, or None and the kind of error that is caught, and doubtful."""
        guard = Guard(catches, self.depth, self.conditions)
        self.guards.append(guard)
        try:
            return self.block(body), "", guard.doubtful
        except Raised as raised:
            if not guard.takes(raised.kind):
                raise
            return None, raised.kind, True
        finally:
            self.guards.pop()

    def _Try(self, node: ast.Try) -> Flow:  # noqa: N802
        caught = [(handler, _caught_by(handler)) for handler in node.handlers]
        flow, kind, doubtful = self._guarded(node.body, frozenset(name for _, names in caught for name in names))
        if flow is None:
            handler = next(h for h, names in caught if Guard(names).takes(kind))
            flow = self._handled(handler)
        else:
            if flow is Flow.NEXT:
                flow = self.block(node.orelse)
            if doubtful:
                self._perhaps([handler for handler, _ in caught])
        return Flow.END if self.block(node.finalbody) is Flow.END else flow

    _TryStar = _Try

    def _perhaps(self, handlers: list[ast.ExceptHandler]) -> None:
        """Walk handlers that may come to be run; what the guarded block bound goes on to hold."""
        kept = dict(self.scope.names)
        with self.unsure():
            for handler in handlers:
                self._handled(handler)
                self._restore({**self.scope.names, **kept})

    def _handled(self, handler: ast.ExceptHandler) -> Flow:
        if handler.name:
            self.scope.names[handler.name] = UNKNOWN
        return self.block(handler.body)


def _caught_by(handler: ast.ExceptHandler) -> frozenset[str]:
    if handler.type is None:
        return frozenset({""})
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return frozenset(syntax.last_name(each) for each in types)


def _is_plugin_hook(value: Value) -> bool:
    return isinstance(value, Host) and value.path.endswith(".plugin_hook")


def _set_on_self(node: ast.ClassDef) -> frozenset[str]:
    """The attributes that methods set on their first argument."""
    found = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store) and isinstance(child.value, ast.Name):
            found |= {child.attr} if child.value.id in ("self", "cls") else set()
    return frozenset(found)
