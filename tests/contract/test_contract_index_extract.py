from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from sglang_conformance.contract.errors import ContractError
from sglang_conformance.contract.extract_index import extract, put_together
from sglang_conformance.contract.index import Index, Resolved, Symbol, Unknown
from sglang_conformance.contract.index_module import ModuleNames, read


def names(text: str, dotted: str = "sglang.m", *, package: bool = False) -> ModuleNames:
    return read(dedent(text).encode(), dotted, package=package)


def symbols(text: str) -> dict[str, Symbol]:
    return dict(names(text).symbols)


def package(**files: str) -> Index:
    """An index of ``sglang`` with these modules: ``__`` for the dots in their names, a leading ``_`` for a package."""
    modules = {"sglang": names("", "sglang", package=True)}
    for name, text in files.items():
        dotted = f"sglang.{name.strip('_').replace('__', '.')}"
        modules[dotted] = names(text, dotted, package=name.startswith("_"))
    return Index("1.0", put_together(modules))


def path_of(index: Index, dotted: str) -> str:
    found = index.resolve(f"sglang.{dotted}")
    if isinstance(found, Resolved):
        return found.path.removeprefix("sglang.")
    return "unknown" if isinstance(found, Unknown) else "absent"


def test_functions_classes_and_their_members_are_read_with_their_signatures() -> None:
    found = symbols("""
    LIMIT: int = 3
    a, (b, *c) = things()
    def f(x, /, y: "int" = 1, *, z=None, **rest) -> bool: ...
    async def g(): ...
    class Worker(Base[int], nn.Module):
        name: str
        kinds = ()
        def __init__(self, rank): ...
        def run(self, batch): ...
        @classmethod
        def make(cls): ...
        @staticmethod
        def help(x): ...
        @functools.cached_property
        def device(self): ...
        @property
        def size(self): ...
        @size.setter
        def size(self, value): ...
        @overload
        def get(self, x: int): ...
        def get(self, x): ...
        class Inner:
            def deep(self): ...
    """)
    assert found["f"] == Symbol("function", "(x, /, y: int = 1, *, z=None, **rest) -> bool")
    assert all(found[name] == Symbol("attribute") for name in ("LIMIT", "a", "b", "c"))
    assert found["Worker"].signature == "(self, rank)"
    kinds = {name.removeprefix("Worker."): symbol.kind for name, symbol in found.items() if name.startswith("Worker.")}
    assert kinds == {
        "name": "attribute",
        "kinds": "attribute",
        "__init__": "method",
        "run": "method",
        "make": "classmethod",
        "help": "staticmethod",
        "device": "property",
        "size": "property",
        "get": "method",
        "Inner": "class",
        "Inner.deep": "method",
    }
    assert found["Worker.size"].signature == "(self)"
    assert found["Worker.get"].signature == "(self, x)"


@pytest.mark.parametrize(
    ("text", "bases"),
    [
        ("class C: pass", ()),
        ("from torch import nn\nclass C(nn.Module): pass", ("torch.nn.Module",)),
        ("import torch.nn as nn\nclass C(nn.Module): pass", ("torch.nn.Module",)),
        ("from .other import Base as B\nclass C(B): pass", ("sglang.other.Base",)),
        ("class B: pass\nclass C(B): pass", ("sglang.m.B",)),
        ("import abc, typing\nT = 1\nclass C(abc.ABC, typing.Generic[T], object): pass", ()),
        ("class C(dict): pass", ("builtins.dict",)),
        ("class A:\n    class B: pass\n    class C(B): pass\nclass C(A.B): pass", ("sglang.m.A.B",)),
        ("try:\n    from x import B\nexcept ImportError:\n    B = object\nclass C(B): pass", ("sglang.m.B",)),
    ],
)
def test_the_bases_of_a_class_are_told_by_their_path(text: str, bases: tuple[str, ...]) -> None:
    found = symbols(text)["C"]
    assert found.bases == bases
    assert not found.open


