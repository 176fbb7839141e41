from __future__ import annotations

import pytest

from sglang_conformance.contract.index import Index, Resolved, Symbol, Unknown

FUNCTION = Symbol("function", "(x)")
METHOD = Symbol("method", "(self)")


def index(**symbols: Symbol) -> Index:
    """An index of ``sglang`` with these paths in it, ``__`` for the dots."""
    return Index(
        "1.0", {"sglang": Symbol("module"), **{f"sglang.{k.replace('__', '.')}": s for k, s in symbols.items()}}
    )


MADE = index(
    a=Symbol("module"),
    a__f=FUNCTION,
    a__torch=Symbol("name", origin="torch"),
    a__either=Symbol("name"),
    a__VALUE=Symbol("attribute"),
    b=Symbol("module"),
    b__g=Symbol("name", origin="sglang.a.f"),
    b__gone=Symbol("name", origin="sglang.a.gone"),
    b__round=Symbol("name", origin="sglang.b.about"),
    b__about=Symbol("name", origin="sglang.b.round"),
    b__a=Symbol("name", origin="sglang.a"),
    lazy=Symbol("module", open=True),
    lazy__here=FUNCTION,
    lazy__from_lazy=Symbol("name", origin="sglang.lazy.perhaps"),
    pack=Symbol("module"),
    pack__f=Symbol("module", origin="sglang.pack.f.f"),
    pack__f__f=FUNCTION,
    pack__k=Symbol("module", origin="sglang.pack.k.K"),
    pack__k__K=Symbol("class"),
    pack__k__K__run=METHOD,
    c=Symbol("module"),
    c__Base=Symbol("class"),
    c__Base__run=METHOD,
    c__Base__stop=METHOD,
    c__Child=Symbol("class", bases=("sglang.c.Renamed",)),
    c__Renamed=Symbol("name", origin="sglang.c.Base"),
    c__Child__run=METHOD,
    c__Net=Symbol("class", bases=("torch.nn.Module", "sglang.c.Base")),
    c__Made=Symbol("class", open=True),
    c__Left=Symbol("class", bases=("sglang.c.Base",)),
    c__Right=Symbol("class", bases=("sglang.c.Base",)),
    c__Right__stop=METHOD,
    c__Both=Symbol("class", bases=("sglang.c.Left", "sglang.c.Right")),
    c__Own=Symbol("class", bases=("sglang.c.Own",)),
    c__Odd=Symbol("class", bases=("sglang.c.gone",)),
)


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("a", "a"),
        ("a.f", "a.f"),
        ("a.VALUE", "a.VALUE"),
        ("a.torch", "a.torch"),
        ("a.either", "a.either"),
        ("b.g", "a.f"),
        ("b.a", "a"),
        ("b.a.f", "a.f"),
        ("lazy.here", "lazy.here"),
        ("lazy.from_lazy", "lazy.from_lazy"),
        ("pack.f", "pack.f.f"),
        ("pack.f.f", "pack.f.f"),
        ("pack.k.run", "pack.k.K.run"),
        ("c.Child.run", "c.Child.run"),
        ("c.Child.stop", "c.Base.stop"),
        ("c.Renamed.run", "c.Base.run"),
        ("c.Net.run", "c.Base.run"),
        ("c.Both.run", "c.Base.run"),
        ("c.Both.stop", "c.Right.stop"),
    ],
)
def test_a_path_leads_to_where_it_is_defined(path: str, leads_to: str) -> None:
    found = MADE.resolve(f"sglang.{path}")
    assert found == Resolved(f"sglang.{leads_to}", MADE.symbols[f"sglang.{leads_to}"])


@pytest.mark.parametrize("path", ["d", "a.g", "a.f2.x", "b.a.g", "c.Child.pause", "c.Both.pause", "c.Own.x"])
def test_what_is_not_there_is_certainly_absent(path: str) -> None:
    assert MADE.resolve(f"sglang.{path}") is None


@pytest.mark.parametrize(
    ("path", "followed_to", "why"),
    [
        ("torch.nn", "torch.nn", "outside sglang"),
        ("sglang.a.torch.nn", "sglang.a.torch", "what is in this name is not known"),
        ("sglang.a.either.x", "sglang.a.either", "what is in this name"),
        ("sglang.a.VALUE.x", "sglang.a.VALUE", "what is in this attribute"),
        ("sglang.pack.f.g", "sglang.pack.f.f", "what is in this function"),
        ("sglang.b.gone", "sglang.b.gone", "imported from sglang.a.gone, which is not there"),
        ("sglang.b.gone.x", "sglang.b.gone", "imported from sglang.a.gone"),
        ("sglang.lazy.absent", "sglang.lazy", "may have names that its text does not show"),
        ("sglang.c.Net.pause", "sglang.c.Net", "what it has from torch.nn.Module is not known"),
        ("sglang.c.Child.__init__", "sglang.c.Child", "every class has __init__"),
        ("sglang.c.Made.pause", "sglang.c.Made", "what it has from sglang.c.Made is not known"),
        ("sglang.c.Odd.pause", "sglang.c.Odd", "what it has from sglang.c.gone is not known"),
    ],
)
def test_what_cannot_be_told_is_unknown_and_says_why(path: str, followed_to: str, why: str) -> None:
    found = MADE.resolve(path)
    assert isinstance(found, Unknown)
    assert found.path == followed_to
    assert why in found.why


def test_a_circle_of_imports_ends() -> None:
    assert MADE.resolve("sglang.b.round") == Resolved("sglang.b.about", MADE.symbols["sglang.b.about"])
    assert isinstance(MADE.resolve("sglang.b.round.x"), Unknown)


def test_the_order_in_which_a_class_looks_its_members_up() -> None:
    assert MADE.lineage("sglang.c.Both") == ("sglang.c.Both", "sglang.c.Left", "sglang.c.Right", "sglang.c.Base")
    assert MADE.lineage("sglang.c.Net") == ("sglang.c.Net", "torch.nn.Module", "sglang.c.Base")
    assert MADE.lineage("sglang.c.Own") == ("sglang.c.Own",)


def test_what_is_below_a_path_and_where_a_name_is_defined() -> None:
    assert MADE.members("sglang.c.Right") == ("sglang.c.Right.stop",)
    assert MADE.members("sglang.a.f") == ()
    assert MADE.named("stop") == ("sglang.c.Base.stop", "sglang.c.Right.stop")
    assert MADE.named("g") == ()
    assert "sglang.pack.f" in MADE.modules()
    assert "sglang.pack.f.f" not in MADE.modules()
