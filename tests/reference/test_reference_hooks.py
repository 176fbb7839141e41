from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

SOURCE = """
def function(*args, **kwargs):
    return ("function", args, kwargs)

class Base:
    def method(self, *args):
        return ("method", args)

    @classmethod
    def of_class(cls, *args):
        return (cls.__name__, args)

    @staticmethod
    def static(*args):
        return ("static", args)

class Child(Base):
    pass
"""


@pytest.fixture
def hooks(install: Any, module: Callable[[str], Any]) -> Any:
    install()
    return module("sglang.srt.plugins.hook_registry")


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Any:
    return _module("hook_target", SOURCE, monkeypatch)


def _module(name: str, source: str, monkeypatch: pytest.MonkeyPatch, **values: Any) -> Any:
    made = types.ModuleType(name)
    vars(made).update(values)
    exec(source, vars(made))
    monkeypatch.setitem(sys.modules, name, made)
    return made


def _apply(hooks: Any, *registrations: tuple[str, Any, str]) -> None:
    for path, hook, kind in registrations:
        hooks.HookRegistry.register(f"hook_target.{path}", hook, hooks.HookType(kind))
    hooks.HookRegistry.apply_hooks()


def _errors(log: pytest.LogCaptureFixture) -> list[type | None]:
    return [r.exc_info[0] for r in log.records if r.levelname == "ERROR" and r.exc_info]


def _marking(kind: str, mark: str) -> Callable[..., Any]:
    """A hook that leaves ``mark`` where its type lets it."""
    marks: dict[str, Callable[..., Any]] = {
        "before": lambda *args, **kwargs: ((*args, mark), kwargs),
        "after": lambda result, *args, **kwargs: (mark, result),
        "around": lambda original, *args, **kwargs: (mark, original(*args, mark, **kwargs)),
        "replace": lambda *args, **kwargs: (mark, args),
    }
    return marks[kind]


def _expected(program: list[tuple[str, str]], args: tuple[Any, ...]) -> Any:
    """What a marked function gives, read from the outermost hook inwards: REPLACE innermost, the last one alone."""
    wrapping = [hook for hook in program if hook[0] != "replace"]
    if not wrapping:
        replacing = [mark for kind, mark in program if kind == "replace"]
        return (replacing[-1], args) if replacing else ("function", args, {})
    kind, mark = wrapping[-1]
    inner = [hook for hook in program if hook != (kind, mark)]
    if kind == "before":
        return _expected(inner, (*args, mark))
    return (mark, _expected(inner, args if kind == "after" else (*args, mark)))


