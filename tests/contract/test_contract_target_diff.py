from __future__ import annotations

import pytest

from sglang_conformance.contract import tables
from sglang_conformance.contract.index import Index, Symbol
from sglang_conformance.contract.moves import likely_place
from sglang_conformance.contract.target_diff import TargetChange, TargetDiff, target_diff

M, C = Symbol("module"), Symbol("class")


def index(release: str = "1.0", **symbols: Symbol) -> Index:
    """An index of ``sglang.srt`` with these paths in it, ``__`` for the dots."""
    made = {f"sglang.srt.{path.replace('__', '.')}": symbol for path, symbol in symbols.items()}
    return Index(release, {"sglang": M, "sglang.srt": M, **made})


def f(signature: str = "(x)") -> Symbol:
    return Symbol("function", signature)


def changes(older: Index, newer: Index) -> list[tuple[str, str, str]]:
    found = target_diff(older, newer).changes
    return [
        (each.kind, each.path.removeprefix("sglang.srt."), each.after.removeprefix("sglang.srt.")) for each in found
    ]


def test_what_is_gone_is_told_once_with_what_was_in_it() -> None:
    older = index(
        a=M,
        a__f=f(),
        a__C=C,
        a__C__run=Symbol("method"),
        a__C__D=C,
        a__C__D__go=Symbol("method"),
        a__X=Symbol("attribute"),
    )
    without_class = index(a=M, a__f=f())
    assert target_diff(older, without_class).changes == (TargetChange("gone", "sglang.srt.a.C", "class", within=3),)
    found = target_diff(older, index())
    assert found.changes == (TargetChange("gone", "sglang.srt.a", "module", within=5),)
    assert (found.targets, found.count("gone"), found.count("changed")) == (6, 6, 0)


def test_what_moved_is_told_with_its_likely_place() -> None:
    older = index(a=M, a__C=C, a__C__run=Symbol("method"), a__f=f(), a__g=f())
    newer = index(a=M, b=M, b__C=C, b__C__run=Symbol("method"), b__f=f("(x, y)"), c=M, c__h=f())
    assert changes(older, newer) == [("moved", "a.C", "b.C"), ("moved", "a.f", "b.f"), ("gone", "a.g", "")]


def test_what_left_a_module_for_different_places_is_told_one_by_one() -> None:
    older = index(a__m=M, a__m__f=f(), a__m__g=f(), a__m__h=f("(y)"))
    newer = index(b__m=M, b__m__f=f(), b__m__h=f("(y)"), c=M, c__g=f())
    assert changes(older, newer) == [("moved", "a.m", "b.m"), ("moved", "a.m.g", "c.g")]
    assert target_diff(older, newer).count("moved") == 4


def test_a_path_that_a_re_export_or_a_base_class_keeps_is_not_gone() -> None:
    older = index(a=M, a__f=f(), a__C=C, a__C__run=Symbol("method", "(self)"))
    kept = index(
        a=M,
        a__f=Symbol("name", origin="sglang.srt.b.f"),
        a__C=Symbol("class", bases=("sglang.srt.b.B",)),
        b=M,
        b__B=C,
        b__B__run=Symbol("method", "(self)"),
        b__f=f(),
    )
    assert changes(older, kept) == []
    assert changes(older, index(a=Symbol("module", open=True))) == []
    other = index(a=M, a__f=Symbol("name", origin="torch.f"), a__C=Symbol("class", bases=("torch.nn.Module",)))
    assert changes(older, other) == []


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (f("(x)"), f("(x, y)"), True),
        (f("(x)"), f("(y)"), True),
        (f("(x)"), f("(x=1)"), True),
        (f("(x, y)"), f("(x, *, y)"), True),
        (f("(x)"), f("(x, **more)"), True),
        (f("(x)"), C, True),
        (C, f("(x)"), True),
        (f("(x)"), Symbol("attribute"), True),
        (Symbol("class", "(self, x)"), Symbol("class", "(self, y)"), True),
        (f("(x: int) -> bool"), f("(x: 'int' | None)"), False),
        (f("(x=1, *, y=2)"), f("(x=None, *, y='z')"), False),
        (f("(x)"), f(""), False),
        (f("(x)"), Symbol("name"), False),
        (Symbol("class", "(self, x)"), C, False),
        (Symbol("attribute"), f("(x)"), False),
    ],
)
def test_only_what_takes_other_arguments_or_is_another_kind_of_thing_has_changed(
    before: Symbol, after: Symbol, told: bool
) -> None:
    found = changes(index(a=M, a__x=before), index(a=M, a__x=after))
    assert [kind for kind, _, _ in found] == (["changed"] if told else [])


