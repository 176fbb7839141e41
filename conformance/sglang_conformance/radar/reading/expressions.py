"""What the expressions of a plugin come to in one release: names, constants, conditions and lists of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from . import constants
from .attributes import Attributes
from .host import HOOK_TYPE
from .records import members
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
    Releases,
    Scope,
    Seq,
    Table,
    Value,
    alternatives,
    either,
    truth,
)

_MOST_TEXTS = 16


class Expressions(Attributes):
    """Evaluates expressions; calls are added by the class that derives from it."""

    def bind(self, target: ast.expr, value: Value) -> None:
        """Give a value to what stands on the left of an assignment."""
        raise NotImplementedError

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

    def over(self, node: ast.expr) -> Value:
        """What a loop goes over."""
        value = self.eval(node)
        if isinstance(value, Table):
            return Seq(tuple(key for key, _ in value.items))
        return members(value) if isinstance(value, Class) else value

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
            changes = self.running and node.id in self.code.modules[self.name].rebound
            return UNKNOWN if changes and isinstance(found, Const) else found
        self.mentioned.add(node.id)
        return External(f"builtins.{node.id}")

    def _Attribute(self, node: ast.Attribute) -> Value:  # noqa: N802
        holder = self.callee(node.value)
        return either([self.attribute(each, node.attr, node) for each in alternatives(holder)])

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
        value = self.eval(node.operand)
        if isinstance(node.op, ast.USub) and isinstance(value, Const) and isinstance(value.value, (int, float)):
            return Const(-value.value)
        known = truth(value)
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
        if isinstance(sides[-1], External) and sides[-1].path == "os.environ":
            self.variable(sides[0], node)
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
        if isinstance(right, Releases) and isinstance(operation, (ast.In, ast.NotIn)):
            among = truth(constants.within(left, right))
            return UNKNOWN if among is None else Const(among is isinstance(operation, ast.In))
        return constants.compare(operation, left, right)

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
        texts = [""]
        for part in node.values:
            value = self.eval(part.value if isinstance(part, ast.FormattedValue) else part)
            plain = not (isinstance(part, ast.FormattedValue) and part.format_spec)
            parts = [str(each.value) for each in alternatives(value) if isinstance(each, Const) and plain]
            texts = [text + more for text in texts for more in parts]
            if len(parts) < len(alternatives(value)) or len(texts) > _MOST_TEXTS:
                return UNKNOWN
        return either([Const(text) for text in texts])

    def _BinOp(self, node: ast.BinOp) -> Value:  # noqa: N802
        return constants.binary(node.op, self.eval(node.left), self.eval(node.right))

    def _Subscript(self, node: ast.Subscript) -> Value:  # noqa: N802
        holder = self.eval(node.value)
        if isinstance(node.slice, ast.Slice):
            return constants.cut(holder, self.eval(node.slice.lower), self.eval(node.slice.upper))
        key = self.eval(node.slice)
        if isinstance(holder, External) and holder.path == "os.environ":
            self.variable(key, node)
        if isinstance(holder, External) and holder.path == "sys.modules" and isinstance(key, Const):
            return self.release.find(str(key.value)) or UNKNOWN
        if isinstance(holder, Host) and holder.path.endswith(HOOK_TYPE):
            return key
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
        over = self.over(first.iter)
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
