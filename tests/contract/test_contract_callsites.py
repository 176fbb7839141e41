from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from sglang_conformance.contract.callsites import uses
from sglang_conformance.contract.extract import extract
from sglang_conformance.contract.model import CallSite, Shape

MEMBERS = frozenset({"synchronize", "capabilities", "device_name", "get_thing", "is_cuda"})
SRT = "from sglang.srt.platforms import current_platform\n"
DIFFUSION = "from sglang.multimodal_gen.runtime.platforms import current_platform\n"


NAME = "srt/layers/thing.py"


def found(text: str) -> list[tuple[str, int]]:
    sites = [(member, site.line) for member, site in uses(ast.parse(dedent(text)), NAME, MEMBERS)]
    return sorted(sites, key=lambda use: use[1])


def shapes(text: str) -> list[str]:
    """The calls of ``synchronize``, as they are written in a table; ``read`` where it is none."""
    sites = [site for member, site in uses(ast.parse(SRT + dedent(text)), NAME, MEMBERS) if member == "synchronize"]
    return [str(site.call) if site.call is not None else "read" for site in sites]


@pytest.mark.parametrize(
    "text",
    [
        "current_platform.synchronize()",
        "later(current_platform.synchronize)",
        "x = [current_platform.synchronize() for _ in range(2)]",
        "x = f'{current_platform.synchronize()} done'",
        "x = lambda: current_platform.synchronize()",
        "with current_platform.synchronize() as y: pass",
        "if current_platform.synchronize() and ready: pass",
        "x = getattr(current_platform, 'synchronize', None)",
        "x = hasattr(current_platform, 'synchronize')",
        "x = (current_platform if fast else None).synchronize()",
    ],
)
def test_a_use_of_the_imported_platform_is_found(text: str) -> None:
    assert found(SRT + text) == [("synchronize", 2)]


@pytest.mark.parametrize(
    "text",
    [
        "from sglang.srt import platforms\nplatforms.current_platform.synchronize()",
        "from sglang.srt import platforms as p\np.current_platform.synchronize()",
        "import sglang.srt.platforms\nsglang.srt.platforms.current_platform.synchronize()",
        "import sglang.srt.platforms as p\np.current_platform.synchronize()",
        "from sglang.srt.platforms import current_platform as p\np.synchronize()",
        "from sglang.srt.utils import current_platform\ncurrent_platform.synchronize()",
        "from ..platforms import current_platform\ncurrent_platform.synchronize()",
        "from .. import platforms\nplatforms.current_platform.synchronize()",
    ],
)
def test_every_way_of_importing_the_platform_is_followed(text: str) -> None:
    assert found(text) == [("synchronize", 2)]


def test_a_field_of_the_capabilities_counts_for_capabilities() -> None:
    assert found(SRT + "x = current_platform.capabilities.graph_capture") == [("capabilities", 2)]


def test_a_local_alias_is_followed_within_its_function_only() -> None:
    text = """
    from sglang.srt import platforms
    def one():
        platform = platforms.current_platform
        return platform.is_cuda()
    def two(platform):
        return platform.is_cuda()
    def three():
        platform = facts()
        return platform.is_cuda
    """
    assert found(text) == [("is_cuda", 5)]


def test_an_alias_ends_where_its_name_is_given_another_value() -> None:
    text = """
    from sglang.srt.platforms import current_platform
    platform = current_platform
    platform.synchronize()
    platform = facts()
    platform.synchronize()
    """
    assert found(text) == [("synchronize", 4)]


@pytest.mark.parametrize("rebind", ["for p in many: pass", "with open() as p: pass", "p, q = pair", "def p(): pass"])
def test_an_alias_ends_at_any_statement_that_binds_its_name(rebind: str) -> None:
    assert found(SRT + f"p = current_platform\n{rebind}\np.synchronize()") == []


def test_a_none_that_guards_a_failed_import_does_not_end_the_search() -> None:
    text = """
    try:
        from sglang.srt.platforms import current_platform
    except ImportError:
        current_platform = None
    def sync():
        current_platform.synchronize()
    """
    assert found(text) == [("synchronize", 7)]


def test_a_function_sees_what_its_module_imports_further_down() -> None:
    assert found("def sync():\n    current_platform.synchronize()\n" + SRT) == [("synchronize", 2)]


def test_an_import_inside_a_function_is_not_seen_by_another() -> None:
    text = """
    def one():
        from sglang.srt.platforms import current_platform
        current_platform.synchronize()
        def inner():
            return current_platform.device_name
    def two():
        current_platform.synchronize()
    """
    assert found(text) == [("synchronize", 4), ("device_name", 6)]


def test_methods_and_decorators_and_defaults_are_searched() -> None:
    text = """
    from sglang.srt.platforms import current_platform
    class Thing:
        name = current_platform.device_name
        @current_platform.get_thing()
        async def run(self, sync=current_platform.synchronize):
            return current_platform.is_cuda()
    """
    assert found(text) == [("device_name", 4), ("get_thing", 5), ("synchronize", 6), ("is_cuda", 7)]


