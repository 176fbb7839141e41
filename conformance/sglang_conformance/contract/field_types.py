"""What a field may hold, as far as its declaration's text says: the types of its annotation, and its choices."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from . import syntax
from .defaults import Constants

ANY = "any"
"""A type that the text alone does not tell."""

_PLAIN = frozenset({"bool", "int", "float", "str"})
_LISTS = frozenset({"list", "tuple", "set", "frozenset", "Sequence"})
_DICTS = frozenset({"dict", "Mapping"})
_MARKED = frozenset({"A", "Annotated"})


def types_of(annotation: ast.expr) -> str:
    """The types of an annotation: ``int | None`` of ``A[Optional[int], "..."]``; one that is unknown is ``any``.

    A literal has the types of its values, a list says what its items are where that is one plain type.
    """
    return " | ".join(dict.fromkeys(_types(annotation)))


def choices_of(annotation: ast.expr, constants: Constants) -> tuple[str, ...]:
    """The texts that an annotation allows: those of a ``Literal``, else of ``Arg(choices=...)``; empty without them."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Subscript) and syntax.last_name(node.value) == "Literal":
            return _texts(constants.value(ast.Tuple(_inside(node), ast.Load())))
    for node in ast.walk(annotation):
        if isinstance(node, ast.Call) and syntax.last_name(node.func) == "Arg":
            return _given(node, constants)
    return ()


def choices_of_options(node: ast.ClassDef, constants: Constants) -> dict[str, tuple[str, ...]]:
    """The choices that a class declares by ``add_argument("--name", choices=...)``, by field."""
    found = {}
    for call in (child for child in ast.walk(node) if isinstance(child, ast.Call)):
        option = syntax.text(call.args[0]) if call.args else None
        if syntax.last_name(call.func) == "add_argument" and option:
            found[option.lstrip("-").replace("-", "_")] = _given(call, constants)
    return {name: choices for name, choices in found.items() if choices}


def _types(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from (*_types(node.left), *_types(node.right))
    elif isinstance(node, ast.Constant):
        yield "None" if node.value is None else ANY
    elif isinstance(node, ast.Subscript):
        yield from _subscripted(syntax.last_name(node.value), _inside(node))
    else:
        yield _named(syntax.last_name(node))


def _subscripted(name: str, inside: list[ast.expr]) -> Iterator[str]:
    if name in _MARKED:
        yield from _types(inside[0])
    elif name in ("Optional", "Union"):
        yield from (kind for part in inside for kind in _types(part))
        yield from ("None",) if name == "Optional" else ()
    elif name == "Literal":
        values = (part.value for part in inside if isinstance(part, ast.Constant))
        yield from ("None" if value is None else _named(type(value).__name__) for value in values)
    else:
        kind, item = _named(name), types_of(inside[0])
        yield f"list[{item}]" if kind == "list" and item in _PLAIN else kind


def _named(name: str) -> str:
    if name in _PLAIN:
        return name
    lowered = {"list": _LISTS, "dict": _DICTS}
    return next((kind for kind, names in lowered.items() if name in names or name.lower() in names), ANY)


def _inside(node: ast.Subscript) -> list[ast.expr]:
    return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]


def _given(call: ast.Call, constants: Constants) -> tuple[str, ...]:
    node = next((keyword.value for keyword in call.keywords if keyword.arg == "choices"), None)
    return _texts(constants.value(node)) if node is not None else ()


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()
