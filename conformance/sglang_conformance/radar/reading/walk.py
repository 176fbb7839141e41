"""Walk a plugin's code as one SGLang release would run it: modules as they are imported, functions as they are called.

Nothing is run. Where a condition can be told (the release, what SGLang has, what an import finds), only the branch that
would be taken is walked; where it cannot, both are, and what is found there is not sure.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from ...contract import syntax
from . import constants
from .definitions import is_plugin_hook
from .frames import Guard, Raised
from .functions import Flow
from .matching import Matching
from .values import (
    UNKNOWN,
    Const,
    External,
    Instance,
    Seq,
    Table,
    Value,
    truth,
)

_MOST_ITEMS = 1000


class Walk(Matching):
    """One walk; what it saw is in ``facts``."""

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
            and is_plugin_hook(self.callee(call.func.func))
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
            if isinstance(value, Instance):
                value = Seq(tuple(each for _, each in value.fields))
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
        if isinstance(holder, External) and holder.path == "sys.modules" and isinstance(key, Const):
            self.facts.shims.add(str(key.value))  # the plugin puts a module of its own there
        if isinstance(holder, External) and holder.path == "os.environ":
            self.variable(key, target, is_set=True)
        if isinstance(target.value, ast.Name) and isinstance(holder, Table) and target.value.id in self.scope.names:
            known = isinstance(key, Const) and self.reach.sure
            pairs = tuple(pair for pair in holder.items if pair[0] != key)
            self.scope.names[target.value.id] = Table((*pairs, (key, value))) if known else holder

    def _Global(self, node: ast.Global) -> None:  # noqa: N802
        for name in node.names:
            self.scope.names[name] = UNKNOWN  # set by whichever function ran last

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

    def _For(self, node: ast.For | ast.AsyncFor) -> Flow:  # noqa: N802
        over = self.over(node.iter)
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
