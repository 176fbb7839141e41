"""The CUDA all-reduce on CUDA devices: a rank for each, or several that share one."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from sglang_conformance.ranks.pool import Pool

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs Triton: pip install 'sglang-conformance[cuda]'", allow_module_level=True)

from reference.cuda_ranks import ranks

DEVICES = torch.cuda.device_count() if torch.cuda.is_available() else 0
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not DEVICES, reason="needs a CUDA device")]
ALGORITHMS = ["1shot_push", "2shot_push", "1shot_pull", "2shot_pull"]

# How many ranks, and whether they share the first device.
SHARED = [pytest.param(size, True, id=f"{size} on one device") for size in (2, 3)]
APART = [
    pytest.param(
        size,
        False,
        id=f"{size} devices",
        marks=pytest.mark.skipif(0 < DEVICES < size, reason=f"needs {size} CUDA devices, and there are {DEVICES}"),
    )
    for size in (2, 4, 8)
]
placed = pytest.mark.parametrize(("size", "share"), [*SHARED, *APART])


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with ranks(interpreted=False) as made:
        yield made


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("meeting"))


def run(pool: Pool, name: str, size: int, **given: Any) -> tuple[Any, ...]:
    report = pool.run(f"reference.cuda_devices:{name}", given, size=size, seconds=300)
    assert not report.failures, report.text()
    return report.values


@placed
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_sums_are_right_and_the_same_on_all_ranks(
    pool: Pool, folder: str, size: int, share: bool, algorithm: str
) -> None:
    found = run(pool, "sums", size, folder=folder, share=share, algorithm=algorithm)
    assert all(each == found[0] for each in found)


@placed
def test_operations_back_to_back(pool: Pool, folder: str, size: int, share: bool) -> None:
    run(pool, "back_to_back", size, folder=folder, share=share, operations=200 if share else 2000)


@placed
@pytest.mark.parametrize("cold", [True, False])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_graphs_are_replayed_with_new_data(
    pool: Pool, folder: str, size: int, share: bool, algorithm: str, cold: bool
) -> None:
    run(pool, "replays", size, folder=folder, share=share, algorithm=algorithm, cold=cold)


@placed
def test_exception_in_a_capture_is_told_on_all_ranks(pool: Pool, folder: str, size: int, share: bool) -> None:
    heard = run(pool, "failing_capture", size, folder=folder, share=share)
    assert "ZeroDivisionError: in the capture of rank 1" in heard[1]
    for other in (*heard[:1], *heard[2:]):
        assert other.startswith(f"RuntimeError: a capture of graphs failed on rank 1 of {size}: ZeroDivisionError")


@placed
def test_streams_take_turns(pool: Pool, folder: str, size: int, share: bool) -> None:
    run(pool, "streams", size, folder=folder, share=share)


@placed
def test_rank_that_does_not_come_is_named_and_the_device_goes_on(
    pool: Pool, folder: str, size: int, share: bool
) -> None:
    *waited, gone = run(pool, "deserted", size, folder=folder, share=share)
    assert gone == []
    for during, after in waited:
        assert not during
        assert f"rank {size - 1} did not come to all-reduce number 1" in after


@placed
def test_memory_is_given_back(pool: Pool, folder: str, size: int, share: bool) -> None:
    for *free, length in run(pool, "lives", size, folder=folder, share=share):
        assert free[1] - free[-1] < length


@placed
@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
def test_classes_are_used_by_all_ranks_or_by_none(
    pool: Pool, folder: str, size: int, share: bool, release: str
) -> None:
    found = run(pool, "classes", size, folder=folder, share=share, release=release)
    assert all(each == found[0] for each in found)
    name, disabled, why = found[0]
    assert name in ("CustomAllreduce", "CustomAllReduceV2")
    assert bool(why) == disabled
