"""The parts of the comparison, without any SGLang."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from parity import plain, releases
from parity.__main__ import main
from parity.comparing import NOTHING, Difference, differences
from parity.differences import KNOWN, Known, explained
from parity.hooking import Hook
from parity.lockstep import compare, drawn
from parity.selection import Vendor, World
from parity.sides import Pair
from parity.subjects import SHARES, shares


@pytest.mark.parametrize("subject", SHARES)
def test_drawn_worlds_survive_json_and_are_the_same_for_the_same_number(subject: str) -> None:
    worlds = drawn(subject, 20, 5)
    assert len(worlds) > 5
    assert worlds == drawn(subject, 20, 5)
    kind = importlib.import_module(f"parity.{subject}").World
    for world in worlds:
        assert isinstance(world, kind)
        plain_world = json.loads(json.dumps(dataclasses.asdict(world)))
        assert json.loads(json.dumps(dataclasses.asdict(plain.read(kind, plain_world)))) == plain_world


def test_dataclasses_are_read_back_with_their_tuples() -> None:
    vendor = Vendor("a", "b", activate=None, points=(("g", "n", "v"),))
    world = World((vendor,), {"A": "1"}, (("set", ("A", None)),))
    assert plain.read(World, dataclasses.asdict(world)).vendors == world.vendors
    assert plain.read(Hook, {"target": "t", "type": "AFTER"}) == Hook("t", "AFTER")


@pytest.mark.parametrize(
    ("real", "reference", "places"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": True}, ["/a"]),
        ({"a": 1}, {}, ["/a"]),
        ([1, 2], [1], [""]),
        ([{"step": "apply", "error": "X"}, 2], [{"step": "apply", "error": "Y"}, 3], ["/0:apply/error", "/1"]),
    ],
)
def test_differences_are_found_where_they_are(real: Any, reference: Any, places: list[str]) -> None:
    assert [found.place for found in differences(real, reference)] == places


def test_difference_is_explained_only_where_it_is_listed() -> None:
    known = next(each for each in KNOWN if each.name == "capabilities-frozen")
    seen = Difference("/3:(capabilities)/error", "AttributeError", "FrozenInstanceError")
    assert explained([seen], "members", "0.5.23") == ([known], [])
    assert explained([seen], "members", "0.5.21") == ([], [seen])
    assert explained([seen], "hooking", "0.5.23") == ([], [seen])
    other = dataclasses.replace(seen, reference="TypeError")
    assert explained([seen, other], "members", "0.5.23") == ([known], [other])


def differing(place: str, real: Any = "[1.0]", reference: Any = "[2.0]") -> Difference:
    return Difference(place, real, reference)


FAILS = differing("/0/1:tp.all_gatherv/error", "AttributeError", NOTHING)
CHANGED = differing("/0/1:tp.all_gatherv/after/0/is")


def test_what_follows_from_a_difference_is_explained_in_its_own_step() -> None:
    served = differing("/0/1:tp.all_gatherv/value", NOTHING, {"list": []})
    for follows in ([], [served], [CHANGED, served]):
        assert explained([FAILS, *follows], "collectives", "0.5.23")[1] == []
        assert explained(follows, "collectives", "0.5.23")[1] == follows
    refused = dataclasses.replace(FAILS, reference="ValueError")
    assert explained([refused, CHANGED], "collectives", "0.5.23")[1] == []


@pytest.mark.parametrize(
    "other",
    [
        differing("/0/2:tp.all_gatherv/after/0/is"),
        differing("/0/11:tp.all_gatherv/after/0/is"),
        differing("/1/1:tp.all_gatherv/after/0/is"),
        differing("/0/2:tp.all_gatherv/error", "AttributeError", "TypeError"),
    ],
)
def test_what_differs_in_another_step_is_not_explained_by_it(other: Difference) -> None:
    assert explained([FAILS, CHANGED, other], "collectives", "0.5.23")[1] == [other]


@pytest.mark.parametrize(
    ("reference", "is_known"),
    [
        ([["destroy_process_group", 8], ["destroy_process_group", 9], ["destroy_process_group", None]], True),
        ([["destroy_process_group", 8], ["destroy_process_group", None]], False),
        ([["destroy_process_group", 8], ["destroy_process_group", 9]], False),
        ([], False),
    ],
)
def test_group_of_a_rank_alone_is_all_that_may_be_destroyed_beside(reference: Any, is_known: bool) -> None:
    seen = Difference("/3:quit/events", [["destroy_process_group", None]], reference)
    assert bool(explained([seen], "layouts", "0.5.23")[0]) is is_known


class Told(Pair):
    """Sides that tell what they are given; in a batch, and of one world alone."""

    def __init__(self, batch: Any, alone: Any) -> None:
        super().__init__("0.5.23", ((), ()), ((), ()))
        vars(self).update(batch=batch, alone=alone)

    def enact(self, subject: str, worlds: Sequence[Any]) -> list[tuple[Any, Any]]:
        told = vars(self)["batch" if len(worlds) > 1 else "alone"]
        return [(told, 1) for _ in worlds]


@pytest.mark.parametrize(("alone", "fleeting", "wrong"), [(1, 9, 0), (2, 0, 5)])
def test_world_that_differs_only_among_others_is_counted(alone: int, fleeting: int, wrong: int) -> None:
    worlds = drawn("environment", 9, 0)
    tally = compare(Told(2, alone), "environment", worlds, len(worlds), 0)
    assert (tally.worlds, tally.fleeting, len(tally.disagreements)) == (9, fleeting, wrong)


def test_every_known_difference_names_its_reason_and_a_world_of_its_subject() -> None:
    assert len({known.name for known in KNOWN}) == len(KNOWN)
    for known in KNOWN:
        assert isinstance(known.world, importlib.import_module(f"parity.{known.subject}").World)
        assert known.why.endswith(".")
        assert any(known.holds(release) for release in releases.RELEASES)


def test_page_lists_every_known_difference_with_its_releases() -> None:
    page = (Path(__file__).parents[2] / "docs" / "parity.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == [row(known) for known in KNOWN]


def row(known: Known) -> str:
    when = [f"from {known.first}" if known.first else "", f"before {known.gone}" if known.gone else ""]
    return f"| `{known.name}` | {known.subject} | {' '.join(filter(None, when)) or 'all'} | {known.why} |"


def test_worlds_are_dealt_out_whole() -> None:
    assert sum(shares(2000, tuple(SHARES)).values()) == pytest.approx(2000, abs=len(SHARES))
    assert min(shares(1, tuple(SHARES)).values()) == 1


def test_release_that_is_not_here_is_said_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(releases.VARIABLE, raising=False)
    assert releases.folder("0.5.23") is None
    assert "names no folder" in releases.advice("0.5.23")
    monkeypatch.setenv(releases.VARIABLE, str(tmp_path))
    assert releases.folder("0.5.23") is None
    assert f"pip install --no-deps --target={tmp_path}/0.5.23 sglang==0.5.23" in releases.advice("0.5.23")
    (tmp_path / "0.5.23" / "sglang" / "srt").mkdir(parents=True)
    assert releases.folder("0.5.23") == tmp_path / "0.5.23"
    with pytest.raises(SystemExit):
        main(["--release", "0.4.0"])
    assert "give one or several of 0.5.11" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--worlds", "0"])
    assert "at least one world" in capsys.readouterr().err
