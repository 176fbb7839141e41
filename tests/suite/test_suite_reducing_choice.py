"""What the checks of the choice stand on: imagined worlds and machines, and the table of rules, told by hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from sglang_conformance.oracles import all_reduce as oracle
from sglang_conformance.suite.reducing import machines, worlds
from sglang_conformance.suite.reducing.machines import Refused, Stand, Waits
from sglang_conformance.suite.reducing.worlds import World

NEWEST = "0.5.23"

# The rules, told by hand.

BY_HAND = [
    (worlds.linked(2), "second", "second"),
    (worlds.unlinked(2), "first", "first"),
    (worlds.unlinked(3), "none", "none"),
    (worlds.unlinked(4), "none", "none"),
    (worlds.linked(3), "second", "second"),
    (worlds.linked(16), "none", "none"),
    (worlds.linked(16, capability=(10, 0)), "second", "none"),
    (worlds.linked(9, capability=(12, 0)), "second", "none"),
    (worlds.linked(8, kind="rocm"), "first", "first"),
    (worlds.unlinked(2, kind="rocm"), "none", "none"),
    (worlds.unlinked(2, kind="musa"), "first", "first"),
    (worlds.linked(1), "none", "none"),
    (replace(worlds.linked(4), links=worlds.every_pair(4) - {(1, 2)}), "none", "none"),
    (replace(worlds.linked(2), closed=frozenset({(1, 0)})), "none", "none"),
    (World((0, 1), cliques=("a", "a"), vmm=True), "second", "none"),
    (World((0, 1), cliques=("a", "b"), vmm=True), "none", "none"),
    (World((0, 1), cliques=("a", "a")), "none", "none"),
    (worlds.linked(4, second=False), "first", "first"),
]


@pytest.mark.parametrize(("world", "newest", "in_13"), BY_HAND, ids=[world.words() for world, *_ in BY_HAND])
def test_table_of_rules_says_what_a_person_says(world: World, newest: str, in_13: str) -> None:
    assert oracle.generation(world, NEWEST) == newest
    assert oracle.generation(world, "0.5.13") == in_13


def test_second_generation_was_to_be_switched_on_in_0_5_11() -> None:
    told = [oracle.generation(worlds.linked(2, second=said), "0.5.11") for said in (None, True, False)]
    assert told == ["first", "second", "first"]


# Worlds.


def test_same_seed_draws_the_same_worlds_and_all_kinds_of_them() -> None:
    drawn = list(worlds.drawn(3, 2000))
    assert drawn == list(worlds.drawn(3, 2000))
    assert drawn != list(worlds.drawn(4, 2000))
    assert {world.size for world in drawn} == set(range(1, 17))
    assert {oracle.generation(world, NEWEST) for world in drawn} == {"second", "first", "none"}
    assert {world.second for world in drawn} == {None, True, False}
    assert any(len(set(world.nodes)) > 1 and any(world.cliques) for world in drawn)
    assert any(world.links and len(world.links) == len(worlds.every_pair(world.size)) - 1 for world in drawn)


def test_links_stay_within_machines_and_words_tell_worlds_apart() -> None:
    for world in worlds.drawn(5, 500):
        assert all(world.nodes[one] == world.nodes[other] for one, other in world.links)
        assert f"{world.size} {world.kind} ranks" in world.words()
    assert worlds.linked(4).words() == "4 cuda ranks, capability 9.0, 6 of 6 pairs linked"
    assert "all pairs linked but 2-5" in worlds.HISTORY[5][1].words()


@pytest.mark.parametrize("drawn", [worlds.less_than_linked, worlds.one_step_down, worlds.one_sided, worlds.across])
def test_named_worlds_are_what_their_check_wants(drawn: Callable[[], Iterator[World]]) -> None:
    found = list(drawn())
    wanted = {oracle.generation(world, NEWEST) for world in found}
    if drawn is worlds.less_than_linked:
        assert all(len(world.links) < len(worlds.every_pair(world.size)) for world in found)
        assert wanted == {"first", "none"}
    if drawn is worlds.one_step_down:
        assert wanted == {"first"}
    if drawn is worlds.across:
        assert wanted == {"second", "none"}
    if drawn is worlds.one_sided:
        assert all(any((b, a) not in world.closed for a, b in world.closed) for world in found)


def test_access_is_for_all_or_for_none_where_it_is_even() -> None:
    assert worlds.even(worlds.linked(3)) == worlds.linked(3)
    assert len(worlds.even(replace(worlds.linked(3), closed=frozenset({(0, 1)}))).closed) == 6


# Machines.


def test_exchange_waits_until_all_have_spoken_and_then_tells_all() -> None:
    stand = Stand()
    stand.enter(worlds.linked(3))
    for rank in (0, 1):
        stand.sit(rank)
        with pytest.raises(Waits):
            stand.told_by_all(rank * 10)
    stand.sit(2)
    assert stand.told_by_all(20) == [0, 10, 20]
    stand.sit(0)
    assert stand.told_by_all(0) == [0, 10, 20]
    with pytest.raises(Waits):  # the next exchange is another one
        stand.told_by_all("a")


def test_library_tells_what_joins_two_devices_of_one_machine() -> None:
    stand = Stand()
    library = machines.Library(stand)
    stand.enter(World((0, 0, 1, 1), frozenset({(2, 3)}), frozenset({(2, 3), (3, 2)})))
    ask, nvlink, read = library.nvmlDeviceGetP2PStatus, library.NVML_P2P_CAPS_INDEX_NVLINK, 0
    assert (ask(0, 1, nvlink), ask(0, 1, read)) == (5, 0)
    stand.sit(2)
    assert (ask(0, 1, nvlink), ask(0, 1, read)) == (0, 5)
    assert stand.access() == {"0->0": True, "0->1": False, "1->0": False, "1->1": True}
    assert library.nvmlDeviceGetHandleByUUID(machines.uuid(1)) == 1
    with pytest.raises(Refused, match="no peer of its own"):
        ask(0, 0, nvlink)
    with pytest.raises(Refused, match="no device 2"):
        library.nvmlDeviceGetHandleByIndex(2)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_of_devices_are_those_on_their_machines(seed: int) -> None:
    stand = Stand()
    world = random.Random(seed).choice(list(worlds.drawn(seed, 50)))
    for visible in ("all", "own"):
        stand.enter(replace(world, visible=visible))
        for rank in range(world.size):
            stand.sit(rank)
            assert stand.rank_at(stand.number) == rank
            assert stand.index == (0 if visible == "own" else stand.number)