@pytest.mark.parametrize(
    "text",
    [
        "class C(make()): pass",
        "class C(unheard_of): pass",
        "class C(metaclass=Registry): pass",
        "class C: pass\nsetattr(C, name(), 1)",
    ],
)
def test_a_class_that_may_have_more_than_its_text_shows_is_open(text: str) -> None:
    assert symbols(text)["C"].open


def test_members_that_are_hung_on_a_class_are_its_own() -> None:
    found = symbols(
        "class C(metaclass=ABCMeta): pass\ndef f(self): pass\nC.run = f\nsetattr(C, 'stop', f)\nother.x = 1"
    )
    assert {"C.run", "C.stop"} <= set(found)
    assert not found["C"].open
    assert "other" not in found


def test_slots_are_members() -> None:
    found = symbols(
        "class C:\n    __slots__ = ('a', 'b')\nclass D:\n    __slots__ = 'c'\nclass E:\n    __slots__ = made()"
    )
    assert {path for path in found if "." in path} == {
        *("C.__slots__", "C.a", "C.b"),
        *("D.__slots__", "D.c"),
        "E.__slots__",
    }


def test_names_for_type_checkers_are_not_there() -> None:
    found = symbols("""
    import typing
    from typing import TYPE_CHECKING
    if TYPE_CHECKING:
        from a import Typed
    else:
        from a import Real
    if typing.TYPE_CHECKING:
        import also_typed
    if not TYPE_CHECKING:
        import real
    """)
    assert {"Real", "real"} <= set(found)
    assert set(found).isdisjoint({"Typed", "also_typed"})


def test_the_names_of_all_branches_are_there() -> None:
    found = symbols("""
    try:
        import fast
    except ImportError:
        slow = 1
    finally:
        last = 2
    if cuda():
        def a(): ...
    elif hip():
        def b(): ...
    with open(f) as handle:
        text = handle.read()
    for i in range(3):
        x = i
    while x:
        y = 1
    match y:
        case 1:
            z = 1
    def later():
        global made
        made = 1
        not_made = 2
    """)
    assert {"fast", "slow", "last", "a", "b", "handle", "text", "i", "x", "y", "z", "made"} <= set(found)
    assert "not_made" not in found


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("if a:\n    def f(x): ...\nelse:\n    def f(x): ...", Symbol("function", "(x)")),
        ("if a:\n    def f(x): ...\nelse:\n    def f(y): ...", Symbol("function")),
        ("if a:\n    from b import f\nelse:\n    def f(y): ...", Symbol("name")),
        ("try:\n    from b import f\nexcept ImportError:\n    f = None", Symbol("name", origin="b.f")),
        ("f = None\nif a:\n    from b import f", Symbol("name", origin="b.f")),
        ("f = None", Symbol("attribute")),
        ("def f(x): ...\ndef f(y): ...", Symbol("function", "(y)")),
        ("def f(x): ...\nif a:\n    def f(y): ...", Symbol("function")),
        ("from b import f\ndef f(y): ...", Symbol("function", "(y)")),
        ("def g(): ...\nf = g", Symbol("name", origin="sglang.m.g")),
        ("from b import g\nf = g", Symbol("name", origin="b.g")),
        ("import torch\nf = torch.Tensor", Symbol("name", origin="torch.Tensor")),
        ("def g(): ...\nf = g()", Symbol("attribute")),
        ("import a.b.f", None),
        ("import a.b.c as f", Symbol("name", origin="a.b.c")),
        ("from . import f", Symbol("name", origin="sglang.f")),
        ("def f(): ...\ndel f", None),
    ],
)
def test_what_a_name_stands_for(text: str, symbol: Symbol | None) -> None:
    assert symbols(text).get("f") == symbol


def test_what_branches_define_differently_has_the_members_of_both() -> None:
    found = symbols("""
    if a:
        class C(X):
            def run(self): ...
    else:
        class C:
            def run(self, x): ...
            def stop(self): ...
    """)
    assert found["C"].kind == "class"
    assert found["C.run"] == Symbol("method")
    assert found["C.stop"] == Symbol("method", "(self)")
    replaced = symbols("try:\n    from a import C\nexcept ImportError:\n    class C:\n        def run(self): ...")
    assert replaced == {"C": Symbol("name")}