@pytest.mark.parametrize("length", [1, 2, 3])
def test_every_order_of_hook_types_gives_what_the_rules_say(
    hooks: Any, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    for kinds in itertools.product(["before", "after", "around", "replace"], repeat=length):
        program = [(kind, f"hook {i}") for i, kind in enumerate(kinds)]
        target = _module("hook_target", SOURCE, monkeypatch)
        hooks.HookRegistry.reset()
        _apply(hooks, *(("function", _marking(kind, mark), kind) for kind, mark in program))
        assert target.function(0) == _expected(program, (0,)), program


def test_before_without_an_answer_keeps_the_arguments(hooks: Any, target: Any) -> None:
    seen: list[Any] = []
    _apply(hooks, ("function", lambda *args, **kwargs: seen.append((args, kwargs)), "before"))
    assert target.function(1, key=2) == ("function", (1,), {"key": 2})
    assert seen == [((1,), {"key": 2})]


@pytest.mark.parametrize(("answer", "error"), [((), ValueError), ((5,), ValueError), (False, TypeError)])
def test_before_with_a_malformed_answer_fails_at_the_call(
    hooks: Any, target: Any, answer: Any, error: type[Exception]
) -> None:
    _apply(hooks, ("function", lambda *args, **kwargs: answer, "before"))
    with pytest.raises(error):
        target.function(1)


def test_after_replaces_the_result_unless_it_gives_none(hooks: Any, target: Any) -> None:
    answers = iter([None, 0, False])
    _apply(hooks, ("function", lambda result, *args: next(answers), "after"))
    assert [target.function(1) for _ in range(3)] == [("function", (1,), {}), 0, False]


def test_after_outside_before_sees_the_first_arguments(hooks: Any, target: Any) -> None:
    seen: list[Any] = []
    _apply(
        hooks,
        ("function", lambda *args: (("changed",), {}), "before"),
        ("function", lambda result, *args: seen.append(args), "after"),
    )
    assert target.function("first")[1] == ("changed",)
    assert seen == [("first",)]


@pytest.mark.parametrize("kind", ["before", "after", "around", "replace"])
def test_a_hooks_exception_reaches_the_caller(hooks: Any, target: Any, kind: str) -> None:
    def fails(*args: Any) -> None:
        raise LookupError("hook")

    _apply(hooks, ("function", fails, kind))
    with pytest.raises(LookupError, match="hook"):
        target.function()


def test_methods_of_all_kinds_stay_what_they_are(hooks: Any, target: Any) -> None:
    for name in ("method", "of_class", "static"):
        _apply(hooks, (f"Base.{name}", lambda result, *args: ("hooked", result), "after"))
    assert target.Base().method(1) == ("hooked", ("method", (1,)))
    assert target.Base.of_class(1) == ("hooked", ("Base", (1,)))
    assert target.Child.of_class(1) == target.Child().of_class(1) == ("hooked", ("Child", (1,)))
    assert target.Base.static(1) == target.Base().static(1) == ("hooked", ("static", (1,)))
    raw = vars(target.Base)
    kinds = [type(raw[name]) for name in ("method", "of_class", "static")]
    assert kinds == [types.FunctionType, classmethod, staticmethod]
    assert (raw["method"].__name__, raw["method"].__qualname__) == ("method", "Base.method")


def test_a_replacing_class_stands_for_itself_and_gets_the_method_hooks(
    hooks: Any, target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = target.Base
    importer = _module("hook_importer", "", monkeypatch, Base=original, table={"Base": original})

    class Mine:
        def method(self) -> str:
            return "mine"

    _apply(
        hooks,
        ("Base.method", lambda original, *args: ("around", original(*args)), "around"),
        ("Base", Mine, "replace"),
    )
    assert target.Base().method() == ("around", "mine")
    assert target.Base is importer.Base is Mine
    # Neither dictionaries nor subclasses made before follow.
    assert importer.table["Base"] is original
    assert target.Child.__bases__ == (original,)


def test_classes_are_replaced_before_any_method_is_hooked(
    hooks: Any, target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _module("hook_earlier", "", monkeypatch, Base=target.Base)  # its name sorts before the class's own module
    mine = type("Mine", (), {"method": lambda self: "mine"})
    hooks.HookRegistry.register("hook_earlier.Base.method", lambda result, *args: ("after", result))
    _apply(hooks, ("Base", mine, "replace"))
    assert target.Base().method() == ("after", "mine")


def test_modules_that_imported_a_target_by_name_follow(
    hooks: Any, target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sealed(types.ModuleType):
        def __setattr__(self, name: str, value: Any) -> None:
            raise AttributeError(name)

    sealed = Sealed("hook_sealed")
    vars(sealed)["function"] = target.function
    monkeypatch.setitem(sys.modules, "hook_sealed", sealed)
    monkeypatch.setitem(sys.modules, "hook_no_module", object())
    importer = _module("hook_importer", "", monkeypatch, renamed=target.function)
    before = target.function
    _apply(hooks, ("function", lambda: "new", "replace"))
    assert importer.renamed is target.function
    assert importer.renamed() == "new"
    assert vars(sealed)["function"] is before


def test_a_class_takes_only_replacements(hooks: Any, target: Any, log: pytest.LogCaptureFixture) -> None:
    original = target.Base
    _apply(hooks, ("Base", lambda result: 1, "after"), ("function", lambda: "new", "replace"))
    assert target.Base is original
    assert _errors(log) == [TypeError]
    assert target.function() == "new"
    with pytest.raises(TypeError, match=r"Base can only be a REPLACE hook, not HookType\.AROUND"):
        hooks.HookRegistry.register("hook_target.function", original, hooks.HookType.AROUND)


def test_a_failing_target_is_logged_and_tried_again(hooks: Any, target: Any, log: pytest.LogCaptureFixture) -> None:
    _apply(hooks, ("absent", lambda: "new", "replace"), ("function", lambda: "new", "replace"))
    assert target.function() == "new"
    assert _errors(log) == [AttributeError]
    assert hooks.HookRegistry._patched == {"hook_target.function"}
    target.absent = lambda: "old"
    hooks.HookRegistry.apply_hooks()
    assert target.absent() == "new"


@pytest.mark.parametrize("path", ["", "nodots", "no_such_module.function", "hook_target."])
def test_a_target_that_is_nowhere_is_only_logged(
    hooks: Any, target: Any, log: pytest.LogCaptureFixture, path: str
) -> None:
    hooks.HookRegistry.register(path, lambda: None)
    hooks.HookRegistry.apply_hooks()
    assert len(_errors(log)) == 1
    assert hooks.HookRegistry._patched == set()


def test_applying_twice_patches_once_and_ignores_later_hooks_on_the_target(hooks: Any, target: Any) -> None:
    _apply(hooks, ("function", _marking("after", "first"), "after"))
    _apply(hooks, ("function", _marking("after", "second"), "after"))
    assert target.function() == ("first", ("function", (), {}))


def test_reset_forgets_but_does_not_undo(hooks: Any, target: Any) -> None:
    _apply(hooks, ("function", lambda: "new", "replace"))
    hooks.HookRegistry.reset()
    assert (dict(hooks.HookRegistry._hooks), hooks.HookRegistry._patched) == ({}, set())
    assert target.function() == "new"


def test_risky_combinations_are_warned_of(hooks: Any, target: Any, log: pytest.LogCaptureFixture) -> None:
    source = hooks.HookSource("mine", "vendor-mine")
    register, kinds = hooks.HookRegistry.register, hooks.HookType
    register("hook_target.function", lambda: 1, kinds.REPLACE, source=source)
    assert not [r for r in log.records if r.levelname == "WARNING"]
    register("hook_target.function", lambda: 2, kinds.REPLACE)
    register("hook_target.Base.method", _marking("around", "a"), kinds.AROUND, source=source)
    register("hook_target.Base.method", _marking("around", "b"), kinds.AROUND)
    hooks.HookRegistry.apply_hooks()
    warnings = [r.getMessage() for r in log.records if r.levelname == "WARNING"]
    assert [("REPLACE" in w, "AROUND" in w) for w in warnings] == [(True, False), (False, True)]
    assert all("plugin=mine, dist=vendor-mine" in w for w in warnings)
    assert target.function() == 2


def test_replacing_a_method_of_a_replacing_class_is_warned_of(
    hooks: Any, target: Any, log: pytest.LogCaptureFixture
) -> None:
    mine = type("Mine", (), {"method": lambda self: "mine"})
    _apply(hooks, ("Base", mine, "replace"), ("Base.method", lambda self: "theirs", "replace"))
    assert target.Base().method() == "theirs"
    assert ["Base.method" in r.getMessage() for r in log.records if r.levelname == "WARNING"] == [True]


def test_plugin_hook_returns_what_it_decorates_and_defaults_to_after(hooks: Any, target: Any) -> None:
    @hooks.plugin_hook("hook_target.function")  # type: ignore[untyped-decorator]
    def after(result: Any) -> Any:
        return ("after", result)

    @hooks.plugin_hook("hook_target.Base", type=hooks.HookType.REPLACE)
    class Mine: ...

    hooks.HookRegistry.apply_hooks()
    assert after(1) == ("after", 1)
    assert target.function() == ("after", ("function", (), {}))
    assert target.Base is Mine


def test_source_is_the_running_plugin_unless_given(hooks: Any) -> None:
    running, given = hooks.HookSource("running", None), hooks.HookSource("given", "dist")
    token = hooks._current_plugin_source.set(running)
    hooks.HookRegistry.register("hook_target.function", lambda: None)
    hooks.HookRegistry.register("hook_target.function", lambda: None, source=given)
    hooks._current_plugin_source.reset(token)
    hooks.HookRegistry.register("hook_target.function", lambda: None)
    assert [s for _, _, s in hooks.HookRegistry._hooks["hook_target.function"]] == [running, given, None]
