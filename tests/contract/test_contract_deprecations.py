from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from sglang_conformance.contract import tables
from sglang_conformance.contract.deprecations import in_module, of_members, of_variables
from sglang_conformance.contract.extract import extract
from sglang_conformance.contract.model import Deprecation

WARN = "warnings.warn('old', DeprecationWarning, stacklevel=2)"


def targets(text: str, name: str = "srt/m.py") -> list[tuple[str, str]]:
    return [(each.name, each.replacement) for each in in_module(ast.parse(dedent(text)), name)]


def members(text: str) -> list[tuple[str, str]]:
    module = ast.parse(dedent(text))
    owner = next(node for node in module.body if isinstance(node, ast.ClassDef))
    return [(each.name, each.replacement) for each in of_members(owner, module, "srt/platforms/interface.py")]


def variables(text: str) -> dict[str, str]:
    return {each.name: each.replacement for each in of_variables(ast.parse(dedent(text)), "srt/environ.py")}


def test_hooks_that_a_warning_method_looks_up_are_superseded_by_it() -> None:
    text = """
    HOOKS = {"a": "get_a", "b": "get_b"}
    class Platform:
        def get(self, kind):
            if (legacy := getattr(self, HOOKS[kind], None)) is not None:
                logger.warning("%s is deprecated; override get", HOOKS[kind])
                return legacy()
        def plain(self, kind):
            return HOOKS[kind]
    """
    assert set(members(text)) == {("get_a", "get"), ("get_b", "get")}
    assert members(text.replace("is deprecated", "is slow")) == []


def test_a_member_that_warns_whatever_happens_is_deprecated() -> None:
    assert members(f"class P:\n    def f(self):\n        {WARN}\n        return 1") == [("f", "")]
    assert members(f"class P:\n    def f(self, x=None):\n        if x:\n            {WARN}\n        return 1") == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("class Envs:\n    NEW_X = EnvStr('', deprecated_name='OLD_X')", {"OLD_X": "NEW_X"}),
        (
            "_DEPRECATED_ENVS = {'OLD_X': D(replacement='NEW_X'), 'GONE_X': D(note='See it.')}",
            {"OLD_X": "NEW_X", "GONE_X": ""},
        ),
        ("def f():\n    _deprecated_ms = {'OLD_X': 'NEW_X'}", {"OLD_X": "NEW_X"}),
        ("_print_deprecated_env('OLD_X', 'NEW_X')\n_print_deprecated_env('GONE_X')", {"OLD_X": "NEW_X", "GONE_X": ""}),
        ("_warn_deprecated_env_to_flag('OLD_X', 'Please use --x.')", {"OLD_X": ""}),
        ("_print_deprecated_env(name)\nnames = {'OLD_X': 'NEW_X'}\nprint('OLD_X', 'NEW_X')", {}),
    ],
)
def test_variables_under_an_older_name_or_without_effect(text: str, found: dict[str, str]) -> None:
    assert variables(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{WARN}", [("sglang.srt.m", "")]),
        (
            "warnings.warn('sglang.srt.m is deprecated; use sglang.srt.new.m.', DeprecationWarning)",
            [("sglang.srt.m", "sglang.srt.new.m")],
        ),
        (f"def f():\n    {WARN}", [("sglang.srt.m.f", "")]),
        (f"class C:\n    def f(self):\n        {WARN}", [("sglang.srt.m.C.f", "")]),
        (f"class C:\n    def __init__(self):\n        {WARN}", [("sglang.srt.m.C", "")]),
        (f"class C:\n    def __init_subclass__(cls):\n        {WARN}", [("sglang.srt.m.C", "")]),
        (f"def _tell(name):\n    {WARN}\ndef f():\n    _tell('f')\n    return 1", [("sglang.srt.m.f", "")]),
        (f"def f(x):\n    if x:\n        {WARN}", []),
        (f"def f():\n    def g():\n        {WARN}\n    return g", []),
        ("def f():\n    warnings.warn('slow', UserWarning)", []),
        ("def f():\n    warnings.filterwarnings('ignore', category=DeprecationWarning)", []),
    ],
)
def test_what_warns_whatever_happens_is_deprecated(text: str, found: list[tuple[str, str]]) -> None:
    assert targets(text) == found


def test_what_a_loop_wraps_in_a_warning_is_deprecated() -> None:
    text = f"""
    NAMES = {{"get_a": "a"}}
    NAMES["get_b"] = "b"
    def wrapped(name):
        def decorate(fn):
            def call():
                {WARN}
            return call
        return decorate
    for name in NAMES.items():
        globals()[name] = wrapped(name)(globals()[name])
    """
    assert targets(text, "srt/pack/__init__.py") == [("sglang.srt.pack.get_a", ""), ("sglang.srt.pack.get_b", "")]
    assert targets(text.replace("wrapped(name)(globals()[name])", "1")) == []


def test_deprecations_stand_in_the_contract_with_the_place_that_says_so(sglang_tree: Callable[..., Path]) -> None:
    contract = extract(sglang_tree({"srt/old.py": f"import warnings\n{WARN}\n", "multimodal_gen/old.py": WARN}))
    assert contract.deprecations == (
        Deprecation("target", "sglang.srt.old", "", "srt/old.py", 2),
        Deprecation("variable", "OLD", "SGLANG_LIMIT", "srt/environ.py", 5),
    )
    assert type(contract).from_json(contract.to_json()) == contract


def test_what_the_releases_deprecate_is_as_they_say() -> None:
    def named(release: str, kind: str) -> dict[str, str]:
        return {each.name: each.replacement for each in tables.load(release).deprecations if each.kind == kind}

    hooks = {f"get_{kind}_kv_pool_cls": "get_kv_pool_cls" for kind in ("mha", "mla", "dsa")}
    assert named("0.5.21", "member") == {}
    assert named("0.5.22", "member") == named("0.5.23", "member") == hooks
    assert named("0.5.11", "target") == {}
    assert (
        named("0.5.23", "target")["sglang.srt.layers.utils.multi_platform.MultiPlatformOp"]
        == "sglang.kernels.fused_op.BaseFusedOp"
    )
    assert "sglang.srt.distributed.parallel_state.get_tp_group" in named("0.5.21", "target")
    assert named("0.5.13", "variable")["SGLANG_NSA_FUSE_TOPK"] == "SGLANG_DSA_FUSE_TOPK"
