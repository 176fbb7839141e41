"""A custom all-reduce in groups of the reference: the simulated accelerator's, by its hooks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reference.custom_ranks import ranks
from sglang_conformance.ranks.pool import Pool


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with ranks() as made:
        yield made


def run(pool: Pool, name: str, size: int, **given: Any) -> tuple[Any, ...]:
    report = pool.run(f"reference.custom_ranks:{name}", given, size=size, seconds=60.0)
    assert not report.failures, report.text()
    return report.values


@pytest.mark.parametrize(("size", "release"), [(2, "0.5.11"), (2, "0.5.23"), (4, "0.5.23")])
def test_group_reduces_by_it_what_it_accepts(pool: Pool, tmp_path: Path, size: int, release: str) -> None:
    total = size * (size + 1) / 2
    for number, found in enumerate(run(pool, "in_use", size, folder=str(tmp_path), release=release)):
        assert (found["class"], found["disabled"]) == ("SimCustomAllreduce", False)
        assert found["asked"] == ["ca", "torch.distributed"]
        assert found["eager"] == [[total] * 4, [total] * 3]
        assert found["input"] == [number + 1.0] * 4
        assert found["replayed"] == [[total * turn] * 4 for turn in (1, 2, 3)]
        assert found["turned"] == [[[size * row, size * (row + 4)] for row in range(4)], True]
        assert found["closed"] == [True, False, True]


@pytest.mark.parametrize("who", [0, 1, 2])
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("raises", "no memory is left"),
        ("fails", "no memory is left"),
        ("is elsewhere", "the ranks are on several machines"),
        ("is late", ""),
    ],
)
def test_where_one_rank_cannot_no_rank_does(pool: Pool, tmp_path: Path, who: int, how: str, why: str) -> None:
    for found in run(pool, "wanting", 3, folder=str(tmp_path), who=who, how=how):
        assert found["disabled"], found
        assert why in found["why"]
        assert found["engine"] == "torch.distributed"
        assert found["reduced"] == [3.0, 6.0, 9.0, 12.0]
        assert found["seconds"] < 20


@pytest.mark.parametrize("who", [0, 1])
def test_choice_for_a_built_in_device_does_not_wait_without_end(pool: Pool, tmp_path: Path, who: int) -> None:
    found = run(pool, "staying_away", 2, folder=str(tmp_path), who=who)
    waited = found[1 - who]
    assert waited["said"]
    assert 0.5 < waited["seconds"] < 3.5
    assert all(each["kept"] for each in found)


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize(
    ("how", "chosen"), [("", "CustomAllReduceV2"), ("raises", "CustomAllreduce"), ("hangs", "CustomAllreduce")]
)
def test_choice_for_a_built_in_device_is_the_groups(
    pool: Pool, tmp_path: Path, who: int, how: str, chosen: str
) -> None:
    for found in run(pool, "asking", 2, folder=str(tmp_path), who=who, how=how):
        assert (found["chosen"], found["reduced"]) == (chosen, 2.0)
        assert found["seconds"] < 10


def test_it_is_off_for_more_ranks_than_it_serves(pool: Pool, tmp_path: Path) -> None:
    for found in run(pool, "wanting", 9, folder=str(tmp_path), who=-1, how=""):
        assert (found["disabled"], found["why"]) == (True, "9 ranks are not between 2 and 8")


@pytest.mark.parametrize("size", [2, 3])
def test_engines_come_and_go_without_a_trace(pool: Pool, tmp_path: Path, size: int) -> None:
    assert run(pool, "come_and_go", size, folder=str(tmp_path), times=5) == ([0, 0],) * size
