"""What a release of SGLang still takes and warns of: members of a platform, variables, and parts of its code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from . import syntax
from .computed_names import constant_keys
from .model import Deprecation
from .source import Source, dotted_name

_CORE = ("srt", "kernels")
_CATEGORIES = frozenset({"DeprecationWarning", "FutureWarning", "PendingDeprecationWarning"})
_MENTIONS = tuple(category.encode() for category in sorted(_CATEGORIES))
_WARNS = frozenset({"warn", "warning", "warning_once"})
_WORD = "deprecated"
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]+")
_PATH = re.compile(r"sglang(?:\.\w+)+")
# Where a class warns when it is made, or derived from.
_OF_A_CLASS = frozenset({"__init__", "__new__", "__init_subclass__", "__post_init__"})


def of_members(owner: ast.ClassDef, module: ast.Module, name: str) -> Iterator[Deprecation]:
    """The members of one of a platform's base classes that are superseded; ``module`` at ``name`` defines the class.

    A method that looks hooks up in a constant of the module and warns (0.5.22, srt/platforms/interface.py) takes their
    place; one that warns whatever happens is deprecated itself.
    """
    for method in (node for node in owner.body if isinstance(node, syntax.FunctionNode)):
        warned = [node for node in ast.walk(method) if isinstance(node, ast.Call) and _warns(node)]
        if not warned:
            continue
        for hook in _looked_up(method, module):
            yield Deprecation("member", hook, method.name, name, warned[0].lineno)
        if any(_statement_warns(statement) for statement in method.body):
            yield Deprecation("member", method.name, "", name, warned[0].lineno)


def _looked_up(method: syntax.FunctionNode, module: ast.Module) -> Iterator[str]:
    """The values of the constant dictionaries that a method takes an item of."""
    for node in ast.walk(method):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            value = syntax.assigned(module, node.value.id)
            if isinstance(value, ast.Dict):
                yield from filter(None, map(syntax.text, value.values))


def of_variables(environ: ast.Module, name: str) -> Iterator[Deprecation]:
    """The environment variables that srt/environ.py has under an older name, or no longer heeds.

    They are given as ``deprecated_name=`` (0.5.13 on), to functions with that word in their name (up to 0.5.17), or in
    dictionaries so named, with a text or a call that has the new name in it.
    """
    for target, value in _all_assignments(environ):
        if isinstance(value, ast.Call):
            old = next((syntax.text(k.value) for k in value.keywords if k.arg == "deprecated_name"), None)
            if old is not None:
                yield Deprecation("variable", old, target, name, value.lineno)
        elif isinstance(value, ast.Dict) and _WORD in target.lower():
            for key, new in zip(value.keys, value.values, strict=True):
                old = syntax.text(key)
                if old is not None:
                    yield Deprecation("variable", old, _variable_in(new), name, new.lineno)
    for node in ast.walk(environ):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and _WORD in node.func.id.lower():
            given = [syntax.text(argument) or "" for argument in node.args]
            if given and _VARIABLE.fullmatch(given[0]):
                yield Deprecation("variable", given[0], _named(given[1:]), name, node.lineno)


def _all_assignments(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in ast.walk(module):
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target, value in syntax.assignments([node]):
                if value is not None:
                    yield target, value


def _variable_in(node: ast.expr) -> str:
    """The variable that a text is, or that a call is given."""
    if isinstance(node, ast.Call):
        return _named([syntax.text(value) or "" for value in (*node.args, *(k.value for k in node.keywords))])
    return _named([syntax.text(node) or ""])


def _named(texts: Iterable[str]) -> str:
    return next((text for text in texts if _VARIABLE.fullmatch(text)), "")


def of_targets(source: Source) -> Iterator[Deprecation]:
    """The modules, classes and functions of SGLang's core that warn when they are imported, made or called.

    Only what warns whatever happens counts: a function that warns of one of its arguments is not deprecated itself.
    Nor is a private one, whose warning is that of its callers.
    """
    for name in source.names(*_CORE):
        text = source.read(name)
        if any(mention in text for mention in _MENTIONS):
            yield from in_module(syntax.parse(text, f"sglang/{name}"), name)


def in_module(module: ast.Module, name: str) -> Iterator[Deprecation]:
    """Those of one module; ``name`` is its path inside the package."""
    dotted = dotted_name(name)
    functions = [node for node in module.body if isinstance(node, syntax.FunctionNode)]
    helpers = frozenset(
        node.name for node in functions if node.name.startswith("_") and any(map(_statement_warns, node.body))
    )
    for warned, below in _warning_statements(module.body, (), helpers):
        if not (below and below[-1].startswith("_")):
            yield _target(".".join((dotted, *below)), warned, name)
    for loop in (node for node in module.body if isinstance(node, ast.For)):
        yield from _wrapped(loop, module, dotted, name)


def _target(own: str, warned: ast.stmt, name: str) -> Deprecation:
    texts = [text.value for text in ast.walk(warned) if isinstance(text, ast.Constant) and isinstance(text.value, str)]
    told = [path for text in texts for path in _PATH.findall(text) if path != own]
    return Deprecation("target", own, told[-1] if told else "", name, warned.lineno)


def _warning_statements(
    body: list[ast.stmt], below: tuple[str, ...], helpers: frozenset[str]
) -> Iterator[tuple[ast.stmt, tuple[str, ...]]]:
    """The statements of a body that warn, with the path of what each stands in: a class, where it is made by that."""
    for node in body:
        if _statement_warns(node, helpers):
            yield node, below
        elif isinstance(node, ast.ClassDef):
            yield from _warning_statements(node.body, (*below, node.name), helpers)
        elif isinstance(node, syntax.FunctionNode):
            path = below if below and node.name in _OF_A_CLASS else (*below, node.name)
            yield from ((statement, path) for statement in node.body if _statement_warns(statement, helpers))


def _wrapped(loop: ast.For, module: ast.Module, dotted: str, name: str) -> Iterator[Deprecation]:
    """What a loop over constants wraps in a function that warns (0.5.21, srt/distributed/parallel_state.py)."""
    called = {syntax.last_name(node.func) for node in ast.walk(loop) if isinstance(node, ast.Call)}
    wrappers = (syntax.function_named(module, wrapper) for wrapper in sorted(called))
    if any(wrapper is not None and any(map(_warns, ast.walk(wrapper))) for wrapper in wrappers):
        for key in constant_keys(module, loop.iter):
            yield Deprecation("target", f"{dotted}.{key}", "", name, loop.lineno)


def _statement_warns(node: ast.stmt, helpers: frozenset[str] = frozenset()) -> bool:
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return False
    return _warns(node.value) or syntax.last_name(node.value.func) in helpers


def _warns(node: ast.AST) -> bool:
    """Whether this is a warning, by ``warnings`` or a logger, that something is deprecated."""
    if not (isinstance(node, ast.Call) and syntax.last_name(node.func) in _WARNS):
        return False
    given = [*node.args, *(keyword.value for keyword in node.keywords)]
    if any(syntax.last_name(value) in _CATEGORIES for value in given):
        return True
    return bool(node.args) and any(
        isinstance(part, ast.Constant) and isinstance(part.value, str) and _WORD in part.value.lower()
        for part in ast.walk(node.args[0])
    )
