"""What the checks of hooks tell from a hook's source, and what they leave alone because it cannot be told."""

from __future__ import annotations

import ast
import asyncio
import functools
import sys
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np
import pytest

from sglang_conformance.suite import expect
from sglang_conformance.suite.aids.lacking import raised_in_sglang
from sglang_conformance.suite.hooking import conduct, fitness
from sglang_conformance.suite.hooking.plugin import Registration
from sglang_conformance.suite.hooking.recursion import self_call
from sglang_conformance.suite.hooking.source import certain_calls, function_of, own_nodes, text_of


def always(x: Any) -> Any:
    with x:
        a()
        try:
            b()
        finally:
            c()
    assert d()
    return e(f() if g() else h()) or i()


def sometimes(x: Any) -> Any:
    if a():
        return b()
    return c()


def in_loops(x: Any) -> Any:
    for _ in a():
        b()
    [c() for _ in x]
    lambda: d()
    try:
        e()
    except ValueError:
        f()
    return g()


def lazily(x: Any) -> Any:
    yield a()


async def a_coroutine(*args: Any, **kwargs: Any) -> None:
    return None


stand_in: Any = always
a = b = c = d = e = f = g = h = i = stand_in


@pytest.mark.parametrize(
    ("function", "expected"), [(always, "abcdeg"), (sometimes, "a"), (in_loops, "ag"), (lazily, "")]
)
def test_calls_are_certain_where_no_condition_stands_before_them(function: Any, expected: str) -> None:
    text = text_of(function)
    assert text is not None
    assert sorted(ast.unparse(call.func) for call in certain_calls(text)) == sorted(expected)


def test_text_of_what_cannot_be_read_is_none() -> None:
    made: dict[str, Any] = {}
    exec(compile("def always(x): return always(x)", __file__, "exec"), made)
    elsewhere: dict[str, Any] = {}
    exec("def always(x): return always(x)", elsewhere)
    functions: list[Any] = [made["always"], elsewhere["always"], lambda x: x]
    texts = [text_of(function) for function in functions]
    assert texts == [None, None, None]
    assert function_of(print) == (None, 0)


def test_insides_of_inner_functions_are_not_the_functions_own() -> None:
    tree = ast.parse("def f():\n    def g():\n        return 1\n    return 2").body[0]
    assert isinstance(tree, ast.FunctionDef)
    assert [ast.unparse(n) for n in own_nodes(tree.body) if isinstance(n, ast.Return)] == ["return 2"]


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], str]:
    """Puts a function into a module to hook; returns its path."""
    module = types.ModuleType("hooking_targets")
    module.__spec__ = ModuleSpec(module.__name__, None)
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def put(name: str, function: Any) -> str:
        setattr(module, name, function)
        return f"{module.__name__}.{name}"

    return put


def awaitable() -> Any:
    return asyncio.sleep(0)


def declared_awaitable() -> asyncio.Future[int]:
    return asyncio.Future()


def returns_nothing() -> Any:
    print()


returns_nothing.__annotations__.clear()
awaitable.__annotations__.clear()


@pytest.mark.parametrize("function", [a_coroutine, awaitable, declared_awaitable])
@pytest.mark.parametrize("kind", ["AFTER", "AROUND", "REPLACE"])
def test_coroutine_may_hook_what_may_be_awaited(target: Callable[[str, Any], str], function: Any, kind: str) -> None:
    conduct.need_awaited([Registration(target("f", function), kind, a_coroutine)])


@pytest.mark.parametrize("kind", ["BEFORE", "AFTER", "AROUND", "REPLACE"])
def test_coroutine_is_wrong_on_an_ordinary_function(target: Callable[[str, Any], str], kind: str) -> None:
    with pytest.raises(expect.Violation, match="ordinary function"):
        conduct.need_awaited([Registration(target("f", returns_nothing), kind, a_coroutine)])


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("sglang.srt.configs", "transformers", True),
        ("sglang.srt.configs", "sglang.srt.gone", False),
        ("acme.hooks", "transformers", False),
    ],
)
def test_import_lacks_a_package_where_sglangs_own_module_asked_for_it(module: str, name: str, expected: bool) -> None:
    names: dict[str, Any] = {"__name__": module}
    exec(f"def load():\n    raise ModuleNotFoundError('none', name={name!r})", names)
    with pytest.raises(ModuleNotFoundError) as caught:
        names["load"]()
    assert raised_in_sglang(caught.value) is expected


@pytest.mark.parametrize(
    ("body", "package", "expected"),
    [
        ("sglang.srt.configs", "transformers.auto", True),
        ("sglang.srt.configs", "sglang.srt.configs.base", False),  # SGLang's modules met each other half imported
        ("acme.pools", "transformers.auto", False),
    ],
)
def test_package_that_is_another_than_sglang_wants_fails_its_import(body: str, package: str, expected: bool) -> None:
    inner: dict[str, Any] = {"__name__": package}
    exec("def register():\n    raise ValueError('already used')", inner)
    with pytest.raises(ValueError, match="already used") as caught:
        exec(compile("register()", body, "exec"), {"__name__": body, "register": inner["register"]})
    assert raised_in_sglang(caught.value) is expected


def of_a_table(limit: Any) -> Callable[..., Any]:
    def hook(*args: Any, scale: Any = limit, **kwargs: Any) -> Any:
        return limit, scale

    return hook


def twice(one: Any, other: Any) -> list[Registration]:
    return [Registration("sglang.srt.utils.f", "AFTER", hook) for hook in (one, other)]


@pytest.mark.parametrize(
    ("one", "other"), [(np.ones(3), np.ones(3)), (np.ones(3), np.zeros(3)), (1, 2), ("a", "b")], ids=str
)
def test_hooks_that_hold_different_things_are_two(one: Any, other: Any) -> None:
    fitness.need_single(twice(of_a_table(one), of_a_table(other)))
    fitness.need_single(twice(functools.partial(of_a_table, one), functools.partial(of_a_table, other)))


@pytest.mark.parametrize("held", [np.ones(3), 1, "a", None], ids=str)
def test_hook_that_is_registered_twice_is_told(held: Any) -> None:
    hook = of_a_table(held)
    for other in (hook, of_a_table(held)):
        with pytest.raises(expect.Violation, match="registered once"):
            fitness.need_single(twice(hook, other))


def of_a_release(*, old: bool) -> Callable[..., Any]:
    if old:
        helper = always

    def hook(*args: Any, **kwargs: Any) -> Any:
        return hook(*args, **kwargs) if not old else helper(*args, **kwargs)

    return hook


@pytest.mark.parametrize("old", [True, False])
def test_hook_over_a_name_that_only_some_releases_give_is_looked_into(old: bool) -> None:
    registration = Registration("sglang.srt.utils.f", "REPLACE", of_a_release(old=old))
    assert self_call(registration, always) == ("", "")
