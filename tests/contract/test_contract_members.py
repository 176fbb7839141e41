from __future__ import annotations

import ast
from textwrap import dedent

import pytest

from sglang_conformance.contract.members import members, names, signature
from sglang_conformance.contract.model import CallSite, Default, Member

ENUMS = {"PlatformEnum": ("CPU", "UNSPECIFIED")}


def class_of(body: str) -> ast.ClassDef:
    node = ast.parse("class C:\n" + "\n".join("    " + line for line in dedent(body).strip().splitlines())).body[0]
    assert isinstance(node, ast.ClassDef)
    return node


def only(body: str) -> Member:
    (member,) = members({"DeviceMixin": class_of(body)}, ENUMS, {})
    return member


def signature_of(definition: str) -> str:
    node = ast.parse(f"def f{definition}: pass").body[0]
    assert isinstance(node, ast.FunctionDef)
    return signature(node)


@pytest.mark.parametrize(
    "text",
    [
        "()",
        "(self)",
        "(self, device_id: int = 0) -> int",
        "(self, device=None) -> bool",
        "(self, *, kind: Kind) -> Optional[type]",
        "(a, b=1, /, c: int = 2, *rest: int, d, e=3, **more: str) -> tuple[int, int]",
        "(a, /)",
        "(self, mode: str | None = None) -> str",
        "(self, mode: Literal['a', 'b'] = 'a') -> None",
    ],
)
def test_a_signature_is_written_back_as_it_stands(text: str) -> None:
    assert signature_of(text) == text


@pytest.mark.parametrize(
    ("quoted", "plain"),
    [
        ('(self, device: "torch.device") -> None', "(self, device: torch.device) -> None"),
        (
            '(self, device: Optional["torch.device"] = None) -> "float"',
            "(self, device: Optional[torch.device] = None) -> float",
        ),
        ('(self, mode: "Literal[\'a\']" = "b")', "(self, mode: Literal['a'] = 'b')"),
        ("(self,\n  x = 1,\n)", "(self, x=1)"),
    ],
)
def test_quotes_of_annotations_and_layout_make_no_difference(quoted: str, plain: str) -> None:
    assert signature_of(quoted) == plain


@pytest.mark.parametrize(
    ("body", "default"),
    [
        ("raise NotImplementedError", Default("raises", "NotImplementedError")),
        ("raise errors.Refused('no')", Default("raises", "Refused")),
        ("pass", Default("noop")),
        ("...", Default("noop")),
        ("return", Default("noop")),
        ("'only a docstring'", Default("noop")),
        ("return None", Default("returns", None)),
        ("return False", Default("returns", False)),
        ("return -1", Default("returns", -1)),
        ("return 'inductor'", Default("returns", "inductor")),
        ("return ('a', 1)", Default("returns", ["a", 1])),
        ("return PlatformEnum.CPU", Default("returns", "CPU")),
        ("return PlatformEnum.ABSENT", Default("code")),
        ("return self.x", Default("code")),
        ("return b'x'", Default("code")),
        ("yield 1", Default("code")),
        ("x = 1; return None", Default("code")),
        ("raise", Default("code")),
    ],
)
@pytest.mark.parametrize("docstring", ["", "'''What it is.'''; "])
def test_the_default_of_a_method_is_read_from_its_body(body: str, default: Default, docstring: str) -> None:
    assert only(f"def f(self): {docstring}{body}").default == default


@pytest.mark.parametrize(
    ("text", "default"),
    [
        ("name: str = 'cpu'", Default("returns", "cpu")),
        ("name = []", Default("returns", [])),
        ("name: E = PlatformEnum.UNSPECIFIED", Default("returns", "UNSPECIFIED")),
        ("name: C = Capabilities()", Default("code")),
        ("name: int", Default("raises", "AttributeError")),
    ],
)
def test_an_attribute_holds_its_value(text: str, default: Default) -> None:
    assert only(text) == Member("name", "DeviceMixin", "attribute", "", default, None, ())


@pytest.mark.parametrize(
    ("decorator", "kind"),
    [
        ("classmethod", "classmethod"),
        ("contextmanager", "contextmanager"),
        ("contextlib.contextmanager", "contextmanager"),
        ("property", "property"),
        ("cached_property", "property"),
        ("functools.lru_cache(maxsize=1)", "method"),
    ],
)
def test_the_kind_follows_the_decorator(decorator: str, kind: str) -> None:
    assert only(f"@{decorator}\ndef f(self): pass").kind == kind


@pytest.mark.parametrize(
    ("docstring", "mark"), [("[Active] It runs.", "Active"), ("[Planned] Soon.", "Planned"), ("It runs.", None)]
)
def test_the_mark_is_read_from_the_docstring(docstring: str, mark: str | None) -> None:
    assert only(f"def f(self):\n    '{docstring}'").mark == mark


def test_private_names_and_dunders_are_no_members_but_enum_is() -> None:
    node = class_of("""
        _enum = PlatformEnum.CPU
        _cache = None
        shown = 1
        def _helper(self): pass
        def __repr__(self): return ""
        @property
        def open(self): return 1
        @open.setter
        def open(self, value): pass
        """)
    assert names({"DeviceMixin": node}) == {"_enum", "shown", "open"}
    assert [m.kind for m in members({"DeviceMixin": node}, ENUMS, {})] == ["attribute", "attribute", "property"]


def test_a_member_defined_in_both_classes_belongs_to_the_one_that_platforms_inherit() -> None:
    base, derived = class_of("def f(self): pass\ndef g(self): pass"), class_of("def f(self): return 1")
    sites = {"f": (CallSite("srt/x.py", 3),)}
    found = members({"DeviceMixin": base, "SRTPlatform": derived}, ENUMS, sites)
    assert [(m.name, m.owner, m.default.value) for m in found] == [("g", "DeviceMixin", None), ("f", "SRTPlatform", 1)]
    assert [m.calls for m in found] == [(), sites["f"]]
