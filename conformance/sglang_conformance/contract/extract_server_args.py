"""Read the server arguments out of a released SGLang package, from its source alone: nothing of it is imported.

What a platform's ``apply_server_args_defaults`` is handed is SGLang's ``ServerArgs``. Up to 0.5.19 that is a dataclass
in srt/server_args.py; from 0.5.20 on it is assembled from the classes in srt/arg_groups/fields that carry ``_NS_PATH``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import syntax
from .defaults import Constants, FieldDefault, default_of
from .errors import ContractError
from .extract import release_of
from .field_types import choices_of, choices_of_options, types_of
from .server_args import ServerArguments
from .source import Source, opened

__all__ = ["SERVER_ARGS", "ContractError", "extract"]

SERVER_ARGS = "srt/server_args.py"
"""Where a release declares the class, relative to its package."""

_CHOICES = "srt/arg_groups/choices.py"
_GROUPS = "srt/arg_groups"
_NAMESPACES = "srt/arg_groups/fields"
_NAMESPACE_MARK = "_NS_PATH"
_HOOK = "apply_server_args_defaults"
_NO_FIELD = frozenset({"ClassVar", "InitVar"})
_PLAIN_BASES = frozenset({"object", "Struct"})


def extract(path: Path, release: str = "") -> ServerArguments:
    """The server arguments of the SGLang package at ``path``: a wheel, a folder that holds ``sglang/``, or that folder.

    ``release`` is what it is known by, where that is not left to its own word.

    Raises ContractError where there is no SGLang, where it is damaged, or where it declares its arguments, or hands
    them to the platform, in a way that is not known here.
    """
    with opened(Path(path)) as source:
        return _Reading(source, release).arguments()


@dataclass(frozen=True)
class Field:
    """One field as it is declared: its default, what it may hold, and its choices."""

    default: FieldDefault
    types: str
    choices: tuple[str, ...]


class _Reading:
    """One package being read."""

    def __init__(self, source: Source, release: str) -> None:
        if not source.has(SERVER_ARGS):
            raise ContractError(f"{source.origin} has no sglang/{SERVER_ARGS}, which holds the server's arguments")
        self.source = source
        self.release = release or release_of(source)
        self.module = self._parsed(SERVER_ARGS)
        self.own = self._class()
        self.shared = Constants(self._parsed(_CHOICES)) if source.has(_CHOICES) else None

    def arguments(self) -> ServerArguments:
        found = self._fields()
        return ServerArguments(
            release=self.release,
            records_writes=self._records_writes(),
            attention_backends=self._choices("ATTENTION_BACKEND_CHOICES"),
            quantizations=self._choices("QUANTIZATION_CHOICES"),
            members=tuple(sorted(set(_members(self.own, self.module)) - set(found))),
            fields={name: field.default.value for name, field in found.items()},
            types={name: field.types for name, field in found.items()},
            choices={**self._options(found), **{name: field.choices for name, field in found.items() if field.choices}},
            required=tuple(sorted(name for name, field in found.items() if field.default.kind == "required")),
            computed=tuple(sorted(name for name, field in found.items() if field.default.kind == "computed")),
        )

    def _options(self, found: Mapping[str, Field]) -> dict[str, tuple[str, ...]]:
        options = choices_of_options(self.own, Constants(self.module, self.shared))
        return {name: choices for name, choices in options.items() if name in found}

    def _fields(self) -> dict[str, Field]:
        found = dict(_fields_of(self.own, Constants(self.module, self.shared)))
        for module in map(self._parsed, self.source.names(_NAMESPACES)):
            for node in _namespaces_of(module):
                found.update(_fields_of(node, Constants(module, self.shared)))
        if not found:
            raise ContractError(f"{self.source.origin}: no field of ServerArgs was found; its form is not known here")
        return found

    def _parsed(self, name: str) -> ast.Module:
        return syntax.parse(self.source.read(name), f"sglang/{name}")

    def _class(self) -> ast.ClassDef:
        node = syntax.class_named(self.module, "ServerArgs")
        if node is None:
            raise ContractError(f"{self.source.origin}: sglang/{SERVER_ARGS} defines no class ServerArgs")
        unknown = [name for name in map(syntax.last_name, node.bases) if name not in _PLAIN_BASES]
        if unknown:
            raise ContractError(f"{self.source.origin}: ServerArgs has a base class, {unknown[0]}, which is not read")
        return node

    def _choices(self, wanted: str) -> tuple[str, ...]:
        for name in (_CHOICES, SERVER_ARGS):
            module = self._parsed(name) if self.source.has(name) else None
            if module is not None and syntax.assigned(module, wanted) is not None:
                value = Constants(module).named(wanted)
                if isinstance(value, list) and all(isinstance(item, str) for item in value):
                    return tuple(value)
        raise ContractError(f"{self.source.origin}: no literal list {wanted} was found")

    def _records_writes(self) -> bool:
        """Whether the platform is handed something else than the arguments themselves.

        SGLang calls the platform's method on the arguments (up to 0.5.18), or gives it to a function that does so
        (0.5.19) or that calls it on a recorder (from 0.5.20 on).
        """
        for module in self._modules_with(_HOOK):
            for function in (node for node in ast.walk(module) if isinstance(node, syntax.FunctionNode)):
                calls = list(_calls(function))
                direct = [call for call in calls if _is_hook(call.func)]
                if direct:
                    return _hands_another(direct, function)
                for call in calls:
                    if any(map(_is_hook, (*call.args, *(keyword.value for keyword in call.keywords)))):
                        return self._helper_records_writes(syntax.last_name(call.func))
        raise ContractError(f"{self.source.origin}: no place was found that asks the platform for {_HOOK}")

    def _helper_records_writes(self, name: str) -> bool:
        helper = self._function(name)
        given = _parameters(helper)
        calls = [call for call in _calls(helper) if isinstance(call.func, ast.Name) and call.func.id in given]
        if not calls:
            raise ContractError(f"{self.source.origin}: {name} is given {_HOOK}, and it cannot be seen what it does")
        return _hands_another(calls, helper)

    def _function(self, wanted: str) -> syntax.FunctionNode:
        for module in self._modules_with(f"def {wanted}("):
            node = syntax.function_named(module, wanted)
            if node is not None:
                return node
        raise ContractError(f"{self.source.origin}: {wanted}, which is given {_HOOK}, was not found")

    def _modules_with(self, text: str) -> Iterator[ast.Module]:
        """The modules that resolve the arguments and hold this text: the others need not be parsed."""
        for name in (SERVER_ARGS, *self.source.names(_GROUPS)):
            if text.encode() in self.source.read(name):
                yield self.module if name == SERVER_ARGS else self._parsed(name)


def _namespaces_of(module: ast.Module) -> Iterator[ast.ClassDef]:
    for node in module.body:
        if isinstance(node, ast.ClassDef) and _NAMESPACE_MARK in dict(syntax.assignments(node.body)):
            yield node


def _fields_of(node: ast.ClassDef, constants: Constants) -> Iterator[tuple[str, Field]]:
    """The fields that a class declares, as ``name: type [= default]``."""
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            kind = statement.annotation.value if isinstance(statement.annotation, ast.Subscript) else None
            if syntax.last_name(kind or statement.annotation) not in _NO_FIELD:
                annotation = statement.annotation
                default = default_of(statement.value, constants)
                yield statement.target.id, Field(default, types_of(annotation), choices_of(annotation, constants))


def _members(node: ast.ClassDef, module: ast.Module) -> Iterator[str]:
    """Methods, properties and constants of a class, also those that its module hangs on it; no ``__dunder__``."""
    hung = (
        target.attr
        for statement in module.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Attribute) and ast.unparse(target.value) == node.name
    )
    methods = (statement.name for statement in node.body if isinstance(statement, syntax.FunctionNode))
    constants = (name for name, _ in syntax.assignments(node.body))
    for name in (*methods, *constants, *hung):
        if not (name.startswith("__") and name.endswith("__")):
            yield name


def _is_hook(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == _HOOK


def _calls(function: syntax.FunctionNode) -> Iterator[ast.Call]:
    return (node for node in ast.walk(function) if isinstance(node, ast.Call))


def _parameters(function: syntax.FunctionNode) -> set[str]:
    spec = function.args
    return {argument.arg for argument in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)}


def _hands_another(calls: Iterable[ast.Call], function: syntax.FunctionNode) -> bool:
    """Whether one of a function's calls hands on anything but what the function was given itself."""
    given = _parameters(function)
    handed = (argument for call in calls for argument in call.args)
    return any(not (isinstance(argument, ast.Name) and argument.id in given) for argument in handed)
