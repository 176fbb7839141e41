"""What the checks of collectives go by: numbers that tell their rank, exact sums, and what is said of wrong ones."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sglang_conformance.oracles import collectives as oracle
from sglang_conformance.suite.collecting import drawn, rings, tensors, uneven
from sglang_conformance.suite.collecting.judging import REFUSED, Verdict, tried
from sglang_conformance.suite.collecting.parts import MOVE, Parts, each_type, repeated
from sglang_conformance.suite.expect import Declined, Violation

CPU = torch.device("cpu")
SIZES = st.integers(1, 16)
NUMBERS = tuple(name for name in oracle.KINDS if name != "bool" and not name.startswith("float8"))


def in_type(numbers: oracle.Array, dtype: str) -> torch.Tensor:
    made: torch.Tensor = tensors.made(numbers, dtype, CPU)
    return made


@given(dtype=st.sampled_from(NUMBERS), size=SIZES, salt=drawn.salts, seed=drawn.seeds)
def test_sums_are_exact_in_the_type_in_any_order(dtype: str, size: int, salt: int, seed: int) -> None:
    parts = [oracle.part("sum", dtype, rank, size, 40, salt) for rank in range(size)]
    order = np.random.default_rng(seed).permutation(size)
    total = in_type(parts[order[0]], dtype)
    for rank in order[1:]:
        total = total + in_type(parts[rank], dtype)
    assert (tensors.numbers(total) == oracle.reduced("sum", parts)).all()


@given(operation=st.sampled_from(oracle.OPERATIONS), dtype=st.sampled_from(NUMBERS), size=st.integers(1, 8))
def test_parts_and_what_becomes_of_them_fit_the_type(operation: str, dtype: str, size: int) -> None:
    if operation.startswith("b") and dtype.startswith(("float", "bfloat")):
        return
    parts = [oracle.part(operation, dtype, rank, size, 30) for rank in range(size)]
    whole = oracle.reduced("sum" if operation == "avg" else operation, parts)
    for numbers in (*parts, whole):
        assert (tensors.numbers(in_type(numbers, dtype)) == numbers).all()


@pytest.mark.parametrize("operation", ["min", "max"])
def test_each_rank_has_the_extreme_somewhere(operation: str) -> None:
    parts = [oracle.part(operation, "int32", rank, 4, 8) for rank in range(4)]
    whole = oracle.reduced(operation, parts)
    assert all((part == whole).any() for part in parts)


@settings(deadline=None)
@given(dtype=st.sampled_from(drawn.MOVED), size=st.integers(2, 8), salt=drawn.salts)
def test_tags_are_of_their_type_and_no_tag_is_poison(dtype: str, size: int, salt: int) -> None:
    every = [oracle.tags(dtype, rank, size, 50, salt) for rank in range(size)]
    assert all((tensors.numbers(in_type(tags, dtype)) == tags).all() for tags in every)
    if dtype != "bool":
        assert all((one != other).all() for one, other in itertools.combinations(every, 2))
        assert all((tags != tensors.poison(dtype)).all() for tags in every)


@given(dtype=st.sampled_from(drawn.FLOATS), size=st.integers(1, 8), scale=st.integers(-6, 5), seed=drawn.seeds)
@settings(max_examples=40)
def test_sums_of_noise_are_within_the_tolerance_and_not_far_within(
    dtype: str, size: int, scale: int, seed: int
) -> None:
    parts = [oracle.noise(dtype, 60, scale, seed + rank) for rank in range(size)]
    assert all((tensors.numbers(in_type(part, dtype)) == part).all() for part in parts)
    total = in_type(parts[0], dtype)
    for part in parts[1:]:
        total = total + in_type(part, dtype)
    exact, within = oracle.reduced("sum", parts), oracle.tolerance(dtype, parts)
    assert not len(oracle.wrong(tensors.numbers(total), exact, within))
    assert (within < np.add.reduce(np.abs(parts)) * oracle.KINDS[dtype].epsilon * 10 + 1e-4).all()


THROUGH = [
    ("float64", "float32"),
    ("float32", "float16"),
    ("float32", "bfloat16"),
    ("float16", "bfloat16"),
    ("int64", "int32"),
    ("int64", "float64"),
    ("int64", "float32"),
    ("int32", "float32"),
    ("int32", "int16"),
]


@pytest.mark.parametrize(("dtype", "narrower"), THROUGH)
def test_no_narrower_type_carries_the_numbers(dtype: str, narrower: str) -> None:
    def through(numbers: oracle.Array) -> oracle.Array:
        carried = in_type(numbers, dtype).to(getattr(torch, narrower)).to(getattr(torch, dtype))
        return tensors.numbers(carried)

    for operation, size, salt in itertools.product(("sum", "min", "max", MOVE), (1, 2, 3, 4, 8), (0, 1, 7, 60)):
        every = Parts(operation, dtype, size, (7,), salt).all()
        assert any((through(part) != part).any() for part in every), (operation, size, salt)
    for size in (2, 4, 8):
        sums = Parts("sum", dtype, size, (64,)).reduced()
        assert (through(sums) != sums).all(), size


def test_split_and_exchange() -> None:
    whole = np.arange(6)
    assert [part.tolist() for part in oracle.split(whole, [2, 0, 4])] == [[0, 1], [], [2, 3, 4, 5]]
    given_by = [[np.array([10 * s + d]) for d in range(2)] for s in range(2)]
    assert [part.tolist() for part in oracle.exchanged(given_by, 1)] == [[1], [11]]


def test_wrong_positions_are_found_and_nan_equals_nan() -> None:
    nan, infinite = math.nan, math.inf
    expected = np.array([1.0, nan, infinite, 4.0])
    assert oracle.wrong(expected.copy(), expected).tolist() == []
    assert oracle.wrong(np.array([1.5, 0.0, -infinite, 4.25]), expected, 0.25).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (15 - 4, "without rank 2"),
        (15 - 1 - 8, "without ranks 0 and 3"),
        (15 + 8, "rank 3 counted twice"),
        (15 - 1 + 8, "rank 3 counted in place of rank 0"),
        (60, "the sum of all ranks, 4 times"),
        (15.5, ""),
    ],
)
def test_message_tells_whose_part_is_missing_or_doubled(got: float, said: str) -> None:
    assert oracle.told(got, 15.0, [1.0, 2.0, 4.0, 8.0], "sum") == said


def test_message_tells_an_average_that_was_not_divided() -> None:
    assert oracle.told(15.0, 3.75, [1.0, 2.0, 4.0, 8.0], "avg") == "the sum, not divided by the number of ranks"


def test_message_tells_whose_number_it_is() -> None:
    assert oracle.told(7.0, 5.0, [5.0, 6.0, 7.0], MOVE) == "it is the number of rank 2, not of rank 0"


def judged(got: Any, parts: Parts) -> dict[str, Any]:
    with pytest.raises(Violation) as caught, Verdict() as verdict:
        verdict.reduced(got, parts, "a call")
    return caught.value.finding


def test_verdict_names_place_number_and_rank() -> None:
    parts = Parts("sum", "float32", 2, (2, 3))
    wrong = parts.reduced()
    right, own = wrong[1, 1].item(), parts.of(0)[1, 1].item()
    wrong[1, 1] = own
    finding = judged(in_type(wrong, "float32"), parts)
    assert finding["seen"] == f"{own!r}, without rank 1, wrong at 1 of 6 positions, first at [1, 1]".replace(".0,", ",")
    assert finding["expected"] == f"{right!r} at [1, 1]".replace(".0 at", " at")


def test_verdict_names_what_was_never_written() -> None:
    parts = Parts("sum", "float32", 2, (4,))
    assert "it was never written" in judged(tensors.poisoned((4,), "float32", CPU), parts)["seen"]


@pytest.mark.parametrize("got", [None, torch.zeros(4), torch.zeros(3, dtype=torch.float64)])
def test_verdict_wants_a_tensor_of_that_type_and_shape(got: Any) -> None:
    assert judged(got, Parts("sum", "float32", 2, (3,)))["expected"] == "a tensor of float32 [3]"


def test_first_violation_is_raised_and_only_at_the_end() -> None:
    reached = []

    def check() -> None:
        with Verdict() as verdict:
            verdict.equal(1, 2, call="first")
            verdict.equal(3, 4, call="second")
            reached.append(True)

    with pytest.raises(Violation, match="saw 1"):
        check()
    assert reached


def test_what_is_declined_afterwards_takes_no_violation_back() -> None:
    def check() -> None:
        with Verdict() as verdict:
            verdict.equal(1, 2, call="first")
            raise Declined("not offered")

    with pytest.raises(Violation, match="saw 1"):
        check()


def test_tried_tells_a_refusal_from_an_answer() -> None:
    assert tried(int, "none") is REFUSED
    assert tried(int, "3") == 3


@pytest.mark.parametrize(
    "layout", [tensors.PLAIN, tensors.OFFSET, tensors.TRANSPOSED, tensors.STRIDED, tensors.EXPANDED]
)
def test_layouts_hold_the_numbers_and_notice_what_changes_around(layout: str) -> None:
    numbers = np.arange(12.0).reshape(1, 3, 4).repeat(2, axis=0)
    found = tensors.laid(numbers, "float32", CPU, layout)
    assert (tensors.numbers(found.tensor) == numbers).all()
    assert found.tensor.is_contiguous() == (layout in (tensors.PLAIN, tensors.OFFSET))
    assert found.disturbed() == 0
    if layout != tensors.EXPANDED:
        found.tensor.mul_(2)
    assert found.disturbed() == 0
    if layout in (tensors.OFFSET, tensors.STRIDED):
        found.around.add_(1)
        assert found.disturbed() > 0


@pytest.mark.parametrize("size", [2, 3, 4, 7])
@pytest.mark.parametrize("odd_first", [False, True])
def test_ring_ends_without_buffers(size: int, odd_first: bool) -> None:
    """Each step is a rendezvous: a rank goes on only when the other end is at the same message."""
    steps: list[list[tuple[int, int]]] = []
    for number in range(size):
        member: Any = SimpleNamespace(number=number, size=size)
        own: list[tuple[int, int]] = []
        sent, received = (number, rings.following(member)), (rings.preceding(member), number)
        rings.passed_on(
            member,
            lambda own=own, sent=sent: own.append(sent),  # type: ignore[misc]
            lambda own=own, received=received: own.append(received),  # type: ignore[misc]
            odd_first=odd_first,
        )
        steps.append(own)
    while any(steps):
        heads = [own[0] for own in steps if own]
        ready = {message for message in heads if heads.count(message) == 2}
        assert ready, steps
        steps = [own[1:] if own and own[0] in ready else own for own in steps]


def test_repeated_parts_are_named_by_their_whole_shape() -> None:
    parts = repeated(Parts(MOVE, "int64", 2, (3, 2)), 4)
    assert parts.of(1).shape == (12, 2)
    assert parts.words() == "int64 [12, 2]"
    assert Parts(MOVE, "int64", 2, ()).words() == "int64 []"


def test_each_type_comes_with_several_shapes() -> None:
    member: Any = SimpleNamespace(size=3)
    parts = list(each_type(member, MOVE, drawn.MOVED, scalars=True))
    assert {part.dtype for part in parts} == set(drawn.MOVED)
    assert {part.shape for part in parts} >= {(), (7,), (3, 5), (2, 1, 4)}
    assert parts[0].for_each().shape == (3 * parts[0].shape[0],)


@pytest.mark.parametrize("operation", ["min", "max"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8"])
def test_extremes_differ_from_position_to_position(operation: str, dtype: str) -> None:
    parts = [oracle.part(operation, dtype, rank, 4, 64) for rank in range(4)]
    found = oracle.reduced(operation, parts)
    assert len({float(number) for number in found}) > 5


@pytest.mark.parametrize("size", [2, 3, 4])
def test_each_rank_is_once_without_rows_and_meets_the_same_shapes_otherwise_shared(size: int) -> None:
    seen = [tuple(rows.sizes) for rows in uneven.one_without(size)]
    assert all(any(sizes[rank] == 0 for sizes in seen) for rank in range(size))
    assert any(sum(map(bool, sizes)) == 1 for sizes in seen)
    assert size == 2 or all(_alike_to_each(rank, seen) for rank in range(size))
    whole = uneven.Rows("float32", [2, 0, 3], 1, 0)
    assert [whole.mine(rank) for rank in range(3)] == [slice(0, 2), slice(2, 2), slice(2, 5)]


def _alike_to_each(rank: int, seen: list[tuple[int, ...]]) -> bool:
    """Whether a rank has as many rows of as many once more, and others have not."""
    return any(one != other and (one[rank], sum(one)) == (other[rank], sum(other)) for one in seen for other in seen)


def test_sizes_are_dealt_again_from_the_start() -> None:
    assert list(uneven.dealt("float32", [1, 0, 2], 3, 0, 2).sizes) == [1, 0]
    assert list(uneven.dealt("float32", [1, 0, 2], 3, 0, 5).sizes) == [1, 0, 2, 1, 0]
