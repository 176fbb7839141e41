"""The environment variables that the contract's own modules read, with kind and default."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Literal

from . import syntax
from .errors import ContractError
from .model import EnvironmentVariable

_KINDS: dict[str, Literal["str", "int", "bool"]] = {"EnvStr": "str", "EnvInt": "int", "EnvBool": "bool"}
_TRUE_TEXTS = frozenset({"1", "true", "yes", "y"})


def variables(nodes: Iterable[ast.AST], registry: ast.Module) -> tuple[EnvironmentVariable, ...]:
    """The variables read anywhere under ``nodes``, sorted by name.

    A read is ``envs.NAME``, resolved against the class ``Envs`` of ``srt/environ.py`` (``registry``), or a literal
    ``os.getenv("NAME", default)``, ``os.environ.get("NAME", default)`` or ``os.environ["NAME"]``. A text that is only
    compared with a word for true is a bool. Raises ContractError for an ``envs.NAME`` that the registry lacks.
    """
    declared = _declared(registry)
    found: dict[str, EnvironmentVariable] = {}
    for root in nodes:
        compared = _compared(root)
        for node in ast.walk(root):
            variable = _from_registry(node, declared) or _from_os(node, compared)
            if variable is not None:
                found.setdefault(variable.name, variable)
    return tuple(found[name] for name in sorted(found))


def registered_name(node: ast.AST) -> str | None:
    """``NAME`` of the expression ``envs.NAME``."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "envs":
        return node.attr
    return None


def _declared(registry: ast.Module) -> dict[str, ast.Call]:
    node = syntax.class_named(registry, "Envs")
    body = node.body if node is not None else []
    return {name: value for name, value in syntax.assignments(body) if isinstance(value, ast.Call)}


def _from_registry(node: ast.AST, declared: dict[str, ast.Call]) -> EnvironmentVariable | None:
    name = registered_name(node)
    if name is None:
        return None
    call = declared.get(name)
    if call is None:
        raise ContractError(f"srt/environ.py does not declare {name}, which the contract's modules read")
    kind = _KINDS.get(syntax.last_name(call.func).removesuffix("WithAlias"))
    default = syntax.constant(call.args[0]) if call.args else syntax.NOT_CONSTANT
    if kind is None or default is syntax.NOT_CONSTANT:
        raise ContractError(f"srt/environ.py declares {name} in a way not known here: {ast.unparse(call)}")
    return EnvironmentVariable(name, kind, default)


def _compared(root: ast.AST) -> dict[int, str]:
    """The text that each call is compared with by ``==``, by the identity of the call's node."""
    found = {}
    for node in ast.walk(root):
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq):
            word = syntax.text(node.comparators[0])
            if word is not None:
                found[id(node.left)] = word
    return found


def _from_os(node: ast.AST, compared: dict[int, str]) -> EnvironmentVariable | None:
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
        name = syntax.text(node.slice)
        return EnvironmentVariable(name, "str", None) if name else None
    if not isinstance(node, ast.Call) or ast.unparse(node.func) not in ("os.getenv", "os.environ.get"):
        return None
    name = syntax.text(node.args[0]) if node.args else None
    if name is None:
        return None
    default = syntax.text(node.args[1]) if len(node.args) > 1 else None
    word = compared.get(id(node))
    if word is not None and word.lower() in _TRUE_TEXTS:
        return EnvironmentVariable(name, "bool", default == word)
    return EnvironmentVariable(name, "str", default)
