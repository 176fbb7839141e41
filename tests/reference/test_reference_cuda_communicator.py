"""The communicator of a group on real processes, with the CUDA engine on the host: by which algorithm, all or none."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from sglang_conformance.ranks.pool import Pool

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs Triton: pip install 'sglang-conformance[cuda]'", allow_module_level=True)

from reference.cuda_ranks import ranks


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with ranks() as made:
        yield made


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("meeting"))


def run(pool: Pool, name: str, size: int = 2, **given: Any) -> tuple[Any, ...]:
    report = pool.run(f"reference.cuda_groups:{name}", given, size=size, seconds=60)
    assert not report.failures, report.text()
    return report.values


@pytest.mark.parametrize("size", [2, 3])
def test_tensors_go_by_the_algorithm_of_their_size(pool: Pool, folder: str, size: int) -> None:
    by_size = ["one_shot_push"] * 2 + ["one_shot_pull staged"] * 2 + ["two_shot_pull staged"] * 2
    for launched in run(pool, "in_use", size, folder=folder):
        assert launched == [*by_size, "one_shot_push", "one_shot_push"]


@pytest.mark.parametrize("exports", [True, False])
def test_inputs_of_graphs_are_registered_where_all_ranks_can(pool: Pool, folder: str, exports: bool) -> None:
    inside = "one_shot_pull registered" if exports else "one_shot_push"
    for launched in run(pool, "captured", folder=folder, exports=exports):
        assert launched == ["one_shot_push", inside, "one_shot_push"]


@pytest.mark.parametrize("step", ["device", "identity", "allocate", "export", "open", "reported"])
def test_where_one_rank_fails_none_has_it(pool: Pool, folder: str, step: str) -> None:
    for has, why, held in run(pool, "failing", 3, folder=folder, step=step, how="fails"):
        assert (has, held) == (False, 0)
        assert "OSError: broken here" in why
        assert "rank 2" in why


@pytest.mark.parametrize("step", ["device", "allocate", "open"])
def test_where_one_rank_hangs_none_has_it(pool: Pool, folder: str, step: str) -> None:
    for has, why, _ in run(pool, "failing", 3, folder=folder, step=step, how="hangs"):
        assert not has
        assert "rank 2 of 3 has said nothing" in why or "nothing came of it within 1.5 s" in why


def test_devices_that_no_nvlink_joins_go_without(pool: Pool, folder: str) -> None:
    for why in run(pool, "unlinked", folder=folder, same=False):
        assert "no NVLink joins the devices" in why
    assert run(pool, "unlinked", folder=folder, same=True) == ("", "")
