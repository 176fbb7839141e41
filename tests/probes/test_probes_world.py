from __future__ import annotations

import json
from pathlib import Path

import pytest

from sglang_conformance.probes.client import Warm
from sglang_conformance.probes.world import World, canonical


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with a distribution named Acme_Runtime: a module and two entry points."""
    metadata = tmp_path / "Acme_Runtime-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: Acme_Runtime\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text("[acme.group]\none = acme_runtime:one\ntwo = acme_runtime:two\n")
    (tmp_path / "acme_runtime.py").write_text("def one(): ...\ndef two(): ...\n")
    return tmp_path


@pytest.mark.parametrize("name", ["Acme_Runtime", "acme-runtime", "acme.runtime", "ACME--_runtime"])
def test_spellings_of_one_name_are_the_same(name: str) -> None:
    assert canonical(name) == "acme-runtime"


def test_world_survives_its_way_through_json() -> None:
    world = World({"SET": "1", "UNSET": None}, ("/a", "/b"), ("acme",))
    assert World.from_json(json.loads(json.dumps(world.to_json()))) == world


def test_variables_are_set_and_unset(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    settled = warm.warm("probes.jobs:become", {"value": None}, world=World({"KEPT": "k", "GONE": "g"}))[0]
    assert settled is not None
    world = World({"GONE": None, "NEW": "n"})
    values = [
        settled.run("probes.jobs:environment", {"name": name}, world=world).value for name in ("KEPT", "GONE", "NEW")
    ]
    assert values == ["k", None, "n"]


def test_unsetting_what_is_not_set_is_nothing(warm: Warm) -> None:
    result = warm.run("probes.jobs:environment", {"name": "NEVER_SET"}, world=World({"NEVER_SET": None}))
    assert (result.value, result.failure) == (None, None)


def test_world_of_one_probe_is_not_seen_by_the_next(warm: Warm, installed: Path) -> None:
    world = World({"ONCE": "1"}, (str(installed),))
    assert warm.run("probes.jobs:environment", {"name": "ONCE"}, world=world).value == "1"
    assert warm.run("probes.jobs:environment", {"name": "ONCE"}).value is None
    assert str(installed) not in warm.run("probes.jobs:import_path").value


def test_path_installs_what_its_folder_holds(warm: Warm, installed: Path) -> None:
    world = World(paths=(str(installed),))
    points = warm.run("probes.jobs:entry_points", {"group": "acme.group"}, world=world)
    assert points.value == ["one=acme_runtime:one", "two=acme_runtime:two"]
    assert warm.run("probes.jobs:can_import", {"module": "acme_runtime"}, world=world).value == "acme_runtime"
    assert warm.run("probes.jobs:entry_points", {"group": "acme.group"}).value == []


def test_paths_come_first_in_their_order(warm: Warm) -> None:
    path = warm.run("probes.jobs:import_path", world=World(paths=("/first", "/second"))).value
    assert path[:2] == ["/first", "/second"]


def test_hidden_distribution_shows_no_metadata_but_imports(warm: Warm, installed: Path) -> None:
    world = World(paths=(str(installed),), hidden=("acme-runtime",))
    assert warm.run("probes.jobs:entry_points", {"group": "acme.group"}, world=world).value == []
    assert warm.run("probes.jobs:versions", {"distribution": "Acme_Runtime"}, world=world).value is None
    assert warm.run("probes.jobs:can_import", {"module": "acme_runtime"}, world=world).value == "acme_runtime"


def test_hiding_one_distribution_leaves_the_others(warm: Warm, installed: Path) -> None:
    world = World(paths=(str(installed),), hidden=("acme",))
    assert warm.run("probes.jobs:versions", {"distribution": "acme-runtime"}, world=world).value == "1.2"
    assert warm.run("probes.jobs:versions", {"distribution": "pytest"}, world=world).value == pytest.__version__
