"""Which tensors, and which ranks, the simulated device's custom all-reduce takes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from sglang_simulated import device
from sglang_simulated.custom_all_reduce import MAX_BYTES, Able, obstacle, refusal

SHAPES = [(4,), (2, 6), (3, 4, 5), (1, 8), (5, 1, 4), (2, 1, 1, 8)]


def on_device(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    device.register()
    return torch.zeros(shape, dtype=dtype, device="sim:0")


@pytest.mark.parametrize(
    ("count", "dtype", "said"),
    [
        (4, torch.float32, ""),
        (8, torch.bfloat16, ""),
        (2, torch.int64, ""),
        (3, torch.float32, "12 bytes are no multiple of 16"),
        (7, torch.float16, "14 bytes are no multiple of 16"),
        (0, torch.float32, "0 bytes are not between 1 and"),
        (MAX_BYTES // 4, torch.float32, ""),
        (MAX_BYTES // 4 + 4, torch.float32, "8388624 bytes are not between 1 and 8388608"),
        (16, torch.uint8, "there is no sum of torch.uint8"),
        (16, torch.bool, "there is no sum of torch.bool"),
    ],
)
def test_size_and_type_decide(count: int, dtype: torch.dtype, said: str) -> None:
    answer = refusal(on_device(count, dtype=dtype), MAX_BYTES)
    assert answer.startswith(said) if said else not answer


def test_tensors_elsewhere_are_refused() -> None:
    assert refusal(torch.zeros(4), MAX_BYTES) == "it lies on cpu"


@pytest.mark.parametrize("shape", SHAPES)
def test_dense_layouts_are_taken_in_any_order_of_the_dimensions(shape: tuple[int, ...]) -> None:
    whole = on_device(*shape)
    for order in itertools.permutations(range(len(shape))):
        assert not refusal(whole.permute(order), MAX_BYTES)


@pytest.mark.parametrize(
    ("sizes", "strides"),
    [
        ((4, 4), (8, 1)),  # rows with gaps
        ((8,), (2,)),
        ((4, 4), (0, 1)),  # one row many times
        ((2, 8), (4, 1)),  # rows that overlap
        ((4, 4), (1, 5)),
    ],
)
def test_gaps_and_overlaps_are_refused(sizes: tuple[int, ...], strides: tuple[int, ...]) -> None:
    assert "one piece of memory" in refusal(on_device(64).as_strided(sizes, strides), MAX_BYTES)


def test_dimensions_of_length_one_may_have_any_stride() -> None:
    assert not refusal(on_device(64).as_strided((1, 8), (37, 1)), MAX_BYTES)


def test_views_of_a_part_are_taken() -> None:
    assert not refusal(on_device(64)[8:24], MAX_BYTES)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([("a", 64)] * 2, ""),
        ([("a", 64)] * 8, ""),
        ([("a", 64)], "1 ranks are not between 2 and 8"),
        ([("a", 64)] * 9, "9 ranks are not between 2 and 8"),
        ([("a", 64), ("", 64, "", "rank 1: no engine"), ("b", 64)], "rank 1: no engine"),
        ([("a", 64), ("b", 64)], "the ranks are on several machines"),
        ([("a", 64), ("a", 32)], "the ranks were given different maximums"),
    ],
)
def test_ranks_reduce_together_or_not_at_all(said: list[tuple[Any, ...]], why: str) -> None:
    assert obstacle([Able(*(each if each[2:] else (*each, ""))) for each in said]) == why
