"""The arithmetic: bandwidths by nccl-tests' definitions, medians, ratios."""

from __future__ import annotations

import pytest

from bench.taken import measured
from sglang_conformance.bench.model import (
    BACKEND,
    COPY,
    GROUP,
    PYNCCL,
    Case,
    Measured,
    Taken,
    algorithm_bandwidth,
    bus_bandwidth,
    figures,
    slowest,
)


def test_algorithm_bandwidth_is_bytes_by_time() -> None:
    assert algorithm_bandwidth(10**9, 1.0) == pytest.approx(1.0)
    assert algorithm_bandwidth(1 << 20, 1e-3) == pytest.approx(1.048576)


@pytest.mark.parametrize(("ranks", "factor"), [(2, 1.0), (4, 1.5), (8, 1.75), (3, 4 / 3)])
def test_bus_bandwidth_has_the_factor_of_an_all_reduce(ranks: int, factor: float) -> None:
    assert bus_bandwidth(100.0, ranks) == pytest.approx(100.0 * factor)


def test_line_of_nccl_tests_is_met() -> None:
    # 8 ranks, 128 MiB in 1226.6 us: algbw 109.42, busbw 191.49, by the formulas of nccl-tests' doc/PERFORMANCE.md
    algorithm = algorithm_bandwidth(134_217_728, 1226.6e-6)
    assert algorithm == pytest.approx(109.42, abs=0.005)
    assert bus_bandwidth(algorithm, 8) == pytest.approx(191.49, abs=0.005)


def test_an_iteration_is_as_slow_as_its_slowest_rank() -> None:
    assert slowest([[1.0, 5.0, 2.0], [3.0, 4.0, 2.5]]) == (3.0, 5.0, 2.5)


def test_ranks_must_have_measured_equally_often() -> None:
    with pytest.raises(ValueError, match="shorter"):
        slowest([[1.0, 2.0], [1.0]])


def test_time_is_the_median_of_the_iterations() -> None:
    taken = Taken(GROUP, 1, (5.0, 1.0, 3.0, 100.0, 2.0))
    assert taken.time == 3.0
    assert taken.quartiles == (2.0, 5.0)


def test_one_iteration_has_no_spread() -> None:
    assert Taken(GROUP, 1, (5.0,)).quartiles == (5.0, 5.0)


def test_ratios_are_to_the_backend_and_to_a_copy() -> None:
    case = measured(1 << 20, ranks=4)
    of = {taken.engine: figures(case, taken) for taken in case.taken}
    assert of[PYNCCL].vs_backend == pytest.approx(4.0)
    assert of[PYNCCL].vs_copy == pytest.approx(2.0)
    assert of[BACKEND].vs_backend == 1.0
    assert of[BACKEND].vs_copy == pytest.approx(8.0)
    assert of[COPY].vs_copy == 1.0
    assert of[COPY].vs_backend is None
    assert of[COPY].bus is None
    assert of[PYNCCL].bus == pytest.approx(1.5 * of[PYNCCL].algorithm)


def test_without_yardsticks_there_are_no_ratios() -> None:
    case = Measured(Case(2, "float32", 64), (Taken(GROUP, 1, (1e-6,)),))
    found = figures(case, case.taken[0])
    assert (found.vs_backend, found.vs_copy) == (None, None)


@pytest.mark.parametrize(("dtype", "count"), [("float32", 256), ("float16", 512), ("bfloat16", 512)])
def test_count_is_that_of_elements(dtype: str, count: int) -> None:
    assert Case(2, dtype, 1024).count == count
