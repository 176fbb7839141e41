"""What the checks of groups go by: tables worked out by hand, the layouts' oracle, and numbers that tell their rank."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sglang_conformance.oracles import layouts as oracle
from sglang_conformance.suite.expect import Violation
from sglang_conformance.suite.grouping import beside, holdings, numbers, sizes
from sglang_reference import _layouts as reference


@pytest.mark.parametrize("table", sizes.TABLES, ids=lambda table: sizes.told(table.sizes))
def test_oracle_agrees_with_the_tables(table: sizes.Table) -> None:
    found = oracle.expected(sizes.whole(table.sizes), table.world)
    assert {kind: found[kind] for kind in table.groups} == table.groups


def test_tables_are_of_one_two_four_and_eight_ranks() -> None:
    assert {table.world for table in sizes.TABLES} == {1, 2, 4, 8}


@given(drawn=sizes.drawn(48), place=st.floats(0, 1, exclude_max=True))
def test_members_are_the_groups_of_a_rank(drawn: dict[str, int], place: float) -> None:
    world = drawn["tp"] * drawn["pp"]
    rank = int(place * world)
    own = {kind: next(g for g in found if rank in g) for kind, found in oracle.expected(drawn, world).items()}
    assert oracle.members(drawn, world, rank) == {"world": list(range(world)), **own}


@given(drawn=sizes.drawn(48))
def test_kinds_that_share_are_the_references(drawn: dict[str, int]) -> None:
    made = reference.layouts(reference.Sizes(**drawn))
    shares = {kind: layout.shares for kind, layout in made.items() if layout.shares and kind != "moe_ep"}
    assert oracle.sharing(drawn) == shares


def test_members_of_a_hundred_thousand_ranks() -> None:
    tp = 25_000
    found = oracle.members(sizes.whole({"tp": tp, "pp": 4, "attn_cp": 2, "moe_ep": 8}), 4 * tp, tp + 5)
    assert found["tp"] == list(range(tp, 2 * tp))
    assert found["pp"] == [5, tp + 5, 2 * tp + 5, 3 * tp + 5]
    assert found["attn_cp"] == found["moe_dp"] == [tp + 5, tp + 5 + tp // 2]
    assert found["attention_tp"] == list(range(tp, tp + tp // 2))
    assert found["moe_tp"] == list(range(tp, tp + tp // 8))
    assert found["moe_ep"] == [tp + 5 + place * (tp // 8) for place in range(8)]


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_fitting_sizes_make_up_the_world(world: int) -> None:
    found = list(sizes.fitting(world))
    assert all(each["tp"] * each["pp"] == world for each in found)
    assert len({sizes.told(each) for each in found}) == len(found)
    for each in found:
        assert each["tp"] % (each["attn_dp"] * each["attn_cp"]) == each["tp"] % (each["moe_ep"] * each["moe_dp"]) == 0


@pytest.mark.parametrize(("world", "count"), [(1, 3), (2, 3), (4, 6), (8, 20)])
def test_chosen_sizes_are_spread_over_all(world: int, count: int) -> None:
    found, every = sizes.chosen(world, count), list(sizes.fitting(world))
    assert len(found) == min(count, len(every))
    assert (found[0], found[-1]) == (every[0], every[-1])
    places = [every.index(each) for each in found]
    assert all(before < after for before, after in pairwise(places))


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_telling_sizes_make_up_the_world(world: int) -> None:
    every = list(sizes.fitting(world))
    assert all(each in every for each in sizes.telling(world))


def test_telling_sizes_part_ranks_along_and_across() -> None:
    stages, across, along = (oracle.expected(each, 4) for each in sizes.telling(4))
    assert (stages["tp"], stages["pp"]) == ([[0, 1], [2, 3]], [[0, 2], [1, 3]])
    assert (across["attn_cp"], across["moe_ep"]) == ([[0, 2], [1, 3]], [[0, 2], [1, 3]])
    assert (along["moe_ep"], along["moe_dp"]) == ([[0, 1], [2, 3]], [[0, 2], [1, 3]])


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("shift", [0, 1])
def test_groups_beside_hold_every_rank_once(size: int, shift: int) -> None:
    for lists in (beside.everyone(size), beside.strided(size), beside.pairs(size, shift=shift)):
        assert sorted(rank for ranks in lists for rank in ranks) == list(range(size))


def test_pairs_are_neighbours() -> None:
    assert beside.pairs(5) == [[0, 1], [2, 3], [4]]
    assert beside.pairs(5, shift=1) == [[0], [1, 2], [3, 4]]


def exchanged(summed: list[int], gathered: list[list[int]]) -> numbers.Exchange:
    """As it would be where the sum is of these ranks, and these ranks were gathered in turn."""
    columns = zip(*(numbers.given(rank) for rank in summed), strict=True)
    flat = [number for ranks in gathered for rank in ranks for number in numbers.given(rank)]
    return numbers.Exchange("a group", [sum(column) for column in columns], flat)


def test_right_numbers_are_not_blamed() -> None:
    numbers.judge(exchanged([1, 3], [[1, 3]]), [1, 3])


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        (exchanged([1, 2], [[1, 3]]), "the sum of ranks [1, 2]"),
        (exchanged([1], [[1, 3]]), "the sum of ranks [1]"),
        (exchanged([1, 3], [[3, 1]]), "rank 3's, rank 1's"),
        (exchanged([1, 3], [[1, 0]]), "rank 1's, rank 0's (3 of 6 positions wrong)"),
    ],
)
def test_wrong_numbers_tell_whose_they_are(seen: numbers.Exchange, text: str) -> None:
    with pytest.raises(Violation) as caught:
        numbers.judge(seen, [1, 3])
    finding: dict[str, Any] = caught.value.finding
    assert text in finding["seen"]
    assert "a group" in finding["call"]


def test_what_was_not_written_is_told() -> None:
    right = exchanged([1, 3], [[1, 3]])
    seen = numbers.Exchange("a group", right.summed, [*right.gathered[:3], -7.0, -7.0, -7.0])
    with pytest.raises(Violation) as caught:
        numbers.judge(seen, [1, 3])
    assert "rank 1's, unwritten" in caught.value.finding["seen"]


def test_memory_that_is_kept_out_of_what_was_free_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holdings, "_counts", dict)
    once = [bytes(100_000) for _ in range(100)]  # below what the C library maps apart
    last = bytes(100_000)
    del once
    kept: list[list[bytes]] = []

    def keep(_: int) -> None:
        kept.append([bytes(100_000) for _ in range(10)])

    assert list(holdings.grown(keep, 4, 512 << 10, torch.device("cpu"), None)) == ["memory of the process"]
    assert holdings.grown(lambda _: None, 4, 512 << 10, torch.device("cpu"), None) == {}
    assert len(kept) == 4
    assert last
