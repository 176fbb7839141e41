"""CAR: what a group's custom all-reduce gives.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from . import expect
from .collecting import apart, drawn, tensors
from .collecting.judging import Verdict, attempt, tried
from .declare import on_ranks, requirement
from .member import Member
from .reducing import calls, engines, forms, sizes

_INTEGERS = (*drawn.INTEGERS, "int16", "int8", "uint8")
_COUNTS = (256, 4104, 50_000)
_LANES = (1, 2, 4, 8, 16, 24)
_MANY = 160  # reductions: of a step of a model with eighty layers, all of which a graph may hold


@requirement("CAR-028")
@on_ranks(2, 4)
@given(
    dtype=drawn.floats,
    shape=drawn.arrays,
    lanes=st.sampled_from(_LANES),
    order=st.permutations(range(3)),
    offset=st.integers(0, 9),
    behind=st.integers(0, 9),
    gap=st.sampled_from((0, 0, 0, 8)),
    salt=drawn.salts,
)
def test_each_tensor_is_summed_right(
    member: Member,
    dtype: str,
    shape: list[int],
    lanes: int,
    order: list[int],
    offset: int,
    behind: int,
    gap: int,
    salt: int,
) -> None:
    found = engines.group_s(member)
    brought = forms.Brought(dtype, member.size, forms.drawn(shape, lanes, order, offset, behind, gap), salt)
    tensor, _ = calls.given(member, brought)
    with Verdict() as verdict:
        if calls.accepted(member, found, brought):
            call = calls.spelt(brought)
            calls.judge(verdict, attempt(call, found.custom_all_reduce, tensor), brought, call)
        if tensor.is_contiguous():
            call, (own, _) = f"GroupCoordinator.all_reduce of {brought.words()}", calls.given(member, brought)
            calls.judge(verdict, attempt(call, member.coordinator.all_reduce, own), brought, call)


@requirement("CAR-029")
@on_ranks(2, 4)
def test_each_result_is_a_tensor_of_its_own(member: Member) -> None:
    found, served = engines.group_s(member), sizes.served(member)
    made: list[tuple[Any, forms.Brought, str]] = []
    with Verdict() as verdict:
        for dtype, count in served.items():
            for salt in range(4 if made else _MANY):
                brought = forms.flat(dtype, member.size, count, 5 * salt)
                tensor, _ = calls.given(member, brought)
                call = calls.spelt(brought)
                got = attempt(call, found.custom_all_reduce, tensor)
                verdict.that(_apart(got, tensor), expected="memory of its own", seen="that of the input", call=call)
                made.append((got, brought, call))
        for got, brought, call in made:
            calls.judge(verdict, got, brought, f"{call}, after all {len(made)} in a row")
        for got, brought, call in made[:1]:
            got.fill_(3)  # whoever has a result may write to it
            again = calls.reduced(member, verdict, found, brought, after=", after another result was overwritten")
            verdict.that(_apart(again, got), expected="another tensor each time", seen="the same", call=call)


@requirement("CAR-030")
@on_ranks(2, 4)
def test_results_are_laid_out_as_torch_would(member: Member) -> None:
    import torch

    found = engines.group_s(member)
    wished = [forms.Brought(dtype, member.size, form) for dtype in drawn.FLOATS for form in forms.DENSE]
    given = [calls.given(member, brought)[0] for brought in wished]
    answers = calls.alike(member, found, [(t, b.words()) for t, b in zip(given, wished, strict=True)])
    with Verdict() as verdict:
        for brought, tensor, answer in zip(wished, given, answers, strict=True):
            if not answer:
                continue
            call, like = calls.spelt(brought), torch.empty_like(tensor)
            got = attempt(call, found.custom_all_reduce, tensor)
            if isinstance(got, torch.Tensor):
                seen = (got.dtype, tuple(got.shape), got.device, got.stride())
                wanted = (like.dtype, tuple(like.shape), like.device, like.stride())
                verdict.equal(seen, wanted, call=f"type, shape, device and strides of {call}")


@requirement("CAR-031")
@on_ranks(2, 4)
def test_inputs_stay_as_they_are(member: Member) -> None:
    found = engines.group_s(member)
    wished = [forms.Brought("bfloat16", member.size, form, number) for number, form in enumerate(forms.DENSE)]
    wished += [forms.flat(dtype, member.size, count, 3) for dtype, count in sizes.served(member).items()]
    wished += [forms.flat("float32", member.size, 1 << 17)]
    given = [calls.given(member, brought) for brought in wished]
    answers = calls.alike(member, found, [(t, b.words()) for (t, _), b in zip(given, wished, strict=True)])
    with Verdict() as verdict:
        for brought, (tensor, storage), answer in zip(wished, given, answers, strict=True):
            if answer:
                call = calls.spelt(brought)
                attempt(call, found.custom_all_reduce, tensor)
                words = f"{call}: its input afterwards, and what lies around it"
                verdict.holds(storage, brought.storage(member.number), brought.dtype, words)


@requirement("CAR-032")
@on_ranks(2, 4)
def test_results_are_written_throughout(member: Member) -> None:
    """The memory that a result gets is full of NaN, as far as that can be arranged with the device's allocator."""
    found, served = engines.group_s(member), sizes.served(member)
    with Verdict() as verdict:
        for dtype, small in served.items():
            for number, count in enumerate((small, small, 50_000, 50_000)):
                brought = forms.flat(dtype, member.size, count, 7 * number)
                tensor, _ = calls.given(member, brought)
                if not calls.alike(member, found, [(tensor, brought.words())])[0]:
                    continue
                used = [tensors.poisoned((count,), dtype, member.device) for _ in range(4)]
                del used
                call = f"{calls.spelt(brought)}, where NaN was before"
                calls.judge(verdict, attempt(call, found.custom_all_reduce, tensor), brought, call)


