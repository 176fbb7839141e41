"""The modules of a plugin, parsed once, and the names that they mention anywhere."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from ...contract import syntax
from ...contract.errors import ContractError
from ..plugin import Plugin, SourceFile

T = TypeVar("T")


@dataclass(frozen=True)
class Module:
    """One module: its file and its tree."""

    file: SourceFile
    tree: ast.Module = field(repr=False)

    @property
    def package(self) -> tuple[str, ...]:
        """Where its relative imports start."""
        parts = tuple(self.file.module.split("."))
        return parts if self.file.package else parts[:-1]

    @cached_property
    def rebound(self) -> frozenset[str]:
        """The names that a function of the module sets by ``global``: what they stand for changes as it runs."""
        return frozenset(name for node in ast.walk(self.tree) if isinstance(node, ast.Global) for name in node.names)

    def absolute(self, node: ast.ImportFrom) -> str:
        """The dotted module that an import names."""
        start = self.package[: len(self.package) - node.level + 1] if node.level else ()
        return ".".join((*start, node.module) if node.module else start)


@dataclass(frozen=True)
class Code:
    """The plugin's modules by dotted name; ``unread`` are those that are no Python, a line each."""

    modules: Mapping[str, Module]
    unread: tuple[str, ...]
    notes: dict[ast.AST, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, plugin: Plugin) -> Code:
        """Parse all files of a plugin."""
        modules, unread = {}, []
        for file in plugin.files:
            try:
                modules[file.module] = Module(file, syntax.parse(file.text, file.name))
            except (ContractError, RecursionError, MemoryError) as error:
                unread.append(str(error) or f"{file.name} is too deeply nested to read")
        return cls(modules, tuple(unread))

    @cached_property
    def mentioned(self) -> frozenset[str]:
        """Every name that is used somewhere, by name, as an attribute, or as a text that may be looked up by."""
        return self._names[0]

    @cached_property
    def imported(self) -> frozenset[str]:
        """Every dotted path that an import statement of the plugin names, and all that lead to it."""
        paths = (path.split(".") for path in self._names[1])
        return frozenset(".".join(parts[:end]) for parts in paths for end in range(1, len(parts) + 1))

    @cached_property
    def _names(self) -> tuple[frozenset[str], frozenset[str]]:
        """What is mentioned, and what is imported: in one walk, as that takes long."""
        mentioned: set[str] = set()
        imported: set[str] = set()
        for module in self.modules.values():
            for node in ast.walk(module.tree):
                mentioned.update(_mentions(node))
                if isinstance(node, ast.Import):
                    imported.update(alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom):
                    start = module.absolute(node)
                    imported.update((start, *(f"{start}.{alias.name}" for alias in node.names)))
        return frozenset(mentioned), frozenset(imported)

    def set_on_self(self, node: ast.ClassDef) -> frozenset[str]:
        """The attributes that the methods of a class set on ``self`` or ``cls``; looked up once for all releases."""
        return self._kept(node, _set_on_self)

    def is_generator(self, node: ast.AST) -> bool:
        """Whether a function yields; looked up once for all releases."""
        return self._kept(node, _is_generator)

    def _kept(self, node: ast.AST, look: Callable[[Any], T]) -> T:
        if node not in self.notes:
            self.notes[node] = look(node)
        found: T = self.notes[node]
        return found


def _set_on_self(node: ast.ClassDef) -> frozenset[str]:
    found = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store) and isinstance(child.value, ast.Name):
            found |= {child.attr} if child.value.id in ("self", "cls") else set()
    return frozenset(found)


def _is_generator(node: ast.AST) -> bool:
    return any(isinstance(child, (ast.Yield, ast.YieldFrom)) for child in ast.walk(node))


def _mentions(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 100:
        yield from (part for part in node.value.replace(":", ".").split(".") if part.isidentifier())
    elif isinstance(node, ast.ImportFrom):
        yield from (alias.name for alias in node.names)
