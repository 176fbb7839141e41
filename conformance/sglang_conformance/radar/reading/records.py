"""Classes of the plugin that hold plain data: the members of an enum, and the fields of a dataclass or named tuple."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence

from ...contract import syntax
from .values import UNKNOWN, Class, External, Func, Seq, Value

_RECORDS = frozenset({"dataclass", "define", "frozen", "attrs", "s"})


def members(of: Class) -> Value:
    """The members of an enum, each taken for its value; unknown for any other class."""
    if not any(path.startswith("enum.") for path in _outside(of)):
        return UNKNOWN
    return Seq(
        tuple(value for name, value in of.names.items() if not name.startswith("_") and not isinstance(value, Func))
    )


def fields(of: Class, places: Sequence[Value], names: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
    """The fields of an object that is made with these arguments; none where the class does not say which it has."""
    order = list(dict.fromkeys(_declared(of)))
    if not order or len(places) > len(order):
        return ()
    given = {**dict(zip(order, places, strict=False)), **names}
    return tuple((name, given.get(name, of.names.get(name, UNKNOWN))) for name in order)


def _declared(of: Class) -> Iterator[str]:
    for base in of.bases:
        if isinstance(base, Class):
            yield from _declared(base)
    called = [d.func if isinstance(d, ast.Call) else d for d in of.node.decorator_list]
    if not _RECORDS.isdisjoint(map(syntax.last_name, called)) or "typing.NamedTuple" in _outside(of):
        yield from (
            n.target.id for n in of.node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
        )


def _outside(of: Class) -> Iterator[str]:
    """The paths of the bases that are of neither the plugin nor SGLang."""
    for base in of.bases:
        if isinstance(base, Class):
            yield from _outside(base)
        elif isinstance(base, External):
            yield base.path
