"""COL: what the gathers, scatters and exchanges of SGLang's GroupCoordinator give, even and uneven.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from .collecting import drawn, tensors, uneven
from .collecting.judging import REFUSED, Verdict, attempt, served
from .collecting.parts import MOVE, each_type
from .declare import on_ranks, requirement
from .member import Member


@requirement("COL-015")
@on_ranks(1, 2, 4)
def test_all_gather_joins_along_each_dimension(member: Member) -> None:
    with Verdict() as verdict:
        for parts in each_type(member, MOVE, drawn.MOVED):
            for dim in range(-len(parts.shape), len(parts.shape)):
                call = f"GroupCoordinator.all_gather of {parts.words()}, dim={dim}"
                tensor = tensors.made(parts.of(member.number), parts.dtype, member.device)
                verdict.gathered(attempt(call, member.coordinator.all_gather, tensor, dim=dim), parts, call, dim=dim)


@requirement("COL-016")
@on_ranks(2, 4)
def test_all_gather_fills_a_list_by_rank(member: Member) -> None:
    with Verdict() as verdict:
        for parts in each_type(member, MOVE, drawn.MOVED):
            call = f"GroupCoordinator.all_gather of {parts.words()} into a list"
            rooms = [tensors.poisoned(parts.shape, parts.dtype, member.device) for _ in range(member.size)]
            tensor = tensors.made(parts.of(member.number), parts.dtype, member.device)
            attempt(call, member.coordinator.all_gather, tensor, output_tensor_list=rooms)
            for rank, room in enumerate(rooms):
                verdict.moved(room, parts, rank, f"{call}: element {rank}")


@requirement("COL-017")
@on_ranks(2, 4)
def test_all_gather_into_tensor_fills_all_of_it(member: Member) -> None:
    with Verdict() as verdict:
        for parts in each_type(member, MOVE, drawn.MOVED):
            call = f"GroupCoordinator.all_gather_into_tensor of {parts.words()} into one {tensors.OFFSET}"
            room = tensors.room(parts.for_each().shape, parts.dtype, member.device)
            tensor = tensors.made(parts.of(member.number), parts.dtype, member.device)
            if served(member, call, member.coordinator.all_gather_into_tensor, room.tensor, tensor) is REFUSED:
                continue
            verdict.gathered(room.tensor, parts, call)
            verdict.equal(room.disturbed(), 0, call=f"{call}: changed elements around it")


@requirement("COL-018")
@on_ranks(2, 3, 4)
def test_reduce_scatter_gives_each_rank_its_part(member: Member) -> None:
    with Verdict() as verdict:
        for parts in each_type(member, "sum", drawn.FLOATS, times=4):
            whole = parts.for_each()
            call = f"GroupCoordinator.reduce_scatter_tensor of {whole.words()} into one {tensors.OFFSET}"
            room = tensors.room(parts.shape, parts.dtype, member.device)
            tensor = tensors.made(whole.of(member.number), parts.dtype, member.device)
            if served(member, call, member.coordinator.reduce_scatter_tensor, room.tensor, tensor) is REFUSED:
                continue
            verdict.scattered(room.tensor, whole, member.number, call)
            verdict.equal(room.disturbed(), 0, call=f"{call}: changed elements around it")


@requirement("COL-019")
@on_ranks(2, 4)
def test_reduce_scatter_of_a_list_gives_each_rank_its_element(member: Member) -> None:
    with Verdict() as verdict:
        for parts in each_type(member, "sum", drawn.FLOATS):
            whole = parts.for_each()
            call = f"GroupCoordinator.reduce_scatter of {member.size} tensors of {parts.words()}"
            own = tensors.made(whole.of(member.number), parts.dtype, member.device)
            room = tensors.poisoned(parts.shape, parts.dtype, member.device)
            given = [each.contiguous() for each in own.chunk(member.size)]
            attempt(call, member.coordinator.reduce_scatter, room, given)
            verdict.scattered(room, whole, member.number, call)


@requirement("COL-020")
@on_ranks(1, 2, 4)
def test_reduce_scatter_parts_along_each_dimension(member: Member) -> None:
    import numpy as np

    with Verdict() as verdict:
        for each in each_type(member, "sum", drawn.FLOATS, times=3):
            for dim in range(-len(each.shape), len(each.shape)):
                shape = list(each.shape)
                shape[dim] *= member.size
                parts = replace(each, shape=tuple(shape))
                call = f"GroupCoordinator.reduce_scatter_along_dim of {parts.words()}, dim={dim}"
                tensor = tensors.made(parts.of(member.number), parts.dtype, member.device)
                got = served(member, call, member.coordinator.reduce_scatter_along_dim, tensor, dim)
                mine = [np.split(part, member.size, axis=dim)[member.number] for part in parts.all()]
                verdict.holds(got, np.add.reduce(mine), parts.dtype, call, sources=partial(list, mine), operation="sum")


@requirement("COL-023")
@on_ranks(2, 4)
@given(dtype=drawn.floats, columns=st.integers(1, 4), sizes=uneven.sizes, salt=drawn.salts)
def test_uneven_all_gather_is_right_or_refused(
    member: Member, dtype: str, columns: int, sizes: list[int], salt: int
) -> None:
    with Verdict() as verdict:
        rows = uneven.dealt(dtype, sizes, columns, salt, member.size)
        uneven.gathered_by_group(member, verdict, rows, refusable=True)


@requirement("COL-023")
@on_ranks(2, 4)
def test_uneven_all_gather_where_a_rank_has_no_rows(member: Member) -> None:
    with Verdict() as verdict:
        for rows in uneven.one_without(member.size):
            uneven.gathered_by_group(member, verdict, rows, refusable=True)


@requirement("COL-024")
@on_ranks(2, 4)
@given(dtype=drawn.floats, columns=st.integers(1, 4), sizes=uneven.sizes, salt=drawn.salts)
def test_uneven_reduce_scatter_is_right_or_refused(
    member: Member, dtype: str, columns: int, sizes: list[int], salt: int
) -> None:
    with Verdict() as verdict:
        rows = uneven.dealt(dtype, sizes, columns, salt, member.size)
        uneven.scattered_by_group(member, verdict, rows, refusable=True)


@requirement("COL-024")
@on_ranks(2, 4)
def test_uneven_reduce_scatter_where_a_rank_has_no_rows(member: Member) -> None:
    with Verdict() as verdict:
        for rows in uneven.one_without(member.size):
            uneven.scattered_by_group(member, verdict, rows, refusable=True)


@requirement("COL-086")
@on_ranks(2)
def test_uneven_collective_that_is_refused_says_what_is_missing(member: Member, host: str) -> None:
    rows = uneven.dealt("float32", (1, 2), 3, 0, member.size)
    uneven.refused_in_words(member, host, rows)


@requirement("COL-025")
@on_ranks(1, 2, 4)
def test_all_to_all_gives_every_rank_its_part(member: Member) -> None:
    with Verdict() as verdict:
        for each in each_type(member, MOVE, drawn.MOVED):
            parts = each.for_each()
            call = f"GroupCoordinator.all_to_all_single of {parts.words()} into one {tensors.OFFSET}"
            room = tensors.room(parts.shape, parts.dtype, member.device)
            tensor = tensors.made(parts.of(member.number), parts.dtype, member.device)
            if served(member, call, member.coordinator.all_to_all_single, room.tensor, tensor) is REFUSED:
                continue
            verdict.exchanged(room.tensor, parts, member.number, call)
            verdict.equal(room.disturbed(), 0, call=f"{call}: changed elements around it")
            verdict.moved(tensor, parts, member.number, f"{call}: its input afterwards")
