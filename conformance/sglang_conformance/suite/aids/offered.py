"""What the objects of a class will have, told without making one: SGLang's arguments for that are not at hand.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import abc
import contextlib
import dis
import functools
import importlib
import sys
import types
from collections.abc import Iterator
from typing import Any

from .. import expect

# What a class does to its objects by these cannot be read from its code.
_DYNAMIC = frozenset({"setattr", "__setattr__", "__dict__", "vars"})
_HIDING = ("__getattr__", "__getattribute__", "__new__")


def must_offer(answer: expect.Answer | None, *names: str, cause: str) -> None:
    """Fail where the objects of the class in the answer cannot have one of the members. Nothing to say of no answer."""
    missing = [name for name in names if answer is not None and lacks(answer.value, name)]
    if missing and answer is not None:
        kind = _class_in(answer.value)
        expect.fail(
            expected=f"objects with {', '.join(names)}",
            seen=f"{expect.show(kind)}, which has no {', '.join(missing)}",
            call=answer.call,
            where=expect.place(kind) or answer.where,
            cause=cause,
        )


def lacks(maker: Any, name: str) -> bool:
    """Whether an object of the class certainly has no attribute of that name.

    False wherever it might: an attribute that is assigned by a method, or by a function of the vendor's that a method
    names; one that is looked up by the class's own rules; a function for a class, whose objects can be of any.
    """
    kind = _class_in(maker)
    if kind is None or hasattr(kind, name) or type(kind) not in (type, abc.ABCMeta):
        return False
    bases = [base for base in kind.__mro__ if base.__module__ != "builtins"]
    if any(hidden in vars(base) for base in bases for hidden in _HIDING):
        return False
    codes = [code for function in _reached(bases) for code in _within(function.__code__)]
    used = {used for code in codes for used in code.co_names}
    return name not in {assigned for code in codes for assigned in _assigned(code)} and not used & _DYNAMIC


def _class_in(maker: Any) -> type | None:
    """The class that is called in the end, also through functools.partial; None where that is a function."""
    while isinstance(maker, functools.partial):
        maker = maker.func
    return maker if isinstance(maker, type) else None


def _reached(bases: list[type]) -> list[types.FunctionType]:
    """The methods of the classes, and the functions of the same packages that these name, and so on."""
    packages = {base.__module__.partition(".")[0] for base in bases}
    reached: dict[int, types.FunctionType] = {}
    waiting = [member for base in bases for member in map(_function_in, vars(base).values())]
    while waiting:
        function = waiting.pop()
        if isinstance(function, types.FunctionType) and id(function) not in reached:
            reached[id(function)] = function
            waiting += [found for found in _named(function) if _package(found) in packages]
    return list(reached.values())


def _function_in(member: Any) -> Any:
    function = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
    return getattr(function, "__wrapped__", function)


def _named(function: types.FunctionType) -> Iterator[Any]:
    """What a function names: in its module, and in the modules of its package that it names or imports."""
    codes = list(_within(function.__code__))
    names = {name for code in codes for name in code.co_names}
    for value in (*map(function.__globals__.get, names), *_imported(function, codes, names)):
        yield value
        if isinstance(value, types.ModuleType):
            yield from (getattr(value, name, None) for name in names)


def _imported(function: types.FunctionType, codes: list[types.CodeType], names: set[str]) -> Iterator[Any]:
    """The modules of a function's own package that it imports where it runs."""
    top, parent = function.__module__.partition(".")[0], function.__module__.rpartition(".")[0]
    texts = {each.argval for code in codes for each in dis.get_instructions(code) if each.opname == "IMPORT_NAME"}
    for path in {text if text.partition(".")[0] == top else f"{parent}.{text}".strip(".") for text in texts}:
        for full in (path, *(f"{path}.{name}" for name in names)):
            with contextlib.suppress(Exception):
                yield sys.modules.get(full) or importlib.import_module(full)


def _package(thing: Any) -> str:
    return str(getattr(thing, "__module__", "")).partition(".")[0]


def _within(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _within(constant)


def _assigned(code: types.CodeType) -> Iterator[str]:
    """The names that are assigned as attributes, of whatever object."""
    return (each.argval for each in dis.get_instructions(code) if each.opname == "STORE_ATTR")
