"""The kernels of the CUDA all-reduce in Triton's interpreter, on processes that share memory: flags, waits and all."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from sglang_conformance.ranks.pool import Pool

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs Triton: pip install 'sglang-conformance[cuda]'", allow_module_level=True)

from reference.cuda_ranks import ranks

ALGORITHMS = ["1shot_push", "2shot_push", "1shot_pull", "2shot_pull"]
PULLS = ALGORITHMS[2:]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with ranks() as made:
        yield made


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("meeting"))


def run(pool: Pool, name: str, size: int = 2, seconds: float = 100.0, **given: Any) -> tuple[Any, ...]:
    report = pool.run(f"reference.cuda_ranks:{name}", given, size=size, seconds=seconds)
    assert not report.failures, report.text()
    return report.values


# Blocks of 128 threads serve up to 128 packs each, then those of 512: of the whole, or of each rank's chunk. A slot has
# 1024 packs, the staged input 4096.
def boundaries(algorithm: str, size: int) -> list[int]:
    parts = size if algorithm.startswith("2") else 1
    steps = [parts * packs + more for packs in (128, 256, 512, 1024) for more in (-1, 0, 1)]
    capacity = {"1shot_push": 1024, "2shot_push": size * 512}.get(algorithm, 4096)
    return [*range(1, 2 * size + 2), *[packs for packs in steps if packs < capacity], capacity]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_sums_of_every_length(pool: Pool, folder: str, algorithm: str) -> None:
    sizes = boundaries(algorithm, 2)
    first, second = run(pool, "sums", folder=folder, algorithm=algorithm, dtype="float32", sizes=sizes)
    assert first == second


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_sums_of_types_of_16_bits(pool: Pool, folder: str, algorithm: str, dtype: str) -> None:
    first, second = run(pool, "sums", folder=folder, algorithm=algorithm, dtype=dtype, sizes=[1, 3, 300, 1024])
    assert first == second


@pytest.mark.parametrize("size", [3, 5, 8])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_sums_of_more_ranks(pool: Pool, folder: str, algorithm: str, size: int) -> None:
    sizes = [1, size - 1, size, size + 1, 513, 128 * size]
    found = run(pool, "sums", size, folder=folder, algorithm=algorithm, dtype="float16", sizes=sizes)
    assert all(each == found[0] for each in found)


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_sums_by_any_number_of_blocks(pool: Pool, folder: str, algorithm: str, blocks: int) -> None:
    run(pool, "sums", 2, folder=folder, algorithm=algorithm, dtype="float32", sizes=[1024, 1, 700], blocks=blocks)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_infinities_nan_and_signs_of_zero_are_carried_and_sums_may_be_in_place(
    pool: Pool, folder: str, algorithm: str, dtype: str
) -> None:
    first, second = run(pool, "extremes", folder=folder, algorithm=algorithm, dtype=dtype)
    assert first == second


@pytest.mark.parametrize(("size", "blocks", "slow"), [(2, 2, True), (2, 1, False), (3, 2, True)])
def test_operations_of_all_kinds_one_after_the_other(
    pool: Pool, folder: str, size: int, blocks: int, slow: bool
) -> None:
    found = run(pool, "mixed", size, folder=folder, seed=size + blocks, operations=40, slow=slow, blocks=blocks)
    assert all(each == found[0] for each in found)


@pytest.mark.parametrize(("size", "offset"), [(2, 0), (3, 4096 + 16)])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_graphs_are_registered_once_and_replayed_with_new_data(
    pool: Pool, folder: str, algorithm: str, size: int, offset: int
) -> None:
    for found in run(pool, "replayed", size, folder=folder, algorithm=algorithm, replays=4, offset=offset):
        registered = 3 if algorithm in PULLS else 0
        assert found == {"during": 0, "registered": registered, "held": 0}


@pytest.mark.parametrize(
    ("how", "first", "second"),
    [
        (
            "raises",
            "RuntimeError: a capture of graphs failed on rank 1 of 2: ZeroDivisionError: in the capture of rank 1",
            "ZeroDivisionError: in the capture of rank 1",
        ),
        ("more", *["RuntimeError: the ranks have captured different all-reduces: 1 on rank 0, 2 on rank 1"] * 2),
        ("otherwise", *["RuntimeError: the ranks have captured different all-reduces: 1 on rank 0, 1 on rank 1"] * 2),
        (
            "private",
            *["RuntimeError: a capture of graphs failed on rank 1 of 2: RuntimeError: * is in no memory *"] * 2,
        ),
        (
            "goes on",
            *["RuntimeError: a capture of graphs failed on rank 1 of 2: RuntimeError: the graph's capture *"] * 2,
        ),
    ],
)
def test_what_is_wrong_in_a_capture_is_told_on_all_ranks_and_the_next_one_is_right(
    pool: Pool, folder: str, how: str, first: str, second: str
) -> None:
    for [heard], expected in zip(run(pool, "captured_wrongly", folder=folder, how=how), (first, second), strict=True):
        parts = expected.split("*")
        assert heard.startswith(parts[0])
        assert all(part in heard for part in parts)


def test_rank_that_leaves_its_capture_keeps_nobody_waiting(pool: Pool, folder: str) -> None:
    first, left, last = run(pool, "left_in_capture", 3, folder=folder)
    assert left == ["0"]
    for heard, held in (first, last):
        assert heard.startswith("rank 1 of 3 has said nothing for")
        assert held == "0"


def test_engines_live_beside_and_after_each_other_and_leave_nothing(pool: Pool, folder: str) -> None:
    assert all(found == [2, 0] for found in run(pool, "lives", folder=folder))


@pytest.mark.parametrize("step", ["allocate", "export", "open", "reported"])
def test_where_one_rank_cannot_make_its_engine_no_rank_has_one(pool: Pool, folder: str, step: str) -> None:
    for heard, held in run(pool, "half_made", 3, folder=folder, step=step):
        assert f"failed on rank 2 of 3: MemoryError: no {step} here" in heard
        assert held == 0


def test_rank_that_does_not_come_is_named(pool: Pool, folder: str) -> None:
    *waited, gone = run(pool, "deserted", 3, folder=folder)
    assert gone == []
    for rank, (during, after) in enumerate(waited):
        assert not during  # a kernel cannot raise: the next call does
        assert f"rank 2 did not come to all-reduce number 1 while rank {rank} waited for it" in after


def test_tensors_that_do_not_fit_are_refused(pool: Pool, folder: str) -> None:
    for said in run(pool, "refused", folder=folder):
        assert list(said) == [
            "integers", "two types", "two shapes", "two orders", "gaps", "elsewhere", "unaligned", "odd", "empty",
            "long", "closed",
        ]  # fmt: skip
        assert "not torch.int32 into torch.int32" in said["integers"]
        assert said["gaps"] == "the input has sizes (32,) and strides (2,), which leaves gaps"
        assert said["elsewhere"] == "the engine works on cpu, and a tensor is on meta"
        assert said["long"] == "262144 bytes are more than 1shot_push has room for, 16384"
        assert said["odd"] == "20 bytes are not a positive multiple of 16"
        assert said["closed"] == "the all-reduce engine is closed"
