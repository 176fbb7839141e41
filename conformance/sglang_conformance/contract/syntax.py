"""Small questions to a parsed module: its assignments, classes, functions and literals."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from typing import Any

from .errors import ContractError

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef

NOT_CONSTANT = object()
"""What :func:`constant` answers for an expression that is no JSON constant."""


def parse(text: bytes, name: str) -> ast.Module:
    """Parse the source of ``name``; raises ContractError with the line where it is not Python."""
    try:
        with warnings.catch_warnings():
            # An invalid escape in a string is SGLang's affair, and must not become an error under `-W error`.
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"{name}:{line}" if line else name
        raise ContractError(f"cannot parse {where}: {getattr(error, 'msg', error)}") from error


def class_named(module: ast.Module, name: str) -> ast.ClassDef | None:
    """The module-level class of that name."""
    return next((n for n in module.body if isinstance(n, ast.ClassDef) and n.name == name), None)


def function_named(module: ast.Module, name: str) -> FunctionNode | None:
    """The module-level function of that name."""
    return next((n for n in module.body if isinstance(n, FunctionNode) and n.name == name), None)


def assignments(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr | None]]:
    """Each ``name = value`` and ``name: type [= value]`` of a body, in order; the value is None where there is none."""
    for node in body:
        if isinstance(node, ast.Assign):
            yield from ((t.id, node.value) for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node.value


def assigned(module: ast.Module, name: str) -> ast.expr | None:
    """The value that the module gives to ``name`` at its top level, or None."""
    return next((value for target, value in assignments(module.body) if target == name and value), None)


def constant(node: ast.expr) -> Any:
    """The JSON value of a literal expression (a tuple becomes a list), or :data:`NOT_CONSTANT`."""
    try:
        return _plain(ast.literal_eval(node))
    except (ValueError, TypeError):
        return NOT_CONSTANT


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item) for key, item in value.items()}
    raise ValueError(f"{value!r} has no JSON form")


def text(node: ast.expr | None) -> str | None:
    """The value of a string literal, or None for anything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def last_name(node: ast.expr) -> str:
    """The last name of a dotted expression (``contextmanager`` of ``contextlib.contextmanager``), else empty."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def imported_from(node: ast.ImportFrom, package: str) -> str:
    """The module that ``from … import`` names, relative ones made absolute; ``package`` is that of the file."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    start = ".".join(parts[: len(parts) - node.level + 1])
    return f"{start}.{node.module}" if node.module else start
