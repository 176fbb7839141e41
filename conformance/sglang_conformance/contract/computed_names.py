"""Names that a module of SGLang makes as it runs, as far as its text tells which, and its ``__all__``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from . import syntax

_OWN = ("globals()", "sys.modules[__name__]")


def mentioned(text: bytes) -> bool:
    """Whether a module's text speaks of its own dictionary at all."""
    return any(way.encode() in text for way in _OWN)


@dataclass(frozen=True)
class Made:
    """``names`` that a module surely binds that way; ``open``: it may bind others, too."""

    names: tuple[str, ...] = ()
    open: bool = False


@dataclass(frozen=True)
class Exported:
    """What ``from module import *`` takes: ``only`` these, or all public names (None) but those ``withheld``."""

    only: tuple[str, ...] | None = None
    withheld: frozenset[str] = frozenset()


def made(module: ast.Module) -> Made:
    """The names that a module binds by way of its own dictionary.

    Told are those of ``globals()["name"] = …``, and of loops over constants, as ``for name in NAMES: globals()[name] =
    …`` (0.5.21, srt/distributed/parallel_state.py).
    """
    loops: dict[str, list[str]] = {}
    for variable, names in _loops(module):
        loops.setdefault(variable, []).extend(names)
    found: list[str] = []
    is_open = False
    for key in _written(module):
        name = syntax.text(key)
        if name is not None:
            found.append(name)
        elif isinstance(key, ast.Name) and key.id in loops:
            found.extend(loops[key.id])
        else:
            is_open = True
    return Made(tuple(dict.fromkeys(found)), is_open)


def exported(module: ast.Module) -> Exported:
    """A module's ``__all__``: a literal list, or all its public names but those of a constant; else all public ones."""
    value = syntax.assigned(module, "__all__")
    added = any(isinstance(node, ast.AugAssign) and syntax.last_name(node.target) == "__all__" for node in module.body)
    names = syntax.constant(value) if value is not None and not added else None
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return Exported(tuple(names))
    if not isinstance(value, ast.ListComp):
        return Exported()
    # [n for n in list(globals()) if not n.startswith("_") and n not in NAMES] (0.5.21, parallel_state)
    withheld: set[str] = set()
    for test in (part for generator in value.generators for condition in generator.ifs for part in ast.walk(condition)):
        if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.NotIn):
            withheld.update(constant_keys(module, test.comparators[0]))
    return Exported(withheld=frozenset(withheld))


def constant_keys(module: ast.Module, node: ast.expr) -> tuple[str, ...]:
    """The texts in a literal, or in what a module assigns to a name: keys of a dict, items of a list, tuple or set."""
    if isinstance(node, ast.Name):
        value = syntax.assigned(module, node.id)
        return (*(constant_keys(module, value) if value is not None else ()), *_added(module, node.id))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("items", "keys"):
        return constant_keys(module, node.func.value)
    if isinstance(node, ast.Dict):
        texts = [syntax.text(key) for key in node.keys]
    elif isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        texts = [syntax.text(item) for item in node.elts]
    else:
        return ()
    return tuple(text for text in texts if text is not None)


def _added(module: ast.Module, name: str) -> Iterator[str]:
    """The keys of ``NAME["key"] = …`` at the top level."""
    for node in module.body:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if isinstance(target, ast.Subscript) and syntax.last_name(target.value) == name:
                key = syntax.text(target.slice)
                if key is not None:
                    yield key


def _loops(module: ast.Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The variable of each loop over constants at the top level, with what it goes through."""
    for node in module.body:
        if isinstance(node, ast.For):
            variable = node.target.elts[0] if isinstance(node.target, ast.Tuple) and node.target.elts else node.target
            names = constant_keys(module, node.iter)
            if isinstance(variable, ast.Name) and names:
                yield variable.id, names


def _written(module: ast.Module) -> Iterator[ast.expr | None]:
    """The key of each binding by way of the module's dictionary; None for one that may be any, or the module itself."""
    for node in ast.walk(module):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if _own(target):
                    yield None
                elif isinstance(target, ast.Subscript) and _own(target.value):
                    yield target.slice
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr == "update" and _own(node.func.value):
                yield None
            elif syntax.last_name(node.func) == "setattr" and len(node.args) == 3 and _own(node.args[0]):
                yield node.args[1]


def _own(node: ast.expr) -> bool:
    return isinstance(node, (ast.Call, ast.Subscript)) and ast.unparse(node) in _OWN
