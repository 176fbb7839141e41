"""How the vendor's hooks treat the calls they are given, as far as their source shows it beyond doubt.

What cannot be read (a lambda, a builtin, compiled code) is not judged.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ast
import inspect
import re
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from .. import expect
from .plugin import Found, Registration, located, signature
from .source import Text, function_of, text_of

_PLAIN = frozenset(
    {"None", "str", "int", "float", "bool", "bytes", "list", "dict", "tuple", "set"}
    | {"List", "Dict", "Tuple", "Set", "Optional", "Union", "typing", "torch", "Tensor", "dtype", "device"}
)
"""The words of annotations that speak of nothing to be awaited."""


def need_awaited(registered: Sequence[Registration]) -> None:
    """No coroutine function stands where SGLang goes on with what it returns; no BEFORE hook is one."""
    for registration, found in located(registered):
        hook = registration.hook
        called = inspect.getattr_static(type(hook), "__call__", None)  # of an object that can be called
        if isinstance(hook, type) or not any(map(inspect.iscoroutinefunction, (hook, called))):
            continue
        before = registration.kind == "BEFORE"
        expect.that(
            not (before or _is_sync(found.original)),
            expected="an ordinary function",
            seen="a coroutine function",
            call=str(registration),
            where=registration.where,
            cause="SGLang does not await a BEFORE hook, and takes the coroutine for what it returned"
            if before
            else f"{found.name} is no coroutine function: its callers get a coroutine in place of the result",
        )


def _is_sync(original: Any) -> bool:
    """Whether a target surely returns nothing that its callers await: by its annotation, or by what it returns."""
    function = inspect.unwrap(original)
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    if not isinstance(function, types.FunctionType) or any(
        is_kind(f) for is_kind in kinds for f in (original, function)
    ):
        return False
    given = signature(original)
    annotation = given.return_annotation if given else inspect.Signature.empty
    if annotation is not inspect.Signature.empty:
        told = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        return set(re.findall(r"\w+", told)) <= _PLAIN
    text = text_of(function)
    plain = (ast.Constant, ast.Compare, ast.JoinedStr, ast.Tuple, ast.List, ast.Dict)
    return text is not None and all(isinstance(value, plain) for value in text.returned)


def _readable(registered: Sequence[Registration], kind: str) -> Iterator[tuple[Registration, Found, Text, int]]:
    """The ordinary functions among the hooks of a kind, with their text and how many parameters are bound."""
    for registration, found in located(registered):
        function, bound = function_of(registration.hook)
        text = text_of(function) if function is not None and registration.kind == kind else None
        if text is not None and isinstance(text.definition, ast.FunctionDef) and not text.is_generator:
            yield registration, found, text, bound


def need_pair(registered: Sequence[Registration]) -> None:
    """A BEFORE hook returns None, or arguments and keywords."""
    for registration, _, text, _ in _readable(registered, "BEFORE"):
        given = text.definition.args
        stored = {n.id for n in ast.walk(text.definition) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        args = given.vararg.arg if given.vararg and given.vararg.arg not in stored else ""
        kwargs = given.kwarg.arg if given.kwarg and given.kwarg.arg not in stored else ""
        for value in text.returned:
            expect.that(
                not _is_no_pair(value, args, kwargs),
                expected="None, or the pair of a tuple of arguments and a dict of keywords",
                seen=f"return {ast.unparse(value)}",
                call=str(registration),
                where=text.place(value),
                cause="SGLang unpacks what a BEFORE hook returns into arguments and keywords: a TypeError at the call",
            )


def _is_no_pair(value: ast.expr, args: str, kwargs: str) -> bool:
    """Whether an expression is surely something else; ``args`` and ``kwargs`` name what the hook was given."""
    if isinstance(value, ast.Constant):
        return value.value is not None
    if isinstance(value, ast.Name):
        return value.id in (args, kwargs)
    if not isinstance(value, (ast.Tuple, ast.List)):
        return isinstance(value, (ast.Dict, ast.Set, ast.JoinedStr, ast.Compare))
    if any(isinstance(part, ast.Starred) for part in value.elts):
        return False
    if len(value.elts) != 2:
        return True
    first, second = value.elts
    no_dict = isinstance(second, (ast.Constant, ast.Tuple, ast.List, ast.Set)) or _is_name(second, args)
    return isinstance(first, ast.Constant) or no_dict


def _is_name(value: ast.expr, name: str) -> bool:
    return isinstance(value, ast.Name) and value.id == name != ""


def need_handed_on(registered: Sequence[Registration]) -> None:
    """An AROUND hook that calls the original hands on the arguments that it takes as ``*args`` and ``**kwargs``."""
    for registration, found, text, bound in _readable(registered, "AROUND"):
        target = signature(found.original)
        calls = _calls_of_original(text, bound)
        if target is None or not calls:
            continue
        for star, lost in _dropped(text, bound, calls, tuple(target.parameters.values())):
            names = [p.name for p in lost if not (found.takes_self and p is next(iter(target.parameters.values())))]
            expect.that(
                not names,
                expected=f"the original called with {star}",
                seen=ast.unparse(calls[0]),
                call=str(registration),
                where=text.place(calls[0]),
                cause=f"{', '.join(names)} of {found.name}{target} can be given so, and the original does not get it",
            )


def _calls_of_original(text: Text, bound: int) -> list[ast.Call]:
    """The calls of the original; none where it is used in any other way, or where names are looked up otherwise."""
    name = next(iter(text.positional[bound:]), "")
    nodes = list(ast.walk(text.definition))
    calls = [n for n in nodes if isinstance(n, ast.Call) and _is_name(n.func, name)]
    used = {n.id for n in nodes if isinstance(n, ast.Name)}
    uses = sum(isinstance(n, ast.Name) and n.id == name for n in nodes)
    return calls if uses == len(calls) and not used & {"locals", "vars", "eval", "exec", "inspect", "sys"} else []


def _dropped(
    text: Text, bound: int, calls: Sequence[ast.Call], target: Sequence[inspect.Parameter]
) -> Iterator[tuple[str, list[inspect.Parameter]]]:
    """What the hook takes together and never looks at (``*args``, ``**kwargs``), and the parameters lost with it."""
    given = text.definition.args
    read = {n.id for n in ast.walk(text.definition) if isinstance(n, ast.Name)}
    named = {*text.positional, *(a.arg for a in given.kwonlyargs)}
    known = {k.arg for call in calls for k in call.keywords}
    # Arguments written out by position stand for the first of the target's parameters.
    written = max(sum(not isinstance(a, ast.Starred) for a in call.args) for call in calls)
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    left = [p for n, p in enumerate(target) if n >= written and p.name not in {*named, *known}]
    if given.kwarg and given.kwarg.arg not in read and None not in known:
        yield f"**{given.kwarg.arg}", [p for p in left if p.kind in by_name]
    starred = any(isinstance(a, ast.Starred) for call in calls for a in call.args)
    if given.vararg and given.vararg.arg not in read and not starred:
        beyond = max(len(text.positional) - bound - 1, 0)
        yield f"*{given.vararg.arg}", [p for p in left if p in target[beyond:] and p.kind in by_position]


def need_kind(registered: Sequence[Registration]) -> None:
    """What an AFTER hook returns in place of the result is of the kind that its target declares."""
    for registration, found, text, _ in _readable(registered, "AFTER"):
        declared = _declared(found.original)
        for value in text.returned if declared is not None else ():
            if not isinstance(value, ast.Constant) or value.value is None:
                continue
            is_flag = isinstance(value.value, bool) and declared in (int, float)
            expect.that(
                isinstance(value.value, (declared, int) if declared is float else declared) and not is_flag,
                expected="None, to leave the result as it is"
                + ("" if declared is type(None) else f", or another {declared.__name__}"),
                seen=f"return {ast.unparse(value)}",
                call=str(registration),
                where=text.place(value),
                cause=f"SGLang takes anything but None in place of the result of {found.name}",
            )


def _declared(original: Any) -> Any:
    """The class that a target's annotation says it returns (``NoneType`` for None); None where it names no class."""
    function = inspect.unwrap(original)
    if not isinstance(function, types.FunctionType) or inspect.iscoroutinefunction(function):
        return None
    given = signature(original)
    if given is None or given.return_annotation is given.empty:
        return None
    told = given.return_annotation
    try:
        stand_in = types.SimpleNamespace(__annotations__={"return": told})
        named = typing.get_type_hints(stand_in, function.__globals__)["return"]
    except Exception:  # an annotation that only a type checker can resolve
        return None
    plain = isinstance(named, type) and typing.get_origin(named) is None and not getattr(named, "_is_protocol", False)
    return named if plain and named is not Any else None
