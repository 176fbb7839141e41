from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from packaging.version import InvalidVersion

from sglang_conformance.requirements.loader import Catalogue, CatalogueError, load
from sglang_conformance.requirements.model import Requirement

FIELDS: dict[str, str | None] = {
    "id": '"MEM-001"',
    "title": '"Total memory"',
    "text": '"Total is in bytes."',
    "level": '"MUST"',
    "profile": '"core"',
    "reason": '"The KV pool is sized from it."',
    "sources": '["https://rules.example/1"]',
}
HEAD = 'area = "MEM"\ntitle = "Memory"\n'


def table(**changes: str | None) -> str:
    fields = {**FIELDS, **changes}
    return "[[requirement]]\n" + "".join(f"{key} = {value}\n" for key, value in fields.items() if value is not None)


def loaded(folder: Path, **files: str) -> Catalogue:
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return load(folder)


def many(*rules: Requirement) -> Catalogue:
    return Catalogue(rules, {"MEM": "Memory"})


def rule(name: str, *depends: str, **changes: Any) -> Requirement:
    return Requirement(name, name, "text", "MUST", "core", "reason", ("source",), depends=depends, **changes)


def test_files_come_in_the_order_of_their_names_and_requirements_of_their_ids(tmp_path: Path) -> None:
    catalogue = loaded(
        tmp_path,
        b_mem=HEAD + table(id='"MEM-002"') + table(depends='["ZZ-001"]', essential="true"),
        a_zz='area = "ZZ"\ntitle = "Last "\n' + table(id='"ZZ-001"'),
    )
    assert [r.id for r in catalogue] == ["ZZ-001", "MEM-001", "MEM-002"]
    assert list(catalogue.areas.items()) == [("ZZ", "Last"), ("MEM", "Memory")]
    assert len(catalogue) == 3


def test_a_requirement_is_read_whole(tmp_path: Path) -> None:
    text = table(
        text='"""\nTotal is\n  in bytes.\n"""',
        since='"0.5.13"',
        until='"0.5.22"',
        scope='"in-tree"',
        members='["get_total"]',
        provisional="true",
    )
    assert loaded(tmp_path, mem=HEAD + text).get("MEM-001") == Requirement(
        id="MEM-001",
        title="Total memory",
        text="Total is in bytes.",
        level="MUST",
        profile="core",
        reason="The KV pool is sized from it.",
        sources=("https://rules.example/1",),
        since="0.5.13",
        until="0.5.22",
        scope="in-tree",
        members=("get_total",),
        provisional=True,
    )