def test_a_class_that_is_made_otherwise_is_told_once() -> None:
    def made(signature: str) -> Index:
        symbols = {"sglang.srt.a": M, "sglang.srt.a.C": Symbol("class", signature)}
        return Index("1.0", symbols | {"sglang.srt.a.C.__init__": Symbol("method", signature)})

    older, newer = made("(self)"), made("(self, x)")
    assert changes(older, newer) == [("changed", "a.C", "class (self, x)")]


def test_only_the_core_is_compared_unless_more_is_asked_for() -> None:
    older = Index("1.0", {"sglang": M, "sglang.test": M, "sglang.test.f": f()})
    newer = Index("2.0", {"sglang": M})
    assert target_diff(older, newer) == TargetDiff("1.0", "2.0", 0, ())
    assert target_diff(older, newer, within=("sglang",)).count("gone") == 2


@pytest.mark.parametrize(
    ("newer", "place"),
    [
        (index(b=M, b__f=f()), "sglang.srt.b.f"),
        (index(b=M, b__f=f("(other)")), "sglang.srt.b.f"),
        (index(b=M, b__f=f(), c=M, c__f=f("(other)")), "sglang.srt.b.f"),
        (index(b=M, b__f=f(), c=M, c__f=f()), ""),
        (index(b=M, b__f=C), ""),
        (index(b=M, b__f=Symbol("name", origin="sglang.srt.c.f")), ""),
        (index(old=M, old__f=f()), ""),
        (index(b=M, b__g=f()), ""),
    ],
)
def test_a_place_is_likely_where_it_is_the_only_new_one(newer: Index, place: str) -> None:
    older = index(a=M, a__f=f(), old=M, old__f=f())
    assert likely_place(older, newer, "sglang.srt.a.f") == place


def test_a_member_moves_with_a_class_of_its_name_and_a_module_with_what_is_in_it() -> None:
    run = Symbol("method", "(self)")
    older = index(a=M, a__C=C, a__C__run=run, a__f=f(), a__g=f())
    assert likely_place(older, index(b=M, b__C=C, b__C__run=run), "sglang.srt.a.C.run") == "sglang.srt.b.C.run"
    assert likely_place(older, index(b=M, b__D=C, b__D__run=run), "sglang.srt.a.C.run") == ""
    assert likely_place(older, index(b__a=M, b__a__f=f(), b__a__C=C), "sglang.srt.a") == "sglang.srt.b.a"
    assert likely_place(older, index(b__a=M, b__a__f=f()), "sglang.srt.a") == ""
    assert likely_place(older, index(), "sglang.srt.a.X") == ""


def test_known_moves_of_the_releases_are_told() -> None:
    older, newer = tables.load_indexes("0.5.18", "0.5.19")
    found = {each.path: each for each in target_diff(older, newer).changes}
    moved = found["sglang.srt.disaggregation.encode_server._dp_worker_health_encode"]
    assert (moved.kind, moved.after) == ("moved", "sglang.srt.disaggregation.encoder.runtime._dp_worker_health_encode")
    assert found["sglang.srt.managers.schedule_batch.ScheduleBatch.retract_decode"].kind == "changed"
    assert found["sglang.srt.server_args.ServerArgs._handle_nccl_pre_warm"].kind == "gone"
