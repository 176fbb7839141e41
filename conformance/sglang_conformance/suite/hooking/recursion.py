"""Finding hooks that call themselves: once applied, the name by which they call the original leads back to them.

SGLang rebinds every module attribute that holds the original (0.5.23, srt/plugins/hook_registry.py), the one in the
plugin's own module too. So ``from sglang.x import C`` and then ``C.method(self)`` within the class that replaces ``C``
is a call of itself, and so is ``f(x)`` within a hook on ``f``. Only calls that hand on what the hook itself was given
count: one with other arguments may be a recursion that ends.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from .plugin import Registration, held

Definition = ast.FunctionDef | ast.AsyncFunctionDef


def self_call(registration: Registration) -> tuple[str, str]:
    """The call with which a hook, now applied, calls itself, and its ``file:line``; empty texts where there is none."""
    for function, is_same, matters in _bodies(registration):
        definition, file, first = _source(function)
        if definition is None:
            continue
        names = {**function.__globals__, **_closure(function), **_local_names(definition)}
        own = [a.arg for a in (*definition.args.posonlyargs, *definition.args.args)]
        own += [a.arg for a in (definition.args.vararg, definition.args.kwarg) if a]
        for call in _calls(definition):
            if is_same(_value(call.func, names)) and _hands_on(call, own[matters]):
                return ast.unparse(call), f"{file}:{first + call.lineno - 1}"
    return "", ""


def _bodies(registration: Registration) -> Iterator[tuple[types.FunctionType, Callable[[Any], bool], slice]]:
    """The functions to look into, how to know that a call reaches one again, and which of its arguments to hand on.

    A method that names its own class and hands on ``self`` calls itself; a function must hand on all that the caller
    gave, less what SGLang puts in front of it.
    """
    hook = registration.hook
    if isinstance(hook, type):
        for member in list(vars(hook).values()):
            function = getattr(member, "__func__", member)
            if isinstance(function, types.FunctionType):
                every = slice(None) if isinstance(member, staticmethod) else slice(0, 1)
                yield function, partial(_is_method, function), every
    elif isinstance(hook, types.FunctionType):
        added = 1 if registration.kind in ("AFTER", "AROUND") else 0
        yield hook, partial(_leads_to, hook), slice(added, None)


def _is_method(function: types.FunctionType, value: Any) -> bool:
    """Whether what a call reaches is this method."""
    plain = getattr(value, "__func__", value)
    return isinstance(plain, types.FunctionType) and inspect.unwrap(plain) is inspect.unwrap(function)


def _leads_to(hook: Any, value: Any) -> bool:
    """Whether a callable is one of SGLang's wrappers with the hook somewhere in it."""
    seen = 0
    while value is not None and seen < 100:
        if any(content is hook for content in held(value)) and hasattr(value, "__wrapped__"):
            return True
        value, seen = getattr(value, "__wrapped__", None), seen + 1
    return False


def _source(function: types.FunctionType) -> tuple[Definition | None, str, int]:
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):  # compiled, or made on the fly: its text cannot be read
        return None, "", 0
    definition = tree.body[0] if tree.body else None
    found = definition if isinstance(definition, (ast.FunctionDef, ast.AsyncFunctionDef)) else None
    return found, str(inspect.getsourcefile(function)), first


def _closure(function: types.FunctionType) -> dict[str, Any]:
    return dict(inspect.getclosurevars(function).nonlocals)


def _local_names(definition: Definition) -> dict[str, Any]:
    """The function's local names: what it imports itself, and None for the rest."""
    arguments = definition.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
    names: dict[str, Any] = {a.arg: None for a in every if a}
    for node in ast.walk(definition):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names[node.id] = None
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            module = sys.modules.get(node.module)
            names.update({a.asname or a.name: vars(module).get(a.name) for a in node.names if module})
    return names


def _calls(definition: Definition) -> Iterator[ast.Call]:
    """The calls that the function itself makes, those of functions inside it left out."""
    waiting: list[ast.AST] = list(definition.body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.Call):
            yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(node))


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    """What a dotted name stands for, through modules and classes alone: no code runs to find it."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if not isinstance(node, ast.Attribute):
        return None
    owner = _value(node.value, names)
    if isinstance(owner, types.ModuleType):
        return vars(owner).get(node.attr)
    return inspect.getattr_static(owner, node.attr, None) if isinstance(owner, type) else None


def _hands_on(call: ast.Call, own: list[str]) -> bool:
    """Whether the call's arguments include everything that the function was given, as it was given."""
    given = [a.value if isinstance(a, ast.Starred) else a for a in call.args] + [k.value for k in call.keywords]
    return set(own) <= {a.id for a in given if isinstance(a, ast.Name)}