@pytest.mark.parametrize(
    ("text", "is_open"),
    [
        ("y = 1\ndef __getattr__(name): ...", True),
        ("y = 1\nclass C:\n    def __getattr__(self, name): ...", False),
        ("globals()[name()] = 1", True),
        ("globals().update(x)", True),
        ("import sys\nsys.modules[__name__] = Lazy()", True),
        ("setattr(sys.modules[__name__], name, 1)", True),
        ("y = globals()['x']", False),
        ("globals()['y'] = 1", False),
        ("for n in ('y', 'z'):\n    globals()[n] = 1", False),
        ("K = {'y': 1}\nfor n, v in K.items():\n    globals()[n] = v", False),
        ("for n in names():\n    globals()[n] = 1", True),
    ],
)
def test_a_module_that_makes_names_as_it_runs(text: str, is_open: bool) -> None:
    found = names(text)
    assert found.open == is_open
    assert is_open or "y" in found.symbols


def test_star_imports_bring_the_public_names_or_those_of_all() -> None:
    index = package(
        a="def f(): ...\ndef _g(): ...\nimport os\n",
        b="__all__ = ['_g', 'h']\ndef _g(): ...\ndef h(): ...\ndef i(): ...\n",
        c="from sglang.a import *\nfrom .b import *\n",
        d="from .c import *\ndef f(x): ...\n",
        e="HELD = {'f': 1}\nHELD['h'] = 2\n"
        "__all__ = [n for n in list(globals()) if not n.startswith('_') and n not in HELD]\n"
        "def f(): ...\ndef g(): ...\ndef h(): ...\n",
        g="from .e import *\n",
    )
    assert [path_of(index, f"c.{name}") for name in ("f", "_g", "h", "i")] == ["a.f", "b._g", "b.h", "absent"]
    assert path_of(index, "c.os") == "a.os"
    assert [path_of(index, f"d.{name}") for name in ("f", "h", "_g")] == ["d.f", "b.h", "absent"]
    assert [path_of(index, f"g.{name}") for name in ("f", "g", "h")] == ["absent", "e.g", "absent"]


def test_a_star_import_that_cannot_be_followed_leaves_the_module_open() -> None:
    index = package(a="from torch import *", b="from .a import *", c="from .gone import *", d="from .d import *\nx = 1")
    assert [path_of(index, f"{name}.f") for name in "abcd"] == ["unknown", "unknown", "absent", "absent"]
    assert path_of(index, "d.x") == "d.x"


def test_packages_re_export_and_hold_their_modules() -> None:
    index = package(
        _p="from .one import f, C\nfrom . import two\nfrom .three import three",
        p__one="def f(): ...\nclass C:\n    def run(self): ...",
        p__two="x = 1",
        p__three="def three(): ...",
        bare__deep="y = 1",
    )
    assert [path_of(index, f"p.{name}") for name in ("f", "C.run", "two.x", "two")] == [
        "p.one.f",
        "p.one.C.run",
        "p.two.x",
        "p.two",
    ]
    assert [path_of(index, f"p.{name}") for name in ("three", "three.three")] == ["p.three.three", "p.three.three"]
    assert path_of(index, "bare") == "bare"
    assert index.symbols["sglang.bare"] == Symbol("module")
    assert path_of(index, "bare.deep.y") == "bare.deep.y"


def test_a_package_is_read_whole_and_what_is_no_python_is_a_module_of_which_nothing_is_known(
    sglang_tree: Callable[..., Path],
) -> None:
    folder = sglang_tree(
        {"lang/api.py": "def gen(): ...", "srt/template.py": "class {{ name }}: pass", "top.py": "x = 1"}
    )
    index = extract(folder)
    assert index.release == "9.8.7"
    assert path_of(index, "lang.api.gen") == "lang.api.gen"
    assert path_of(index, "top.x") == "top.x"
    assert path_of(index, "srt.template.any") == "unknown"
    assert path_of(index, "srt.platforms.interface.SRTPlatform.synchronize") == "unknown"  # it imports no DeviceMixin


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="is not an SGLang tree"):
        extract(tmp_path)