def test_requirements_are_looked_up_by_id() -> None:
    catalogue = many(rule("MEM-001"))
    assert "MEM-001" in catalogue
    assert "MEM-002" not in catalogue
    with pytest.raises(KeyError, match="the catalogue has no requirement MEM-002"):
        catalogue.get("MEM-002")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (HEAD + table(colour='"red"'), "MEM-001: unknown field colour"),
        (HEAD + table(reason=None), "MEM-001: field reason is missing"),
        (HEAD + table() + table(id=None), "requirement 2: field id is missing"),
        (HEAD + table(level='"OUGHT"'), "MEM-001: level is 'OUGHT', not one of MUST, SHOULD, MAY"),
        (HEAD + table(profile='"cores"'), "MEM-001: profile is 'cores', not one of core,"),
        (HEAD + table(scope='"all"'), "MEM-001: scope is 'all', not one of any, out-of-tree, in-tree"),
        (HEAD + table() + table(), "MEM-001 is there twice"),
        (HEAD + table(id='"M-1"'), "M-1: an id is an area of two to five capitals and three digits, as MEM-002"),
        (HEAD + table(id='"MEM-0012"'), "MEM-0012: an id is"),
        (HEAD + table(id='"DEV-001"'), "DEV-001: is not of the area MEM of its file"),
        (HEAD + table(depends='["MEM-009"]'), "MEM-001: depends on MEM-009, which does not exist"),
        (HEAD + table(depends='["MEM-001"]'), "MEM-001: depends on itself: MEM-001 -> MEM-001"),
        (HEAD + table(since='"0.5.22"', until='"0.5.13"'), "MEM-001: since 0.5.22 is not before until 0.5.13"),
        (HEAD + table(since='"0.5.13"', until='"0.5.13"'), "MEM-001: since 0.5.13 is not before until 0.5.13"),
        (HEAD + table(since='"soon"'), "MEM-001: since is 'soon', not a release"),
        (HEAD + table(text='" "'), "MEM-001: text is empty"),
        (HEAD + table(reason='""'), "MEM-001: reason is empty"),
        (HEAD + table(sources="[]"), "MEM-001: names no sources"),
        (HEAD + table(sources='[""]'), "MEM-001: sources must be a list of texts, none of them empty"),
        (HEAD + table(members='"get"'), "MEM-001: members must be a list of texts, none of them empty"),
        (HEAD + table(essential='"yes"'), "MEM-001: essential must be true or false"),
        (HEAD + table(title="3"), "MEM-001: title must be a text"),
        (HEAD, "holds no [[requirement]]"),
        (HEAD + "requirement = 3", "holds no [[requirement]]"),
        (HEAD + 'owner = "me"\n' + table(), "unknown field owner at the head of the file"),
        ('title = "Memory"\n' + table(), 'must begin with area = "MEM" and title = "Memory"'),
        ('area = "MEM"\n' + table(), 'must begin with area = "MEM" and title = "Memory"'),
        ("area =", "cannot be read as TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(CatalogueError) as raised:
        loaded(tmp_path, mem=text)
    assert str(raised.value).startswith(f"mem.toml: {error}")
    assert "\n" not in str(raised.value)


def test_a_circle_through_two_files_is_named_in_its_order(tmp_path: Path) -> None:
    mem = table(depends='["MEM-002"]') + table(id='"MEM-002"', depends='["DEV-001"]')
    dev = 'area = "DEV"\ntitle = "Device"\n' + table(id='"DEV-001"', depends='["MEM-001"]')
    with pytest.raises(CatalogueError) as raised:
        loaded(tmp_path, mem=HEAD + mem, dev=dev)
    assert str(raised.value) == "dev.toml: DEV-001: depends on itself: DEV-001 -> MEM-001 -> MEM-002 -> DEV-001"


def test_one_area_in_two_files_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="holds no requirements"):
        load(tmp_path)
    with pytest.raises(CatalogueError, match=r"b\.toml: another file already holds the area MEM"):
        loaded(tmp_path, a=HEAD + table(), b=HEAD + table(id='"MEM-002"'))


def test_what_applies_follows_release_scope_and_profile() -> None:
    catalogue = many(
        rule("MEM-001", since="0.5.13"),
        rule("MEM-002", until="0.5.13"),
        rule("MEM-003", scope="in-tree"),
        rule("MEM-004", scope="out-of-tree"),
        Requirement("MEM-005", "t", "t", "MUST", "graphs", "r", ("s",)),
    )

    def applying(release: str, in_tree: bool, *profiles: str) -> list[str]:
        return [r.id[-1] for r in catalogue.applying(release, in_tree=in_tree, profiles=profiles)]

    assert applying("0.5.9", True, "core") == []
    assert applying("0.5.12", True, "core") == ["2", "3"]
    assert applying("0.5.13", True, "core") == ["1", "3"]
    assert applying("0.5.13.post1", False, "core", "graphs") == ["1", "4", "5"]
    assert applying("0.5.23", False, "graphs") == ["5"]
    with pytest.raises(InvalidVersion):
        applying("newest", False, "core")


def test_dependencies_come_after_what_they_stand_on_themselves() -> None:
    catalogue = many(
        rule("MEM-001", "MEM-002", "MEM-004"), rule("MEM-002", "MEM-003"), rule("MEM-003"), rule("MEM-004")
    )
    assert catalogue.dependencies("MEM-001") == ("MEM-003", "MEM-002", "MEM-004")
    assert catalogue.roots("MEM-001") == ("MEM-003", "MEM-004")
    assert catalogue.dependencies("MEM-003") == catalogue.roots("MEM-003") == ()
