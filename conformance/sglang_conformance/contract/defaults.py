"""The default of a field, as far as a module's text alone decides it."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from . import syntax

_OPERATORS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}
_LISTS = frozenset({"list", "tuple"})


@dataclass(frozen=True)
class FieldDefault:
    """``known``: the JSON constant ``value``. ``required``: none is declared. ``computed``: only running it tells."""

    kind: Literal["known", "required", "computed"]
    value: Any = None


def default_of(node: ast.expr | None, constants: Constants) -> FieldDefault:
    """The default that a field's right side declares; dataclasses' and msgspec's ``field(...)`` are understood."""
    if isinstance(node, ast.Call) and syntax.last_name(node.func) == "field":
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if "default_factory" in given:
            return _kept(_made(given["default_factory"], constants))
        node = given.get("default")
    return FieldDefault("required") if node is None else _kept(constants.value(node))


@dataclass(frozen=True)
class Constants:
    """The constants of one module: literals, and what is written with them.

    ``behind`` are those of a module that it imports names from.
    """

    module: ast.Module
    behind: Constants | None = None

    def named(self, name: str) -> Any:
        """What the module assigns to a name at its top level, or :data:`syntax.NOT_CONSTANT`."""
        node = syntax.assigned(self.module, name)
        if node is None:
            return syntax.NOT_CONSTANT if self.behind is None else self.behind.named(name)
        return self.value(node)

    def value(self, node: ast.expr) -> Any:
        """The JSON value of a literal, a constant's name, an item of one or a sum; else :data:`syntax.NOT_CONSTANT`."""
        found = syntax.constant(node)
        if found is not syntax.NOT_CONSTANT:
            return found
        if isinstance(node, ast.Name):
            return self.named(node.id)
        if isinstance(node, ast.BinOp):
            return self._sum(node)
        if isinstance(node, ast.Subscript):
            return self._item(node)
        return syntax.NOT_CONSTANT

    def _sum(self, node: ast.BinOp) -> Any:
        sides = self.value(node.left), self.value(node.right)
        apply = _OPERATORS.get(type(node.op))
        numbers = all(isinstance(side, (int, float)) for side in sides)
        lists = all(isinstance(side, list) for side in sides) and isinstance(node.op, ast.Add)
        return apply(*sides) if apply is not None and (numbers or lists) else syntax.NOT_CONSTANT

    def _item(self, node: ast.Subscript) -> Any:
        held, key = self.value(node.value), self.value(node.slice)
        try:
            return held[key]
        except (TypeError, LookupError):
            return syntax.NOT_CONSTANT


def _kept(value: Any) -> FieldDefault:
    return FieldDefault("computed") if value is syntax.NOT_CONSTANT else FieldDefault("known", value)


def _made(factory: ast.expr, constants: Constants) -> Any:
    """What a default factory gives: a new list or dict, or a list of a constant; anything else has to run."""
    if isinstance(factory, ast.Name) and factory.id in (*_LISTS, "dict"):
        return {} if factory.id == "dict" else []
    if not isinstance(factory, ast.Lambda):
        return syntax.NOT_CONSTANT
    body = factory.body
    if isinstance(body, ast.Call) and syntax.last_name(body.func) in _LISTS and len(body.args) == 1:
        value = constants.value(body.args[0])
        return value if isinstance(value, list) else syntax.NOT_CONSTANT
    return constants.value(body)
