"""Frozen dataclasses from plain JSON, and plain JSON of whatever a world gives back."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def read(kind: type[T], data: Any) -> T:
    """The dataclass that ``dataclasses.asdict`` and JSON have made ``data`` of; tuples, too, are read back."""
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return cast(T, kind(**{name: read(hints[name], value) for name, value in data.items()}))
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        inners = inner[:1] * len(data) if inner[-1] is Ellipsis else inner
        return cast(T, tuple(read(each, value) for each, value in zip(inners, data, strict=True)))
    return cast(T, data)


def described(value: Any, depth: int = 4) -> Any:
    """What can be compared between two processes: values as they are, of objects their kind and name."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return repr(value)
    if depth and type(value) is dict and all(isinstance(key, str) for key in value):
        return {key: described(each, depth - 1) for key, each in value.items()}
    if depth and isinstance(value, Mapping):
        pairs = [[described(k, depth - 1), described(v, depth - 1)] for k, v in value.items()]
        return {type(value).__name__: pairs}
    if depth and isinstance(value, (list, tuple)):
        return {type(value).__name__: [described(each, depth - 1) for each in value]}
    if depth and isinstance(value, (set, frozenset)):
        return {type(value).__name__: sorted((described(each, depth - 1) for each in value), key=repr)}
    if isinstance(value, type):
        return f"class {_named(value)}"
    if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        return f"function {_named(value)}"
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    return f"a {_named(type(value))}"


def _named(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def outcome(call: Callable[[], Any]) -> dict[str, Any]:
    """What a call gives: ``value``, or the type of its ``error`` (SystemExit and the like, too)."""
    try:
        return {"value": described(call())}
    except BaseException as error:
        return {"error": type(error).__name__}
