"""Catalogue, suite and contract belong together: nothing is demanded unchecked, nothing checked undemanded."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from sglang_conformance.contract import tables
from sglang_conformance.requirements import loader
from sglang_conformance.suite import areas
from sglang_conformance.suite.areas import AREAS, all_checks
from zoo.test_zoo import DEFECTS

CATALOGUE = loader.load()
CHECKS = all_checks()
SUITE = Path(areas.__file__).parent

# Required, and broken by no plugin of the zoo: rules of the host's own, which hold for a plugin only as it leaves them
# alone, and for which no small change to a right plugin was found.
WITHOUT_DEFECT: dict[str, str] = {
    "SEL-004": "with an unknown name SGLang imports no plugin, so none can change what it answers",
}


def test_every_requirement_has_a_check() -> None:
    decided = {name for check in CHECKS for name in check.requirements}
    assert {r.id for r in CATALOGUE.requirements} - decided == set()


def test_every_check_decides_requirements_that_exist() -> None:
    assert [check.id for check in CHECKS if not check.requirements] == []
    assert {name for check in CHECKS for name in check.requirements if name not in CATALOGUE} == set()


def test_checks_have_names_of_their_own() -> None:
    ids = [check.id for check in CHECKS]
    assert len(ids) == len(set(ids))
    assert all(check.name.startswith("test_") for check in CHECKS)


@pytest.mark.parametrize("release", tables.releases())
def test_every_member_that_core_uses_is_covered(release: str) -> None:
    profiles = {r.profile for r in CATALOGUE.requirements}
    applying = CATALOGUE.applying(release, in_tree=False, profiles=profiles)
    covered = {member for requirement in applying for member in requirement.members}
    assert {member.name for member in tables.load(release).called()} - covered == set()


def test_members_named_by_requirements_exist_in_some_release() -> None:
    known = {member.name for release in tables.releases() for member in tables.load(release).members}
    assert {member for r in CATALOGUE.requirements for member in r.members} - known == set()


@pytest.mark.parametrize("area", AREAS)
def test_checks_do_not_assert_bare(area: str) -> None:
    tree = ast.parse((SUITE / f"{area}.py").read_text())
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)] == []


@pytest.mark.parametrize("file", sorted(SUITE.rglob("*.py")), ids=lambda f: f.stem)
def test_suite_imports_nothing_heavy_into_pytest(file: Path) -> None:
    imported = {
        name.partition(".")[0]
        for node in ast.parse(file.read_text()).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert imported & {"torch", "sglang", "sglang_reference", "numpy"} == set()


def test_every_required_requirement_is_broken_by_a_plugin_of_the_zoo() -> None:
    broken = {defect.requirement for defect in DEFECTS}
    required = {r.id for r in CATALOGUE.requirements if r.required and r.scope != "in-tree"}
    assert required - broken - WITHOUT_DEFECT.keys() == set()


def test_excuses_are_needed() -> None:
    assert WITHOUT_DEFECT.keys() & {defect.requirement for defect in DEFECTS} == set()
    assert WITHOUT_DEFECT.keys() <= {r.id for r in CATALOGUE.requirements}
