"""NCCL: what the collectives of a group's PyNCCL communicator give.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from . import expect
from .collecting import apart, drawn, tensors, uneven
from .collecting.judging import Verdict, attempt, offered
from .collecting.parts import MOVE, Parts, each_type, in_turn, moved, repeated, rooted
from .communicating import calls, communicators
from .declare import on_ranks, requirement
from .grouping import beside
from .member import Member

_types = st.sampled_from(calls.TYPES)
_REDUCTIONS = ("product", "min", "max", "avg")
_NO_LAYOUT = "SGLang's own methods hand on addresses and counts, whatever the layout"
_LARGE, _COPIES = 16_913, 31  # so many of two bytes each are just above 1 MiB, and no round number
_MANY = 42


@requirement("NCCL-014")
@on_ranks(2, 4)
@given(dtype=_types, shape=drawn.shapes, salt=drawn.salts)
def test_all_reduce_sums_in_place(member: Member, dtype: str, shape: list[int], salt: int) -> None:
    parts = calls.suited("all_reduce", dtype, member.size, tuple(shape), salt)
    with communicators.enabled(communicators.group_s(member)) as found, Verdict() as verdict:
        calls.demanded(verdict, "all_reduce", found, calls.seat(member), parts)


@requirement("NCCL-015")
@on_ranks(2, 4)
def test_all_reduce_out_of_place_gives_a_new_tensor(member: Member) -> None:
    with communicators.enabled(communicators.group_s(member)) as found, Verdict() as verdict:
        for parts in each_type(member, "sum", calls.TYPES, scalars=True, times=1):
            call = f"{communicators.OWNER}.outplace_all_reduce of {parts.words()}"
            own = tensors.laid(parts.of(member.number), parts.dtype, member.device, tensors.OFFSET)
            got = attempt(call, found.outplace_all_reduce, own.tensor)
            verdict.reduced(got, parts, call)
            verdict.moved(own.tensor, replace(parts, operation="sum"), member.number, f"{call}: its input afterwards")
            verdict.equal(own.disturbed(), 0, call=f"{call}: changed elements around its input")
            verdict.that(
                got is None or got.data_ptr() != own.tensor.data_ptr(),
                expected="another tensor than the input",
                seen="the input's memory",
                call=call,
            )
            calls.demanded(verdict, "outplace_all_reduce", found, calls.seat(member), parts)


@requirement("NCCL-015")
@on_ranks(2, 4)
def test_each_result_out_of_place_is_a_tensor_of_its_own(member: Member) -> None:
    made = []
    with communicators.enabled(communicators.group_s(member)) as found, Verdict() as verdict:
        for salt in range(3):
            parts = Parts("sum", "float32", member.size, (5, 3), salt)
            call = f"{communicators.OWNER}.outplace_all_reduce of {parts.words()}"
            own = tensors.made(parts.of(member.number), parts.dtype, member.device)
            made.append((parts, call, attempt(call, found.outplace_all_reduce, own)))
        for parts, call, got in made:
            verdict.reduced(got, parts, f"{call}, after all {len(made)} in a row")


@requirement("NCCL-016")
@on_ranks(2, 4)
def test_all_gather_joins_by_rank(member: Member) -> None:
    _each_type(member, "all_gather")


@requirement("NCCL-017")
@on_ranks(2, 4)
@given(dtype=_types, sizes=uneven.sizes, columns=st.integers(1, 3), salt=drawn.salts)
def test_all_gather_of_uneven_rows(member: Member, dtype: str, sizes: list[int], columns: int, salt: int) -> None:
    with communicators.enabled(communicators.group_s(member)) as found, Verdict() as verdict:
        calls.gathered_unevenly(member, verdict, found, uneven.dealt(dtype, sizes, columns, salt, member.size))


@requirement("NCCL-017")
@on_ranks(2, 4)
def test_all_gather_where_a_rank_has_no_rows(member: Member) -> None:
    with communicators.enabled(communicators.group_s(member)) as found, Verdict() as verdict:
        for rows in uneven.one_without(member.size):
            calls.gathered_unevenly(member, verdict, found, rows)


@requirement("NCCL-018")
@on_ranks(2, 4)
def test_reduce_scatter_gives_each_rank_its_part(member: Member) -> None:
    _each_type(member, "reduce_scatter")


@requirement("NCCL-019")
@on_ranks(2, 4)
@given(dtype=_types, sizes=uneven.sizes, columns=st.integers(1, 3), salt=drawn.salts)
def test_reduce_scatter_of_uneven_rows(member: Member, dtype: str, sizes: list[int], columns: int, salt: int) -> None:
    with communicators.enabled(communicators.group_s(member)) as found, Verdict() as verdict:
        calls.scattered_unevenly(member, verdict, found, uneven.dealt(dtype, sizes, columns, salt, member.size))


@requirement("NCCL-019")
@on_ranks(2, 4)
def test_reduce_scatter_where_a_rank_has_no_rows(member: Member) -> None:
    with communicators.enabled(communicators.group_s(member)) as found, Verdict() as verdict:
        for rows in uneven.one_without(member.size):
            calls.scattered_unevenly(member, verdict, found, rows)


@requirement("NCCL-020")
@on_ranks(2, 4)
def test_broadcast_copies_from_each_root(member: Member) -> None:
    with communicators.enabled(communicators.group_s(member)) as found, Verdict() as verdict:
        for parts, root in rooted(each_type(member, MOVE, calls.TYPES, scalars=True)):
            calls.demanded(verdict, "broadcast", found, calls.seat(member), parts, root)


@requirement("NCCL-021")
@on_ranks(2, 4)
def test_what_is_sent_is_received(member: Member) -> None:
    with communicators.enabled(communicators.group_s(member)) as found, Verdict() as verdict:
        for number, parts in enumerate(each_type(member, MOVE, calls.TYPES, scalars=True, times=1)):
            calls.demanded(verdict, calls.PEERS, found, calls.seat(member), parts, number)


@requirement("NCCL-022")
@on_ranks(2, 4)
def test_all_to_all_gives_each_rank_its_part(member: Member) -> None:
    _each_type(member, "all_to_all_single")


@requirement("NCCL-023")
@on_ranks(2, 4)
def test_each_reduction_that_nccl_has(member: Member) -> None:
    with communicators.enabled(communicators.group_s(member)) as found, Verdict() as verdict:
        for operation in _REDUCTIONS:
            for name in calls.REDUCE:
                for dtype in ("bfloat16", "int32") if operation != "avg" else ("float32",):
                    parts = Parts(operation, dtype, member.size, (3, 2), 5)
                    calls.demanded(verdict, name, found, calls.seat(member), parts)


@requirement("NCCL-024")
@on_ranks(2, 4)
def test_operations_of_a_group_are_done_at_its_end(member: Member) -> None:
    """As SGLang gathers several tensors at once (0.5.23, all_gatherv), and as an exchange is made of messages."""
    at = calls.seat(member)
    after, before = (at.place + 1) % at.size, (at.place - 1) % at.size
    with communicators.enabled(communicators.group_s(member)) as found, Verdict() as verdict:
        gathers = [
            calls.prepared("all_gather", found, at, calls.suited("all_gather", dtype, at.size, (rows, 2), rows))
            for rows, dtype in ((1, "float32"), (4, "int64"), (2, "bfloat16"))
        ]
        parts = moved(member, "float32", (7,), 3)
        own = tensors.made(parts.of(at.place), "float32", member.device)
        room = tensors.poisoned((7,), "float32", member.device)
        call = f"{communicators.OWNER}.group_start, three all_gathers, a send, a recv, group_end"

        def together() -> None:
            found.group_start()
            for gather in gathers:
                gather.begin(False)
            found.send(own, after)
            found.recv(room, before)
            found.group_end()

        attempt(call, together)
        for gather in gathers:
            gather.judge(verdict)
        verdict.moved(room, parts, before, f"{call}: what was received")


@requirement("NCCL-025")
@on_ranks(2, 4)
def test_tensors_without_elements_are_served(member: Member) -> None:
    at = calls.seat(member)
    with communicators.enabled(communicators.group_s(member)) as found, Verdict() as verdict:
        for name in calls.names(found):
            calls.demanded(verdict, name, found, at, calls.suited(name, "float32", at.size, (0, 3)))
            calls.demanded(verdict, name, found, at, calls.suited(name, "float32", at.size, (3,), 1))


@requirement("NCCL-026")
@on_ranks(2, 4)
def test_other_layouts_are_served_right_or_refused(member: Member, host: str) -> None:
    at, found = calls.seat(member), communicators.group_s(member)
    with (
        communicators.answered_by_sglang(member, host, "reduce_scatter", _NO_LAYOUT),
        communicators.enabled(found),
        Verdict() as verdict,
    ):
        for layout in (tensors.TRANSPOSED, tensors.STRIDED):
            for name in calls.names(found):
                if name == calls.PEERS:  # where a rank is refused, the other waits
                    continue
                parts = calls.suited(name, "float32", at.size, (4, 6), 2)
                prepared = calls.prepared(name, found, at, parts, 0, layout)
                each = replace(prepared, call=f"{prepared.call}, {layout}")
                if offered(member, each.begin, False) == []:
                    each.judge(verdict)


@requirement("NCCL-027")
@on_ranks(2)
def test_tensors_of_another_device_are_refused(member: Member) -> None:
    import torch

    at = calls.seat(member)
    with communicators.enabled(communicators.group_s(member)) as found:
        other = torch.device("meta") if member.device.type == "cpu" else torch.device("cpu")
        for name in calls.names(found):
            if name == calls.PEERS:
                continue
            elsewhere = replace(at, device=other)
            _refused(
                calls.prepared(name, found, elsewhere, calls.suited(name, "float32", at.size, (4,)), 0, tensors.PLAIN)
            )


@requirement("NCCL-028")
@on_ranks(2)
def test_types_that_nccl_does_not_know_are_refused(member: Member) -> None:
    import torch

    with communicators.enabled(communicators.group_s(member)) as found:
        for dtype in (torch.complex64, torch.int16):
            numbers = [200 + 7 * rank for rank in range(member.size)]  # whose bytes, summed one by one, carry nothing
            tensor = torch.full((4,), numbers[member.number], dtype=dtype).to(member.device)
            call = f"{communicators.OWNER}.all_reduce of {str(dtype).removeprefix('torch.')}"
            try:
                found.all_reduce(tensor)
            except Exception as error:
                expect.pass_on_uncovered(error)
                continue
            right = bool((tensor.cpu() == sum(numbers)).all())
            expect.that(right, expected="the sum, or an error", seen=expect.show(tensor.cpu().tolist()), call=call)


@requirement("NCCL-029")
@on_ranks(2, 4)
def test_large_tensors(member: Member) -> None:
    at = calls.seat(member)
    with communicators.enabled(communicators.group_s(member)) as found, Verdict() as verdict:
        for name in calls.names(found):
            parts = repeated(calls.suited(name, "bfloat16", at.size, (_LARGE,), 9), _COPIES)
            if name in ("all_gather", "all_reduce", "outplace_all_reduce", "broadcast", calls.PEERS):
                calls.demanded(verdict, name, found, at, parts)
            else:
                calls.demanded(verdict, name, found, at, calls.suited(name, "bfloat16", at.size, (_LARGE, 8), 9))


@requirement("NCCL-030")
@on_ranks(2, 4)
def test_sums_round_no_more_than_their_type(member: Member) -> None:
    from ..oracles import collectives as oracle

    with communicators.enabled(communicators.group_s(member)) as found, Verdict() as verdict:
        for number, dtype in enumerate((*drawn.FLOATS, "float64")):
            for count in (257, 50_001):
                parts = [oracle.noise(dtype, count, 0, 10 * number + rank) for rank in range(member.size)]
                call = f"{communicators.OWNER}.all_reduce of {dtype} [{count}], random numbers about 1"
                tensor = tensors.made(parts[member.number], dtype, member.device)
                attempt(call, found.all_reduce, tensor)
                verdict.near_sum(tensor, parts, dtype, call)


@requirement("NCCL-031")
@on_ranks(2, 4)
def test_all_ranks_get_the_same_bits(member: Member) -> None:
    said = []
    with communicators.enabled(communicators.group_s(member)) as found:
        for dtype in drawn.FLOATS:
            for count in (1, 257, 50_001):
                tensor = tensors.noise(dtype, count, count + member.number, member.device)
                call = f"{communicators.OWNER}.all_reduce of {dtype} [{count}], random numbers"
                attempt(call, found.all_reduce, tensor)
                said.append((call, tensors.digest(tensor)))
    others = member.side.to_all([digest for _, digest in said])
    for index, (call, digest) in enumerate(said):
        differing = [rank for rank, theirs in enumerate(others) if theirs[index] != digest]
        seen = f"other bits on rank {', '.join(map(str, differing))}"
        expect.that(not differing, expected="the same bits on all ranks", seen=seen, call=call)


@requirement("NCCL-032")
@on_ranks(2, 4, watched=False)
def test_many_in_a_row_are_each_right(member: Member) -> None:
    pause, at = apart.at_odd_times(member), calls.seat(member)
    with communicators.enabled(communicators.group_s(member)) as found, Verdict() as verdict:
        made = []
        names = calls.names(found)
        for number in range(_MANY):
            name = names[number % len(names)]
            parts = calls.suited(name, drawn.FLOATS[number % 3], at.size, ((8,), (2, 3), (17,))[number % 3], number)
            each = calls.prepared(name, found, at, parts, number % at.size)
            pause()
            attempt(f"{each.call}, call {number + 1} of {_MANY} in a row", each.begin, False)
            made.append(each)
        for each in made:
            each.judge(verdict)


@requirement("NCCL-032")
@on_ranks(2, 4)
def test_the_same_memory_in_other_lengths_and_types(member: Member) -> None:
    memory, whole = (tensors.memory(member.device) for _ in range(2))
    with communicators.enabled(communicators.group_s(member)) as found, Verdict() as verdict:
        for sums, parts, root in in_turn(member):
            call = f"{communicators.OWNER}.{{}} of {parts.words()} where others were before"
            own = tensors.again(memory, sums.of(member.number), sums.dtype)
            attempt(call.format("all_reduce"), found.all_reduce, own)
            verdict.reduced(own, sums, call.format("all_reduce"))
            own = tensors.again(memory, parts.of(member.number), parts.dtype)
            room = tensors.again(whole, parts.for_each().of(member.number), parts.dtype)
            attempt(call.format("all_gather"), found.all_gather, room, own)
            verdict.gathered(room, parts, call.format("all_gather"))
            attempt(call.format("broadcast"), found.broadcast, own, src=root)
            verdict.moved(own, parts, root, call.format("broadcast"))


@requirement("NCCL-033")
@on_ranks(2, 4, watched=False)
def test_two_communicators_take_turns(member: Member) -> None:
    pause, at = apart.at_odd_times(member), calls.seat(member)
    first = communicators.group_s(member)
    with communicators.further(member, {"second": beside.everyone(member.size)}) as made, Verdict() as verdict:
        second = made["second"]
        expect.that(second is not None, expected="a communicator too", seen="none", call="a second group of all ranks")
        for number in range(12):
            found = (first, second)[number // (1 + number % 3) % 2]
            name = ("all_reduce", "all_gather", "broadcast")[number % 3]
            parts = calls.suited(name, "float32", at.size, (3 + number,), number)
            pause()
            with communicators.enabled(found):
                for each, call in ((first, "the first group's"), (second, "the second group's")):
                    within = f"{communicators.OWNER}.disabled of {call} communicator, one of the two being enabled"
                    expect.equal(each.disabled, each is not found, call=within)
                calls.demanded(verdict, name, found, at, parts, number % at.size)


@requirement("NCCL-034")
@on_ranks(2, 4)
def test_groups_within_count_their_own_ranks(member: Member) -> None:
    communicators.group_s(member)
    lists = {"strided": beside.strided(member.size), "pairs": beside.pairs(member.size)}
    with communicators.further(member, lists) as made, Verdict() as verdict:
        for name, ranks in lists.items():
            mine = next(each for each in ranks if member.number in each)
            found = made[name]
            if len(mine) == 1:
                continue
            call = f"a group of ranks {mine}"
            expect.that(found is not None, expected="a communicator too", seen="none", call=call)
            at = calls.seat(member, mine)
            expect.equal(getattr(found, "rank", None), at.place, call=f"{communicators.OWNER}.rank in {call}")
            with communicators.enabled(found):
                for collective in calls.names(found):
                    for root in range(at.size):
                        parts = calls.suited(collective, "float32", at.size, (4,), root)
                        calls.demanded(verdict, collective, found, at, parts, root)


def _each_type(member: Member, name: str) -> None:
    """A collective of each type, in shapes that take turns."""
    at = calls.seat(member)
    with communicators.enabled(communicators.group_s(member)) as found, Verdict() as verdict:
        for each in each_type(member, MOVE, calls.TYPES):
            calls.demanded(verdict, name, found, at, calls.suited(name, each.dtype, at.size, each.shape, each.salt))


def _refused(prepared: Any) -> None:
    try:
        prepared.begin(False)
    except Exception as error:
        expect.pass_on_uncovered(error)
        return
    expect.fail(expected="an error", seen="none", call=f"{prepared.call} on {prepared.results[0].laid.tensor.device}")