def test_a_name_of_a_class_body_is_not_seen_by_its_methods() -> None:
    text = """
    from sglang.srt.platforms import current_platform
    class Thing:
        p = current_platform
        p.synchronize()
        def run(self):
            p.synchronize()
    """
    assert found(text) == [("synchronize", 5)]


def test_a_parameter_named_current_platform_is_the_platform_handed_on() -> None:
    text = SRT + "def check(self, current_platform):\n    return current_platform.is_cuda()\n"
    assert found(text) == [("is_cuda", 3)]
    assert found(text.removeprefix(SRT)) == []


def test_the_diffusion_platform_is_another_object() -> None:
    assert found(DIFFUSION + "current_platform.is_cuda()") == []
    assert found(SRT + "def draw():\n    " + DIFFUSION + "    current_platform.is_cuda()") == []


def test_assigning_to_a_member_or_naming_a_non_member_is_no_use() -> None:
    assert (
        found(SRT + "current_platform.device_name = 'x'\ncurrent_platform.unheard_of()\ntype(current_platform)") == []
    )


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("current_platform.synchronize()", "()"),
        ("current_platform.synchronize(a, b)", "(_, _)"),
        ("current_platform.synchronize(a, device=b, wait=c)", "(_, device=, wait=)"),
        ("current_platform.synchronize(a, *rest)", "(_, *)"),
        ("current_platform.synchronize(a, wait=1, **more)", "(_, wait=, **)"),
        ("current_platform.synchronize(*rest, **more)", "(*, **)"),
        ("getattr(current_platform, 'synchronize')(1)", "(_)"),
        ("(current_platform if fast else None).synchronize(1)", "(_)"),
        ("current_platform.synchronize(1)(2, 3)", "(_)"),
        ("current_platform.synchronize(1).wait(2, 3)", "(_)"),
        ("[current_platform.synchronize(x) for x in y]", "(_)"),
        ("with current_platform.synchronize(x): pass", "(_)"),
    ],
)
def test_a_call_has_its_shape(text: str, shape: str) -> None:
    assert shapes(text) == [shape]


@pytest.mark.parametrize(
    "text",
    [
        "later(current_platform.synchronize)",
        "if current_platform.synchronize: pass",
        "getattr(current_platform, 'synchronize', None)",
        "hasattr(current_platform, 'synchronize')",
        "partial(current_platform.synchronize, 1)",
        "current_platform.synchronize.first(1)",
        "current_platform.synchronize[1](2)",
    ],
)
def test_what_is_no_call_has_no_shape(text: str) -> None:
    assert shapes(text) == ["read"]


@pytest.mark.parametrize(
    "text",
    [
        "sync = current_platform.synchronize\nsync(1)",
        "sync = getattr(current_platform, 'synchronize', None)\nif sync is not None: sync(1)",
        "if (sync := getattr(current_platform, 'synchronize', None)): sync(1)",
        "sync = current_platform.synchronize\ndef f(): return sync(1)",
        "def f():\n    p = current_platform\n    sync = p.synchronize\n    sync(1)",
    ],
)
def test_a_member_under_a_local_name_is_called_where_the_name_is(text: str) -> None:
    assert shapes(text) == ["read", "(_)"]


@pytest.mark.parametrize(
    "text",
    [
        "sync = current_platform.synchronize\nsync = other\nsync(1)",
        "sync = current_platform.synchronize\ndef f(sync): sync(1)",
        "sync = hasattr(current_platform, 'synchronize')\nsync(1)",
        "def f(): sync = current_platform.synchronize\ndef g(): sync(1)",
    ],
)
def test_another_thing_under_that_name_is_no_call_of_the_member(text: str) -> None:
    assert shapes(text) == ["read"]


@pytest.mark.parametrize("text", ["()", "(_)", "(_, _, device=)", "(a=, b=)", "(_, *)", "(*, **)", "(_, a=, *, **)"])
def test_a_shape_reads_back_as_it_is_written(text: str) -> None:
    assert str(Shape.parse(text)) == text
    site = CallSite("srt/a.py", 3, Shape.parse(text))
    assert CallSite.from_json(site.to_json()) == site


@pytest.mark.parametrize("text", ["", "_", "(_", "(x)", "(a=, _)", "(**, *)", "(_,_)"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no shape of a call"):
        Shape.parse(text)


def test_only_the_core_is_searched_and_sites_are_sorted(sglang_tree: Callable[..., Path]) -> None:
    text = SRT + "current_platform.synchronize(); current_platform.synchronize()\n\ncurrent_platform.synchronize()\n"
    folders = [
        "srt/utils",
        "srt/a",
        "kernels/ops",
        "srt/platforms",
        "srt/test/x",
        "srt/tests",
        "multimodal_gen",
        "lang",
    ]
    contract = extract(sglang_tree({f"{folder}/use.py": text for folder in folders}))
    member = contract.member("synchronize")
    assert member is not None
    paths = ("kernels/ops/use.py", "srt/a/use.py", "srt/utils/use.py")
    assert member.calls == tuple(CallSite(path, line, Shape()) for path in paths for line in (2, 4))
    assert [m.name for m in contract.called()] == ["synchronize"]
