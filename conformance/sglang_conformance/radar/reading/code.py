"""The modules of a plugin, parsed once, and the names that they mention anywhere."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ...contract import syntax
from ...contract.errors import ContractError
from ..plugin import Plugin, SourceFile


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
        return frozenset(name for module in self.modules.values() for name in _mentions(module.tree))

    @cached_property
    def imported(self) -> frozenset[str]:
        """Every dotted path that an import statement of the plugin names."""
        found = set()
        for module in self.modules.values():
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    start = module.absolute(node)
                    found |= {start, *(f"{start}.{alias.name}" for alias in node.names)}
        return frozenset(found)


def _mentions(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 100:
            yield from (part for part in node.value.replace(":", ".").split(".") if part.isidentifier())
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
