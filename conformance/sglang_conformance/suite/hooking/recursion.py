"""Finding hooks that call themselves: once applied, the name by which they call the original leads back to them.

SGLang rebinds every module attribute that holds the original (0.5.23, srt/plugins/hook_registry.py), the one in the
plugin's own module too. So ``from sglang.x import C`` and then ``C.method(self)`` within the class that replaces ``C``
is a call of itself, and so is ``f(x)`` within a hook on ``f``. Only what cannot end counts: a call that every run
comes to, and that hands on what the hook must be given. One under a condition may be a recursion that ends, or a
guard against it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ast
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from .plugin import Registration, closed_over, held
from .source import Definition, certain_calls, text_of


def self_call(registration: Registration, original: Any) -> tuple[str, str]:
    """The call with which a hook, now applied, calls itself, and its ``file:line``; empty texts where there is none.

    ``original`` is what the target was before.
    """
    for function, is_same, first in _bodies(registration, original):
        text = text_of(function)
        if text is None:
            continue
        names = {**function.__globals__, **closed_over(function), **_local_names(text.definition)}
        own = _required(text.definition)[first:]
        for call in certain_calls(text):
            if is_same(_value(call.func, names)) and _hands_on(call, own):
                return ast.unparse(call), text.place(call)
    return "", ""


def _bodies(
    registration: Registration, original: Any
) -> Iterator[tuple[types.FunctionType, Callable[[Any], bool], int]]:
    """The functions to look into, how to know that a call reaches one again, and how many of its first parameters the
    call does not hand on: the class of a class method, and what SGLang itself puts in front.

    Of a class those that the original has: a method of its own may call itself as it likes.
    """
    hook = registration.hook
    if isinstance(hook, type):
        for name, member in list(vars(hook).items()):
            function = getattr(member, "__func__", member)
            if isinstance(function, types.FunctionType) and hasattr(original, name):
                yield _inside(function), partial(_is_method, function), int(isinstance(member, classmethod))
    elif isinstance(hook, types.FunctionType):
        yield _inside(hook), partial(_leads_to, hook), int(registration.kind in ("AFTER", "AROUND"))


def _inside(function: types.FunctionType) -> types.FunctionType:
    """What stands within torch's own decorators, as ``torch.no_grad()``; another may keep calls from coming through."""
    while str(function.__globals__.get("__name__", "")).startswith("torch."):
        inner = getattr(function, "__wrapped__", None)
        if not isinstance(inner, types.FunctionType):
            break
        function = inner
    return function


def _is_method(function: types.FunctionType, value: Any) -> bool:
    """Whether what a call reaches is this method."""
    return getattr(value, "__func__", value) is function


def _leads_to(hook: Any, value: Any) -> bool:
    """Whether a callable is one of SGLang's wrappers with the hook somewhere in it."""
    seen = 0
    while value is not None and seen < 100:
        if any(content is hook for content in held(value)) and hasattr(value, "__wrapped__"):
            return True
        value, seen = getattr(value, "__wrapped__", None), seen + 1
    return False


def _required(definition: Definition) -> list[str]:
    """The parameters that a call must give, and those that take all the rest."""
    given = definition.args
    positional = [a.arg for a in (*given.posonlyargs, *given.args)]
    by_name = [a.arg for a, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is None]
    rest = [a.arg for a in (given.vararg, given.kwarg) if a]
    return [*positional[: len(positional) - len(given.defaults)], *by_name, *rest]


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
    """Whether the call's arguments include everything that the function had to be given, as it was given."""
    given = [a.value if isinstance(a, ast.Starred) else a for a in call.args] + [k.value for k in call.keywords]
    return set(own) <= {a.id for a in given if isinstance(a, ast.Name)}
