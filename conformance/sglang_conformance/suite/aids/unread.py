"""Members of the vendor's that look like overrides and that SGLang never reads: misspelt, or another engine's.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import difflib
import inspect
import sys
import types
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ...contract import tables
from ...contract.model import Contract
from .resolution import is_sglangs, overrides

FOREIGN: Mapping[str, str] = {
    "check_and_update_config": "apply_server_args_defaults",
    "dispatch_key": "get_dispatch_key_name",
    "get_attn_backend_cls": "get_default_attention_backend",
    "get_device_communicator_cls": "get_torch_distributed_backend_str",
    "get_punica_wrapper": "",
    "is_async_output_supported": "",
    "pre_register_and_update": "apply_server_args_defaults",
    "simple_compile_backend": "get_compile_backend",
    "verify_model_arch": "",
}
"""Members of vLLM's platform interface (vllm/platforms/interface.py) that SGLang has not, and what it reads instead."""

# Two texts are as good as one where they differ only by these.
_STEMS = {
    "initialize": "init",
    "initialise": "init",
    "initialization": "init",
    "setup": "init",
    "supports": "support",
    "supported": "support",
    "class": "cls",
    "args": "arg",
    "arguments": "arg",
    "mem": "memory",
    "dist": "distributed",
    "string": "str",
}
_CLOSE = 0.87  # one letter in eight may differ, or a suffix such as _cls be missing


def unread(platform: Any, contract: Contract, past: Collection[str]) -> Iterator[tuple[type, str, str]]:
    """The class, the name, and what SGLang reads instead (empty: nothing of the kind).

    Left out is what some release has or had (``past``), and what the vendor's own code calls: a helper of its own.
    Only classes that derive from SGLang's count for another engine's names: such a class serves no other engine.
    """
    known = {*past} | {member.name for release in tables.releases() for member in tables.load(release).members}
    known |= {name for base in type(platform).__mro__ if is_sglangs(base) for name in vars(base)}
    wanted = [m.name for m in contract.called() if not overrides(platform, m.name)]
    for owner in (c for c in type(platform).__mro__ if not is_sglangs(c)):
        serves_sglang = any(is_sglangs(base) for base in owner.__mro__[:-1])
        used = _names_used_by(owner)
        for name, definition in vars(owner).items():
            if name.startswith("_") or name in known or name in used:
                continue
            if name in FOREIGN and serves_sglang:
                yield owner, name, FOREIGN[name] if contract.has(FOREIGN[name]) else ""
            elif isinstance(_functions(definition)[-1], types.FunctionType) and (meant := _meant(name, wanted)):
                yield owner, name, meant


def _meant(name: str, wanted: list[str]) -> str:
    """The member that a name is a misspelling of; empty where there is none."""
    same = [member for member in wanted if _stems(member) == _stems(name)]
    return next(iter(same or difflib.get_close_matches(name, wanted, n=1, cutoff=_CLOSE)), "")


def _stems(name: str) -> list[str]:
    return sorted(_STEMS.get(word, word) for word in name.split("_"))


def _names_used_by(owner: type) -> frozenset[str]:
    """The names that the code of the class's package mentions, as far as it is imported."""
    package = owner.__module__.partition(".")[0]
    found: set[str] = set()
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == package and isinstance(module, types.ModuleType):
            seen: set[int] = set()
            for value in list(vars(module).values()):
                found.update(_mentioned(value, module.__name__, seen))
    return frozenset(found)


def _mentioned(value: Any, module: str, seen: set[int]) -> Iterator[str]:
    """``seen``: the classes that were looked into, by identity, as one may hold another that holds it."""
    if isinstance(value, type) and value.__module__ == module and id(value) not in seen:
        seen.add(id(value))
        for member in list(vars(value).values()):
            yield from _mentioned(member, module, seen)
    for function in _functions(value):
        if isinstance(function, types.FunctionType):
            yield from _names(_innermost(function).__code__)


def _innermost(function: types.FunctionType) -> types.FunctionType:
    inner = inspect.unwrap(function)
    return inner if isinstance(inner, types.FunctionType) else function


def _functions(value: Any) -> tuple[Any, ...]:
    """The functions in what stands in a class or module; nothing of the vendor's runs to find them."""
    if isinstance(value, (classmethod, staticmethod)):
        return (value.__func__,)
    if isinstance(value, property):
        return value.fget, value.fset
    if type(value).__module__ == "functools":  # cached_property, lru_cache
        return getattr(value, "func", None), getattr(value, "__wrapped__", None)
    return (value,)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
