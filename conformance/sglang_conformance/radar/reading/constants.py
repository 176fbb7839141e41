"""What constants come to when they are called, compared, indexed and joined: versions, texts and lists of them."""

from __future__ import annotations

import ast
import itertools
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from .values import UNKNOWN, Const, Release, Releases, Seq, Table, Value

_TEXT_METHODS = frozenset(
    [
        "split",
        "rsplit",
        "strip",
        "lstrip",
        "rstrip",
        "lower",
        "upper",
        "startswith",
        "endswith",
        "removeprefix",
        "removesuffix",
        "replace",
        "format",
        "join",
        "partition",
        "rpartition",
        "isdigit",
        "count",
        "title",
    ]
)
_BUILT_IN: dict[str, Callable[..., Any]] = {
    "tuple": tuple, "list": list, "set": tuple, "frozenset": tuple, "sorted": sorted, "len": len, "str": str,
    "int": int, "bool": bool, "any": any, "all": all, "max": max, "min": min, "sum": sum, "dict": dict, "zip": zip,
    "range": range, "enumerate": enumerate, "reversed": lambda x: list(x)[::-1],
}  # fmt: skip
BUILT_IN = frozenset(_BUILT_IN)
_VERSION_PARTS = frozenset({"release", "major", "minor", "micro", "base_version", "public", "is_prerelease", "post"})
_MOST = 2000
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {ast.Add: operator.add, ast.Mod: operator.mod}


class NotPlain(Exception):
    """A value holds something that is no constant."""


def plain(value: Value) -> Any:
    """The Python object of a constant, also of lists of constants and versions; raises NotPlain for anything else."""
    if isinstance(value, Const):
        return value.value
    if isinstance(value, Seq):
        return tuple(plain(item) for item in value.items)
    if isinstance(value, Table):
        return {plain(key): plain(item) for key, item in value.items}
    if isinstance(value, Release):
        return Version(value.text)
    raise NotPlain


def value_of(thing: Any) -> Value:
    """The value that a Python object of plain data is."""
    if isinstance(thing, Version):
        return Release(str(thing))
    if isinstance(thing, str) and len(thing) > _MOST:
        return UNKNOWN
    if thing is None or isinstance(thing, (str, int, float, bool)):
        return Const(thing)
    if isinstance(thing, dict):
        return Table(tuple((value_of(k), value_of(v)) for k, v in thing.items()))
    if not isinstance(thing, (list, tuple, set, frozenset, zip, range, enumerate)):
        return UNKNOWN
    items = tuple(itertools.islice(thing, _MOST + 1))
    return Seq(tuple(map(value_of, items))) if len(items) <= _MOST else UNKNOWN


def release(values: Sequence[Value]) -> Value:
    """What ``Version(text)`` gives."""
    text = values[0] if values else UNKNOWN
    if isinstance(text, Release):
        return text
    if isinstance(text, Const) and isinstance(text.value, str):
        try:
            return Release(str(Version(text.value)))
        except InvalidVersion:
            return UNKNOWN
    return UNKNOWN


def releases(values: Sequence[Value]) -> Value:
    """What ``SpecifierSet(text)`` gives."""
    text = values[0] if values else Const("")
    try:
        return Releases(str(SpecifierSet(text.value))) if isinstance(text, Const) else UNKNOWN
    except (InvalidSpecifier, AttributeError):
        return UNKNOWN


def within(version: Value, among: Releases) -> Value:
    """Whether a version is one of a range."""
    found = release([version])
    return (
        Const(SpecifierSet(among.text).contains(found.text, prereleases=True))
        if isinstance(found, Release)
        else UNKNOWN
    )


def built_in(name: str, values: Sequence[Value]) -> Value:
    """What a call of one of Python's own functions gives."""
    if name in ("tuple", "list", "set", "frozenset") and len(values) == 1 and isinstance(values[0], Seq):
        return values[0]
    if name == "tuple" and not values:
        return Seq(())
    return _tried(_BUILT_IN[name], values)


def method(receiver: Value, name: str, values: Sequence[Value]) -> Value:
    """What a method of a text, of a dictionary or of a range of versions gives."""
    if isinstance(receiver, Releases):
        return within(values[0], receiver) if name == "contains" and values else UNKNOWN
    if isinstance(receiver, Table) and not values and name in ("items", "keys", "values"):
        pairs = receiver.items
        parts = {"items": tuple(Seq(pair) for pair in pairs), "keys": tuple(k for k, _ in pairs)}
        return Seq(parts.get(name, tuple(v for _, v in pairs)))
    if isinstance(receiver, Table) and name == "get" and values:
        found = index(receiver, values[0])
        return found if found is not UNKNOWN else (values[1] if len(values) > 1 else Const(None))
    if isinstance(receiver, Const) and isinstance(receiver.value, str) and name in _TEXT_METHODS:
        wide = name == "format" and re.search(r"{[^{}]*[:!]", receiver.value)
        return UNKNOWN if wide else _tried(getattr(receiver.value, name), values)
    return UNKNOWN


def attribute(value: Release, name: str) -> Value:
    """A part of a version."""
    return value_of(getattr(Version(value.text), name)) if name in _VERSION_PARTS else UNKNOWN


def compare(operation: ast.cmpop, left: Value, right: Value) -> Value:
    """What comparing two constants gives."""
    apply = _COMPARE.get(type(operation))
    return _tried(apply, (left, right)) if apply is not None else UNKNOWN


def binary(operation: ast.operator, left: Value, right: Value) -> Value:
    """What adding two constants, or formatting a text with ``%``, gives."""
    if isinstance(operation, ast.Add) and isinstance(left, Seq) and isinstance(right, Seq):
        return Seq((*left.items, *right.items))
    apply = _BINARY.get(type(operation))
    wide = isinstance(operation, ast.Mod) and not (isinstance(left, Const) and _is_narrow(left.value))
    return _tried(apply, (left, right)) if apply is not None and not wide else UNKNOWN


def index(holder: Value, key: Value) -> Value:
    """One item of a list or dictionary, or a letter of a text."""
    try:
        wanted = plain(key)
        if isinstance(holder, Seq):
            found: Value = holder.items[wanted]
            return found
        if isinstance(holder, Table):
            return next((v for k, v in holder.items if isinstance(k, Const) and k.value == wanted), UNKNOWN)
        return value_of(plain(holder)[wanted])
    except (NotPlain, TypeError, LookupError, ValueError):
        return UNKNOWN


def cut(holder: Value, lower: Value, upper: Value) -> Value:
    """A slice of a list or text."""
    try:
        part = slice(plain(lower), plain(upper))
        return Seq(holder.items[part]) if isinstance(holder, Seq) else value_of(plain(holder)[part])
    except (NotPlain, TypeError, ValueError):
        return UNKNOWN


def _is_narrow(pattern: object) -> bool:
    """Whether it formats without a width, which could be of any size."""
    return isinstance(pattern, str) and not re.search(r"%[^sdr%]", pattern)


def _tried(apply: Callable[..., Any], values: Sequence[Value]) -> Value:
    try:
        return value_of(apply(*map(plain, values)))
    except (NotPlain, TypeError, ValueError, LookupError, OverflowError, AttributeError):
        return UNKNOWN
