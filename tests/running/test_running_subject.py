from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sglang_conformance.contract import tables
from sglang_conformance.subject import Subject, UnknownPlatform, digest, find, reference_world

CONTRACT = tables.load("0.5.23")
PLATFORMS, PLUGINS = CONTRACT.groups["platforms"], CONTRACT.groups["plugins"]

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install distributions of nothing but metadata; the last one installed comes first on the import path."""

    def made(name: str, points: str, *, version: str = "1.0", requires: str = "") -> Path:
        home = tmp_path / name
        metadata = home / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}")
        (metadata / "entry_points.txt").write_text(points)
        monkeypatch.syspath_prepend(str(home))
        return home

    return made


def test_plugin_is_found_with_all_that_comes_with_it(install: Install) -> None:
    points = f"[{PLATFORMS}]\nacme = acme:activate\n[{PLUGINS}]\nacme_hooks = acme.hooks:register\n[other]\nx = y:z\n"
    install("acme-plugin", points, requires="Requires-Dist: acme-sdk>=3\n")
    subject = find("acme", CONTRACT)
    assert not subject.in_tree
    assert subject.distribution == "acme-plugin"
    assert subject.entry_point is not None
    assert (subject.entry_point.value, subject.entry_point.version) == ("acme:activate", "1.0")
    assert [e.name for e in subject.hook_points] == ["acme_hooks"]
    assert [e.name for e in subject.siblings] == ["acme_hooks"]
    assert subject.requires == ("acme-sdk>=3",)
    assert "acme-plugin" in subject.providers
    assert subject.packages == {"acme"}


def test_plugin_in_a_wrong_group_is_found_but_not_registered(install: Install) -> None:
    install("acme-plugin", "[sglang.platform_plugins]\nacme = acme:activate\n")
    subject = find("acme", CONTRACT)
    assert subject.registered == ()
    assert subject.entry_point is not None
    assert subject.entry_point.group == "sglang.platform_plugins"
    assert not subject.in_tree


def test_name_of_a_hook_plugin_is_no_platform(install: Install) -> None:
    install("acme-plugin", f"[{PLUGINS}]\nacme = acme.hooks:register\n")
    with pytest.raises(UnknownPlatform):
        find("acme", CONTRACT)


def test_of_two_with_one_name_the_last_found_counts(install: Install) -> None:
    install("second", f"[{PLATFORMS}]\nacme = second:activate\n")
    install("first", f"[{PLATFORMS}]\nacme = first:activate\n")
    subject = find("acme", CONTRACT)
    assert [e.distribution for e in subject.registered] == ["first", "second"]
    assert subject.distribution == "second"


def test_shadowed_distribution_is_overlooked(install: Install) -> None:
    install("acme-plugin", f"[{PLATFORMS}]\nacme = old:activate\n", version="1.0")
    install("Acme_Plugin", f"[{PLATFORMS}]\nacme = new:activate\n", version="2.0")
    subject = find("acme", CONTRACT)
    assert [e.value for e in subject.registered] == ["new:activate"]


def test_plugin_of_a_built_in_name_is_out_of_tree(install: Install) -> None:
    install("better-cpu", f"[{PLATFORMS}]\ncpu = better:activate\n")
    assert not find("cpu", CONTRACT).in_tree


def test_unknown_platform_lists_installed_and_built_in(install: Install) -> None:
    install("acme-plugin", f"[{PLATFORMS}]\nacme = acme:activate\n")
    with pytest.raises(UnknownPlatform, match=r"installed plugins: .*acme.*; built into SGLang 0\.5\.23: .*cuda"):
        find("nope", CONTRACT)


def test_broken_metadata_of_others_is_no_trouble(install: Install) -> None:
    home = install("acme-plugin", f"[{PLATFORMS}]\nacme = acme:activate\n")
    (home / "empty-1.0.dist-info").mkdir()
    nameless = home / "nameless-1.0.dist-info"
    nameless.mkdir()
    (nameless / "METADATA").write_text("Metadata-Version: 2.1\n")
    assert find("acme", CONTRACT).distribution == "acme-plugin"


def test_world_of_a_plugin_selects_it_and_nothing_else(install: Install) -> None:
    install("acme-plugin", f"[{PLATFORMS}]\nacme = acme:activate\n")
    world = find("acme", CONTRACT).world()
    assert world.environment == {"SGLANG_PLATFORM": "acme", "SGLANG_PLUGINS": None, "SGLANG_USE_CPU_ENGINE": None}
    assert world.hidden == ()


def test_world_of_a_built_in_platform_hides_every_plugin(install: Install) -> None:
    install("acme-plugin", f"[{PLATFORMS}]\nacme = acme:activate\n")
    world = find("cpu", CONTRACT).world()
    assert world.environment["SGLANG_PLATFORM"] is None
    assert world.environment["SGLANG_USE_CPU_ENGINE"] == "1"
    assert "acme-plugin" in world.hidden
    assert find("cuda", CONTRACT).world().environment["SGLANG_USE_CPU_ENGINE"] is None


def test_reference_world_is_that_of_the_built_in_cpu(install: Install) -> None:
    install("acme-plugin", f"[{PLATFORMS}]\nacme = acme:activate\n")
    subject = find("acme", CONTRACT)
    assert reference_world(subject, CONTRACT) == find("cpu", CONTRACT).world()
    assert reference_world(subject, tables.load("0.5.11")) is None


def test_subject_survives_its_way_through_json(install: Install) -> None:
    install("acme-plugin", f"[{PLATFORMS}]\nacme = a:b\n[{PLUGINS}]\nh = a:c\n", requires="Requires-Dist: torch\n")
    subject = find("acme", CONTRACT)
    assert Subject.from_json(json.loads(json.dumps(subject.to_json()))) == subject


def test_digest_follows_the_files_that_were_installed(install: Install) -> None:
    home = install("acme-plugin", "")
    (home / "acme.py").write_text("one = 1\n")
    (home / "acme_plugin-1.0.dist-info" / "RECORD").write_text("acme.py,,\nacme.pyc,,\ngone.py,,\n")
    before = digest("acme-plugin")
    assert before.startswith("sha256:")
    (home / "acme.pyc").write_text("cached")
    assert digest("acme-plugin") == before
    (home / "acme.py").write_text("two = 2\n")
    assert digest("acme-plugin") != before


def test_digest_of_what_has_no_files_is_empty(install: Install) -> None:
    install("acme-plugin", "")
    assert digest("acme-plugin") == ""
    assert digest("never-installed") == ""


def test_platform_of_other_releases_is_told_with_those() -> None:
    with pytest.raises(UnknownPlatform, match=r"built into SGLang 0\.5\.11: none \(cpu in 0\.5\.14 to 0\.5\.\d+\)\. "):
        find("cpu", tables.load("0.5.11"))
