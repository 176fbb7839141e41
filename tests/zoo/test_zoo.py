"""Every wrong plugin is caught by the requirement that it breaks; no right one is blamed."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sglang_conformance.suite.areas import all_checks
from sglang_conformance.suite.declare import Check
from zoo import defects, variants
from zoo.inspection import Bench, catalogue, failing, inspect, told
from zoo.workshop import RIGHT, Defect, Edit, Variant, build

Record = Callable[[str, object], None]


def members(package: ModuleType, name: str) -> Iterator[Any]:
    """What the modules of a package list under a name."""
    for module in pkgutil.iter_modules(package.__path__):
        yield from getattr(importlib.import_module(f"{package.__name__}.{module.name}"), name)


DEFECTS: tuple[Defect, ...] = tuple(members(defects, "DEFECTS"))
VARIANTS: tuple[Variant, ...] = tuple(members(variants, "VARIANTS"))


# Each defect meets the checks of the requirements that it names, and of those that these name as what they stand on;
# with ZOO=whole it meets the whole suite, which takes a quarter of an hour and shows also what else would catch it.
WHOLE = os.environ.get("ZOO") == "whole"


def named_by(requirements: Iterable[str]) -> set[str]:
    """These, and those that they name as what they stand on."""
    return {name for each in requirements for name in (each, *catalogue().get(each).depends)}


def checks_of(*requirements: str) -> tuple[Check, ...]:
    if WHOLE:
        return all_checks()
    named = named_by(requirements)
    return tuple(check for check in all_checks() if named & set(check.requirements))


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: d.name)
def test_defect_is_caught_by_the_requirement_it_breaks(
    defect: Defect, tmp_path: Path, bench: Bench, record_property: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in defect.environment.items():
        monkeypatch.setenv(name, value)
    plugin = RIGHT[defect.of]
    folder = build(plugin, tmp_path, defect.edits)
    certificate = inspect(
        folder,
        plugin.name,
        bench,
        release=defect.release,
        deadline=defect.deadline,
        world_size=defect.world_size,
        suite=checks_of(defect.requirement, *defect.also),
    )
    caught = failing(certificate)
    record_property("zoo", f"{defect.name:<52} {defect.requirement:<9} {' '.join(caught) or '-'}")
    assert defect.requirement in caught, f"nothing of {defect.requirement} in {caught}"
    accident = set(caught) - {defect.requirement, *defect.also}
    assert not accident, {name: caught[name] for name in accident}
    finding = told(certificate, defect.requirement)
    assert [said for said in defect.says if said not in finding] == [], finding


ON_RANKS = {name for check in all_checks() if check.place == "ranks" for name in check.requirements}

# Beside the order that SGLang documents (acme), the one that its own platforms have: the mixin first.
MIXIN_FIRST = Edit(
    "platform.py", "AcmePlatform(SRTPlatform, AcmeDeviceMixin)", "AcmePlatform(AcmeDeviceMixin, SRTPlatform)"
)


@pytest.mark.parametrize(
    ("name", "edits", "release", "ranks"),
    [
        ("acme", (), "0.5.11", False),
        ("acme", (), "0.5.23", True),
        ("acme", (MIXIN_FIRST,), "0.5.23", False),  # on ranks nobody asks for the order of its bases
        ("sim", (), "0.5.11", True),
        ("sim", (), "0.5.23", True),
    ],
)
def test_right_plugin_is_not_blamed(
    name: str, edits: tuple[Edit, ...], release: str, ranks: bool, tmp_path: Path, bench: Bench
) -> None:
    folder = build(RIGHT[name], tmp_path, edits)
    suite = tuple(check for check in all_checks() if ranks or check.place != "ranks")
    certificate = inspect(folder, name, bench, release=release, world_size="2", suite=suite)
    assert failing(certificate) == {}
    unjudged = [o for o in certificate.outcomes if o.outcome in ("blocked", "not-run", "host-defect")]
    assert [o for o in unjudged if ranks or o.requirement not in ON_RANKS] == []


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_right_variant_is_not_blamed(variant: Variant, tmp_path: Path, bench: Bench) -> None:
    plugin = RIGHT[variant.of]
    certificate = inspect(
        build(plugin, tmp_path, variant.edits),
        plugin.name,
        bench,
        release=variant.release,
        deadline=variant.deadline,
        world_size="2",
        suite=checks_of(*variant.requirements),
    )
    named = named_by(variant.requirements)
    ended = {o.requirement: o for o in certificate.outcomes if WHOLE or o.requirement in named}
    assert set(variant.requirements) <= set(ended)
    assert {name: o.message for name, o in ended.items() if o.outcome not in ("pass", "unsupported")} == {}


def test_names_are_unique() -> None:
    names = [*(defect.name for defect in DEFECTS), *(variant.name for variant in VARIANTS)]
    assert len(names) == len(set(names))
