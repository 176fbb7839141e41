"""Targets whose modules do not import here, told from the text of the release: the index of what can be named in it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable
from typing import Any

from ...contract import tables
from ...contract.errors import ContractError
from ...contract.index import Index, Resolved
from .plugin import Found, Missing

_WITH_SELF = ("method", "classmethod")
_CALLED = (*_WITH_SELF, "staticmethod", "function")


def known(target: str, release: str) -> Found | None:
    """The target as the release has it, with something that has its signature in place of it; None where none can tell.

    Raises Missing where that release certainly has none of that name.
    """
    index = _index(release)
    found = index.resolve(target) if index is not None else None
    if index is None:
        return None
    if found is None:
        raise Missing(f"SGLang {release} has no {target}")
    if not isinstance(found, Resolved):
        return None
    name, symbol = target.rpartition(".")[2], found.symbol
    if symbol.kind == "class":
        return Found(None, name, type(name, (), {}), takes_self=False)
    if symbol.kind == "property":
        return Found(None, name, property(), takes_self=False)
    if symbol.kind not in _CALLED or not symbol.signature:
        return None
    return Found(None, name, _taking(symbol.signature), takes_self=symbol.kind in _WITH_SELF)


@functools.cache
def _index(release: str) -> Index | None:
    try:
        return tables.load_index(release)
    except ContractError:  # a release that the kit has not been told of
        return None


def _taking(signature: str) -> Callable[..., Any]:
    """A function of that signature, which is Python source; annotations are left out."""

    def target(*args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("it only has a signature")

    vars(target)["__signature__"] = signature_of(signature)
    return target


class _Written:
    """A default as it is written: what it comes to is not known."""

    def __init__(self, node: ast.expr) -> None:
        self._text = ast.unparse(node)

    def __repr__(self) -> str:
        return self._text


def signature_of(text: str) -> inspect.Signature:
    """The signature that stands in a text, such as ``(self, device_id: int = 0) -> int``."""
    definition = ast.parse(f"def target{text}: ...").body[0]
    if not isinstance(definition, ast.FunctionDef):
        raise ValueError(f"{text!r} is no signature")
    given, kind = definition.args, inspect.Parameter
    positional = [
        *((a, kind.POSITIONAL_ONLY) for a in given.posonlyargs),
        *((a, kind.POSITIONAL_OR_KEYWORD) for a in given.args),
    ]
    required = len(positional) - len(given.defaults)
    parameters = [
        kind(a.arg, how, default=kind.empty if n < required else _Written(given.defaults[n - required]))
        for n, (a, how) in enumerate(positional)
    ]
    if given.vararg:
        parameters.append(kind(given.vararg.arg, kind.VAR_POSITIONAL))
    for a, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        parameters.append(kind(a.arg, kind.KEYWORD_ONLY, default=kind.empty if default is None else _Written(default)))
    if given.kwarg:
        parameters.append(kind(given.kwarg.arg, kind.VAR_KEYWORD))
    return inspect.Signature(parameters)
