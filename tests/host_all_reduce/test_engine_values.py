"""What the engine gives, on real ranks, against sums made another way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from host_all_reduce.engine_ranks import MODES, ranks
from sglang_conformance.ranks.pool import Pool


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with ranks(str(tmp_path_factory.mktemp("meeting"))) as made:
        yield made


def run(pool: Pool, name: str, size: int = 2, **arguments: Any) -> tuple[Any, ...]:
    report = pool.run(f"host_all_reduce.engine_ranks:{name}", arguments, size=size)
    assert not report.failures, report.summary()
    return report.values


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_length(pool: Pool, size: int, mode: str) -> None:
    run(pool, "lengths", size, dtype="float32", mode=mode)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64", "int8"])
def test_every_length_of_types_of_other_widths(pool: Pool, dtype: str) -> None:
    run(pool, "lengths", 3, dtype=dtype, mode="out")


@pytest.mark.parametrize("modes", [MODES[:2], MODES[2:4]], ids=["plain", "registered"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_type(pool: Pool, size: int, modes: tuple[str, ...]) -> None:
    run(pool, "every_type", size, modes=list(modes))


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_all_ranks_get_the_same_bits_each_time(pool: Pool, dtype: str, size: int) -> None:
    counts = [1, 3, 33, 1001, 40_001, 400_003]
    seen = {tuple(made) for _ in range(3) for made in run(pool, "digests", size, dtype=dtype, counts=counts)}
    assert len(seen) == 1


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("count", [9, 400_003])
def test_what_is_no_number_is_carried(pool: Pool, dtype: str, count: int, size: int) -> None:
    run(pool, "infinities", size, dtype=dtype, count=count)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_are_added_in_float32_and_rounded_once(pool: Pool, dtype: str) -> None:
    run(pool, "largest", 4, dtype=dtype)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_two_thousand_sums_on_two_engines_with_ranks_slowed_at_random(pool: Pool, size: int) -> None:
    assert run(pool, "at_random", size, rounds=2000, seed=size) == (2000,) * size


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int64"])
@pytest.mark.parametrize("count", [9, 400_003])
def test_inference_mode_makes_no_difference(pool: Pool, dtype: str, count: int) -> None:
    run(pool, "in_inference_mode_first", 3, dtype=dtype, count=count)
