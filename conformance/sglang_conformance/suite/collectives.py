"""COL: what the all-reduce of SGLang's GroupCoordinator gives, on the platform's devices.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from . import expect
from .collecting import apart, drawn, tensors
from .collecting.judging import Verdict, attempt, offered, served
from .collecting.parts import MOVE, Parts, each_type, moved, repeated, summed
from .declare import on_ranks, requirement
from .member import Member

_RUNS = 3
_SMALL_CALLS = 60
_LARGE, _COPIES = 16_913, 31  # so many of two bytes each are just above 1 MiB, and no round number
_INFINITE, _NAN, _SUBNORMAL = float("inf"), float("nan"), 2.0**-133


@requirement("COL-001")
@on_ranks(1, 2, 3, 4)
@given(dtype=drawn.floats, shape=drawn.shapes, salt=drawn.salts)
def test_all_reduce_sums_every_rank(member: Member, dtype: str, shape: list[int], salt: int) -> None:
    parts = summed(member, dtype, shape, salt)
    call = f"GroupCoordinator.all_reduce of {parts.words()}"
    tensor = tensors.made(parts.of(member.number), dtype, member.device)
    got = attempt(call, member.coordinator.all_reduce, tensor)
    with Verdict() as verdict:
        verdict.reduced(got, parts, call)
        where = getattr(getattr(got, "device", None), "type", None)
        verdict.equal(where, member.device.type, call=f"{call}: the result's device")


@requirement("COL-002")
@on_ranks(1)
def test_group_of_one_gives_back_what_it_is_given(member: Member) -> None:
    group, thing = member.coordinator, {"number": 7}
    if member.size > 1:
        return
    with Verdict() as verdict:
        for parts in each_type(member, MOVE, drawn.FLOATS):
            for name in ("all_reduce", "all_gather", "gather", "broadcast", "reduce_scatter_along_dim"):
                if hasattr(group, name):
                    call = f"GroupCoordinator.{name} of {parts.words()} in a group of one"
                    tensor = tensors.made(parts.of(0), parts.dtype, member.device)
                    verdict.moved(attempt(call, getattr(group, name), tensor), parts, 0, call)
            room = tensors.poisoned(parts.shape, parts.dtype, member.device)
            call = f"GroupCoordinator.all_gather of {parts.words()} into a list, in a group of one"
            own = tensors.made(parts.of(0), parts.dtype, member.device)
            attempt(call, group.all_gather, own, output_tensor_list=[room])
            verdict.moved(room, parts, 0, call)
        for name in ("broadcast_object", "broadcast_tensor_dict"):
            call = f"GroupCoordinator.{name} in a group of one"
            verdict.equal(attempt(call, getattr(group, name), thing), thing, call=call)
        call = "GroupCoordinator.all_gather_object in a group of one"
        verdict.equal(attempt(call, group.all_gather_object, thing), [thing], call=call)


@requirement("COL-003")
@on_ranks(2, 4)
@given(dtype=drawn.floats, count=st.integers(1, 400), scale=st.integers(-6, 5), seed=drawn.seeds)
def test_all_reduce_rounds_no_more_than_its_type(member: Member, dtype: str, count: int, scale: int, seed: int) -> None:
    from ..oracles import collectives as oracle

    parts = [oracle.noise(dtype, count, scale, seed + rank) for rank in range(member.size)]
    call = f"GroupCoordinator.all_reduce of {dtype} [{count}], random numbers about 2**{scale}"
    tensor = tensors.made(parts[member.number], dtype, member.device)
    got = attempt(call, member.coordinator.all_reduce, tensor)
    with Verdict() as verdict:
        verdict.near_sum(got, parts, dtype, call)


@requirement("COL-003")
@on_ranks(2, 4)
def test_longer_all_reduce_rounds_no_more_than_its_type(member: Member) -> None:
    from ..oracles import collectives as oracle

    with Verdict() as verdict:
        for number, dtype in enumerate(drawn.FLOATS):
            parts = [oracle.noise(dtype, 5000, 0, 10 * number + rank) for rank in range(member.size)]
            call = f"GroupCoordinator.all_reduce of {dtype} [5000], random numbers about 1"
            tensor = tensors.made(parts[member.number], dtype, member.device)
            verdict.near_sum(attempt(call, member.coordinator.all_reduce, tensor), parts, dtype, call)


@requirement("COL-004")
@on_ranks(2, 4)
def test_all_reduce_gives_all_ranks_the_same_bits(member: Member) -> None:
    said = []
    for dtype in drawn.FLOATS:
        for count in (1, 257, 5000):
            tensor = tensors.noise(dtype, count, count + member.number, member.device)
            call = f"GroupCoordinator.all_reduce of {dtype} [{count}], random numbers"
            said.append((call, tensors.digest(attempt(call, member.coordinator.all_reduce, tensor))))
    others = member.side.to_all([digest for _, digest in said])
    for index, (call, digest) in enumerate(said):
        apart = [rank for rank, theirs in enumerate(others) if theirs[index] != digest]
        seen = f"other bits on rank {', '.join(map(str, apart))}"
        expect.that(not apart, expected="the same bits on all ranks", seen=seen, call=call)


@requirement("COL-005")
@on_ranks(2, 4, watched=False)
def test_all_reduce_gives_the_same_bits_each_time(member: Member) -> None:
    pause = apart.at_odd_times(member)
    with Verdict() as verdict:
        for dtype, count in (*((dtype, 4099) for dtype in drawn.FLOATS), ("bfloat16", _LARGE)):
            call = f"GroupCoordinator.all_reduce of {dtype} [{count}], {_RUNS} times with the same numbers"
            own = tensors.noise(dtype, count, member.number, member.device)
            seen = []
            for _ in range(_RUNS):
                pause()
                seen.append(tensors.digest(attempt(call, member.coordinator.all_reduce, own.clone())))
            verdict.equal(len(set(seen)), 1, call=f"{call}: how many different results")


@requirement("COL-006")
@on_ranks(2, 4)
def test_all_reduce_of_a_slice_leaves_its_neighbours(member: Member) -> None:
    with Verdict() as verdict:
        for parts in each_type(member, "sum", drawn.FLOATS, times=3):
            call = f"GroupCoordinator.all_reduce of {parts.words()} {tensors.OFFSET}"
            given = tensors.laid(parts.of(member.number), parts.dtype, member.device, tensors.OFFSET)
            verdict.reduced(attempt(call, member.coordinator.all_reduce, given.tensor), parts, call)
            verdict.equal(given.disturbed(), 0, call=f"{call}: changed elements around it")


@requirement("COL-007")
@on_ranks(2, 4)
def test_all_reduce_of_a_transposed_tensor_is_right_or_refused(member: Member) -> None:
    with Verdict() as verdict:
        for number, dtype in enumerate(drawn.FLOATS):
            parts = summed(member, dtype, ((3, 5), (2, 3, 4), (4, 2))[number], number)
            given = tensors.laid(parts.of(member.number), dtype, member.device, tensors.TRANSPOSED).tensor
            got = offered(member, member.coordinator.all_reduce, given)
            verdict.reduced(got, parts, f"GroupCoordinator.all_reduce of {parts.words()}, transposed")


@requirement("COL-008")
@on_ranks(2, 4, watched=False)
def test_many_small_all_reduces_in_a_row_are_each_right(member: Member) -> None:
    shapes, pause = ((8,), (2, 3), (17,), (1,)), apart.at_odd_times(member)
    calls = _SMALL_CALLS // max(1, member.size - 1)
    results: list[tuple[Any, Parts, str]] = []
    for number in range(calls):
        parts = summed(member, drawn.FLOATS[number % 3], shapes[number % 4], number)
        call = f"GroupCoordinator.all_reduce of {parts.words()}, call {number + 1} of {calls} in a row"
        tensor = tensors.made(parts.of(member.number), parts.dtype, member.device)
        pause()
        got = attempt(call, member.coordinator.all_reduce, tensor)
        results.append((attempt(call, got.clone), parts, f"{call}, read at once"))
        results.append((got, parts, f"{call}, read after the last"))
    with Verdict() as verdict:
        for got, parts, call in results:
            verdict.reduced(got, parts, call)


@requirement("COL-009")
@on_ranks(2, 4)
def test_large_all_reduce_is_right_throughout(member: Member) -> None:
    largest = repeated(summed(member, "bfloat16", (_LARGE,)), _COPIES)
    wide = (129, 2049) if member.size == 2 else (67, 127)
    with Verdict() as verdict:
        for parts in (largest, summed(member, "float32", wide), summed(member, "float16", (67, 127))):
            call = f"GroupCoordinator.all_reduce of {parts.words()}"
            tensor = tensors.made(parts.of(member.number), parts.dtype, member.device)
            verdict.reduced(attempt(call, member.coordinator.all_reduce, tensor), parts, call)


@requirement("COL-010")
@on_ranks(2, 4)
def test_all_reduce_keeps_infinities_and_nan(member: Member) -> None:
    import numpy as np

    last = member.size - 1
    columns = {  # what the first rank brings, the last, all others; and the sum
        "infinity": (_INFINITE, 1.0, 1.0, _INFINITE),
        "minus infinity": (2.0, -_INFINITE, 1.0, -_INFINITE),
        "both infinities": (_INFINITE, -_INFINITE, 1.0, _NAN),
        "NaN": (1.0, _NAN, 1.0, _NAN),
        "zeros": (0.0, 0.0, 0.0, 0.0),
    }
    place = {0: 0, last: 1}.get(member.number, 2)
    own, sums = np.array([c[place] for c in columns.values()]), np.array([c[3] for c in columns.values()])
    with Verdict() as verdict:
        for dtype in drawn.FLOATS:
            call = f"GroupCoordinator.all_reduce of {dtype}: {', '.join(columns)}"
            got = attempt(call, member.coordinator.all_reduce, tensors.made(own, dtype, member.device))
            verdict.holds(got, sums, dtype, call)


@requirement("COL-011")
@on_ranks(2, 4)
def test_all_reduce_keeps_or_flushes_subnormal_numbers(member: Member) -> None:
    import numpy as np

    own, whole = np.full(33, _SUBNORMAL), _SUBNORMAL * member.size
    for dtype in ("float32", "bfloat16"):
        call = f"GroupCoordinator.all_reduce of {dtype} [33], numbers below the least normal one"
        got = attempt(call, member.coordinator.all_reduce, tensors.made(own, dtype, member.device))
        seen = sorted(set(tensors.numbers(got).tolist()))
        expect.that(seen in ([0.0], [whole]), expected=f"{whole:g} throughout, or 0", seen=str(seen), call=call)


@requirement("COL-012")
@on_ranks(2, 4)
def test_reduces_and_gathers_what_inference_makes(member: Member) -> None:
    import torch

    with Verdict() as verdict, torch.inference_mode():
        parts = summed(member, "bfloat16", (4, 3))
        call = f"under torch.inference_mode(): GroupCoordinator.all_reduce of {parts.words()}"
        tensor = tensors.made(parts.of(member.number), parts.dtype, member.device) * 1
        verdict.reduced(attempt(call, member.coordinator.all_reduce, tensor), parts, call)
        parts = moved(member, "bfloat16", (4, 3))
        call = f"under torch.inference_mode(): GroupCoordinator.all_gather of {parts.words()}"
        tensor = tensors.made(parts.of(member.number), parts.dtype, member.device) * 1
        verdict.gathered(attempt(call, member.coordinator.all_gather, tensor, dim=0), parts, call)


@requirement("COL-013")
@on_ranks(2, 4)
def test_quantised_all_reduce_is_near_the_sum(member: Member) -> None:
    import numpy as np

    from ..oracles import collectives as oracle

    with Verdict() as verdict:
        for number, dtype in enumerate(drawn.FLOATS * 2):
            shape, seed = (1 + 3 * number, 16), 100 * number
            parts = [oracle.noise(dtype, shape[0] * 16, 0, seed + rank).reshape(shape) for rank in range(member.size)]
            call = f"GroupCoordinator.quant_all_reduce of {dtype} {list(shape)}, random numbers"
            tensor = tensors.made(parts[member.number], dtype, member.device)
            got = served(member, call, member.coordinator.quant_all_reduce, tensor)
            # A row has one scale: 127 steps up to its largest number, of which rounding takes up to one.
            steps = np.add.reduce([np.abs(part).max(axis=-1, keepdims=True) / 127 for part in parts])
            within = steps + oracle.tolerance(dtype, parts)
            verdict.holds(got, oracle.reduced("sum", parts), dtype, call, within=within)


@requirement("COL-014")
@on_ranks(2, 4)
def test_functions_of_tensor_parallelism_use_its_group(member: Member) -> None:
    operations = importlib.import_module("sglang.srt.distributed.communication_op")
    with Verdict() as verdict:
        parts, call = summed(member, "float32", (3, 5)), "tensor_model_parallel_all_reduce of float32 [3, 5]"
        own = tensors.made(parts.of(member.number), "float32", member.device)
        verdict.reduced(attempt(call, operations.tensor_model_parallel_all_reduce, own), parts, call)
        parts, call = moved(member, "float32", (3, 5)), "tensor_model_parallel_all_gather of float32 [3, 5]"
        own = tensors.made(parts.of(member.number), "float32", member.device)
        verdict.gathered(attempt(call, operations.tensor_model_parallel_all_gather, own), parts, call, dim=1)
        call, given = "broadcast_tensor_dict from rank 0", {"tensor": own, "number": 7} if member.number == 0 else None
        got = attempt(call, operations.broadcast_tensor_dict, given, 0)
        verdict.equal(sorted(got), ["number", "tensor"], call=f"{call}: the keys")
        verdict.moved(got.get("tensor"), parts, 0, call)


@requirement("COL-028")
@on_ranks(2, 4)
def test_function_that_gathers_uses_the_group_of_tensor_parallelism(member: Member) -> None:
    operations = importlib.import_module("sglang.srt.distributed.communication_op")
    parts, call = moved(member, "float32", (3, 5)), "tensor_model_parallel_gather of float32 [3, 5] to rank 1"
    own = tensors.made(parts.of(member.number), "float32", member.device)
    got = attempt(call, operations.tensor_model_parallel_gather, own, 1, 0)
    with Verdict() as verdict:
        if member.number == 1:
            verdict.gathered(got, parts, call)
        else:
            verdict.equal(got, None, call=call)
