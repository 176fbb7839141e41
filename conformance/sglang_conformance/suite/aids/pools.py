"""KV pools: whether a class extends SGLang's own pool of a kind, as far as this host can tell.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...contract.model import Contract
from .. import expect
from .resolution import overrides
from .uncovered import answer_of, class_of

# The pool that each kind's class must extend (SGLang 0.5.23, srt/mem_cache/kv_cache_configurator.py:165).
POOLS: Mapping[str, str] = {"mha": "MHATokenToKVPool", "mla": "MLATokenToKVPool", "dsa": "DSATokenToKVPool"}

# The pools' methods of their own, up to 0.5.21: the first is needed by ordinary models, the others by some families.
POOL_METHODS = ("get_mha_kv_pool_cls", "get_mla_kv_pool_cls", "get_nsa_kv_pool_cls", "get_dsa_kv_pool_cls")

# What a module names that imports those pools, in any release.
_TRACES = ("TokenToKVPool", "mem_cache")


def check_kinds(platform: Any, kinds: Sequence[str]) -> None:
    """Fail where a kind gets neither None nor a subclass of SGLang's pool; NotCovered where this host cannot tell."""
    unseen = []
    for kind in kinds:
        answer = answer_of(platform, "get_kv_pool_cls", kind=kind)
        if answer is not None and answer.value is None:
            continue
        right = None if answer is None else isinstance(answer.value, type) and _extends(answer.value, kind)
        if answer is None or right is None:
            unseen.append(kind)
            continue
        bases = f"; it extends {_bases(answer.value)}" if isinstance(answer.value, type) else ""
        expected = f"None, or a subclass of SGLang's {POOLS.get(kind, f'pool of the kind {kind}')}"
        expect.that(right, expected=expected, seen=f"{expect.show(answer.value)}{bases}", answer=answer)
    if unseen:
        text = f"whether the pools of {', '.join(unseen)} extend SGLang's own cannot be seen on this host"
        raise expect.NotCovered(text)


def check_methods(platform: Any, contract: Contract) -> None:
    """Fail where one of the methods that the release has gives no class."""
    for member in POOL_METHODS:
        if not contract.has(member):
            continue
        if overrides(platform, member):
            class_of(platform, member)
            continue
        expect.that(
            member != POOL_METHODS[0],
            expected="a class: SGLang asks this for every model with ordinary attention",
            seen="SGLang's own default, which raises NotImplementedError",
            call=expect.spell(member),
        )


def _extends(pool: type, kind: str) -> bool | None:
    """Whether a class extends SGLang's pool of that kind; None where this host cannot tell."""
    base = _own(kind)
    if base is not None:
        return issubclass(pool, base)
    return None if any(map(_may_extend_elsewhere, pool.__mro__)) else False


def _bases(kind: type) -> str:
    return ", ".join(base.__name__ for base in kind.__mro__[1:])


def _own(kind: str) -> type | None:
    """SGLang's own pool of a kind; None where this host does not have it, or cannot import it."""
    try:
        from sglang.srt.mem_cache import memory_pool
    except ImportError:
        return None
    found = getattr(memory_pool, POOLS.get(kind, ""), None)
    return found if isinstance(found, type) else None


def _may_extend_elsewhere(kind: type) -> bool:
    """Whether a class may have a base of SGLang's on a complete host, chosen where its module is imported.

    A vendor may put a base of its own in the place of SGLang's where that cannot be imported.
    """
    if kind.__module__ == "builtins":
        return False
    if "<locals>" in kind.__qualname__:
        return True
    try:
        tree = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
    except (KeyError, OSError, TypeError, SyntaxError):
        return True
    return any(trace in ast.dump(node) for node in _at_import(tree) for trace in _TRACES)


def _at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """What of a module runs when it is imported, less the bodies of its classes and functions."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from (*node.bases, *node.keywords, *node.decorator_list)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