@requirement("CAR-033")
@on_ranks(2, 4)
def test_integers_are_summed_exactly(member: Member) -> None:
    found = engines.group_s(member)
    wished = [forms.flat(dtype, member.size, 16 * number, number) for dtype in _INTEGERS for number in (1, 17, 260)]
    given = [calls.given(member, brought)[0] for brought in wished]
    answers = calls.alike(member, found, [(t, b.words()) for t, b in zip(given, wished, strict=True)])
    if not any(answers):
        raise expect.Declined("it accepts no integers")
    with Verdict() as verdict:
        for brought, tensor, answer in zip(wished, given, answers, strict=True):
            if answer:
                calls.judge(verdict, tried(found.custom_all_reduce, tensor), brought, calls.spelt(brought))


@requirement("CAR-034")
@on_ranks(2, 4)
def test_sums_round_no_more_than_their_type(member: Member) -> None:
    from ..oracles import collectives as oracle

    found = engines.group_s(member)
    with Verdict() as verdict:
        for number, dtype in enumerate((*drawn.FLOATS, "float64")):
            for count in _COUNTS:
                parts = [oracle.noise(dtype, count, 0, 10 * number + rank) for rank in range(member.size)]
                tensor = tensors.made(parts[member.number], dtype, member.device)
                call = f"{engines.OWNER}.custom_all_reduce of {dtype} [{count}], random numbers about 1"
                if calls.alike(member, found, [(tensor, f"{dtype} [{count}]")])[0]:
                    reduce = tried if dtype == "float64" else partial(attempt, call)
                    verdict.near_sum(reduce(found.custom_all_reduce, tensor), parts, dtype, call)


@requirement("CAR-035")
@on_ranks(2, 4)
def test_nan_and_infinity_are_carried(member: Member) -> None:
    import numpy as np

    found, served = engines.group_s(member), sizes.served(member)
    odd = (math.nan, math.inf, -math.inf)
    with Verdict() as verdict:
        for dtype in served:
            rows = [np.full(512, float(rank + 1)) for rank in range(member.size)]
            for rank in range(member.size):
                for number, value in enumerate(odd):
                    rows[rank][3 + 40 * rank + 7 * number] = value
            rows[0][500], rows[1][500] = math.inf, -math.inf
            with np.errstate(invalid="ignore"):
                wanted = np.sum(rows, axis=0)
            tensor = tensors.made(rows[member.number], dtype, member.device)
            call = f"{engines.OWNER}.custom_all_reduce of {dtype} [512] with NaN and infinity here and there"
            if calls.alike(member, found, [(tensor, f"{dtype} [512]")])[0]:
                verdict.holds(attempt(call, found.custom_all_reduce, tensor), wanted, dtype, call)


@requirement("CAR-036")
@on_ranks(2, 4)
def test_all_ranks_get_the_same_bits(member: Member) -> None:
    said = [(call, tensors.digest(got)) for call, got in _noisy(member, 1)]
    others = member.side.to_all([digest for _, digest in said])
    for index, (call, digest) in enumerate(said):
        differing = [rank for rank, theirs in enumerate(others) if theirs[index] != digest]
        seen = f"other bits on rank {', '.join(map(str, differing))}"
        expect.that(not differing, expected="the same bits on all ranks", seen=seen, call=call)


@requirement("CAR-037")
@on_ranks(2, 4, watched=False)
def test_runs_give_the_same_bits(member: Member) -> None:
    runs = [[(call, tensors.digest(got)) for call, got in _noisy(member, 1)] for _ in range(4)]
    for number, run in enumerate(runs[1:], 2):
        for (call, first), (_, again) in zip(runs[0], run, strict=True):
            seen = f"other bits in run {number}"
            expect.that(first == again, expected="the same bits each time", seen=seen, call=call)


@requirement("CAR-038")
@on_ranks(2)
def test_it_serves_where_nothing_is_differentiated(member: Member) -> None:
    import torch

    found, served = engines.group_s(member), sizes.served(member)
    with Verdict() as verdict:
        for scope in (torch.inference_mode, torch.no_grad, torch.enable_grad):
            with scope():
                for dtype, count in served.items():
                    after = f", within torch.{scope.__name__}()"
                    calls.reduced(member, verdict, found, forms.flat(dtype, member.size, count), after=after)


def _noisy(member: Member, seed: int) -> list[tuple[str, Any]]:
    """Sums of random numbers, of types and sizes that it accepts, each with its call."""
    found, pause, said = engines.group_s(member), apart.at_odd_times(member), []
    for dtype in drawn.FLOATS:
        for count in _COUNTS:
            tensor = tensors.noise(dtype, count, seed + count + member.number, member.device)
            call = f"{engines.OWNER}.custom_all_reduce of {dtype} [{count}], random numbers"
            if calls.alike(member, found, [(tensor, f"{dtype} [{count}]")])[0]:
                pause()
                said.append((call, attempt(call, found.custom_all_reduce, tensor)))
    return said


def _apart(one: Any, other: Any) -> bool:
    """Whether two tensors share no memory, as far as they tell an address."""
    import torch

    if not (isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)):
        return True  # what is no tensor is told where it is judged
    first, second = (tensor.data_ptr() for tensor in (one, other))
    lengths = [tensor.numel() * tensor.element_size() for tensor in (one, other)]
    return first + lengths[0] <= second or second + lengths[1] <= first
