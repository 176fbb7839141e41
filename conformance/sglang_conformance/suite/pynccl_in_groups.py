"""NCCL: how SGLang's GroupCoordinator works with the communicator: in uneven collectives, in graph captures.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ..contract.model import Contract
from . import expect
from .collecting import drawn, tensors, uneven
from .collecting.judging import Verdict, attempt
from .collecting.parts import MOVE, Parts, each_type
from .communicating import calls, communicators, graphs, spies, states
from .declare import on_ranks, requirement
from .member import Member


@requirement("NCCL-035")
@on_ranks(2, 4)
@given(dtype=st.sampled_from(calls.TYPES), sizes=uneven.sizes, columns=st.integers(1, 3), salt=drawn.salts)
def test_all_gatherv_is_served(member: Member, dtype: str, sizes: list[int], columns: int, salt: int) -> None:
    communicators.group_s(member)
    with Verdict() as verdict:
        uneven.gathered_by_group(member, verdict, uneven.dealt(dtype, sizes, columns, salt, member.size))


@requirement("NCCL-035")
@on_ranks(2, 4)
def test_all_gatherv_where_a_rank_has_no_rows(member: Member) -> None:
    communicators.group_s(member)
    with Verdict() as verdict:
        for rows in uneven.one_without(member.size):
            uneven.gathered_by_group(member, verdict, rows)


@requirement("NCCL-036")
@on_ranks(2, 4)
@given(dtype=st.sampled_from(calls.TYPES), sizes=uneven.sizes, columns=st.integers(1, 3), salt=drawn.salts)
def test_reduce_scatterv_is_served(member: Member, dtype: str, sizes: list[int], columns: int, salt: int) -> None:
    communicators.group_s(member)
    with Verdict() as verdict:
        uneven.scattered_by_group(member, verdict, uneven.dealt(dtype, sizes, columns, salt, member.size))


@requirement("NCCL-036")
@on_ranks(2, 4)
def test_reduce_scatterv_where_a_rank_has_no_rows(member: Member) -> None:
    communicators.group_s(member)
    with Verdict() as verdict:
        for rows in uneven.one_without(member.size):
            uneven.scattered_by_group(member, verdict, rows)


@requirement("NCCL-037")
@on_ranks(2, 4)
def test_enabled_communicator_takes_the_coordinators_collectives(member: Member) -> None:
    import numpy as np

    group, at = member.coordinator, calls.seat(member)
    with communicators.enabled(communicators.group_s(member)), Verdict() as verdict:
        for each in each_type(member, "sum", drawn.FLOATS, times=3):
            call = f"GroupCoordinator.all_reduce of {each.words()}, the communicator enabled"
            own = tensors.made(each.of(at.place), each.dtype, member.device)
            if member.device.type != "cpu":  # which SGLang sums without asking any communicator
                verdict.reduced(attempt(call, group.all_reduce, own), each, call)
            parts = replace(each, operation=MOVE)
            for root in range(at.size):
                call = f"GroupCoordinator.broadcast of {parts.words()}, src={root}, the communicator enabled"
                own = tensors.made(parts.of(at.place), parts.dtype, member.device)
                verdict.moved(attempt(call, group.broadcast, own, src=root), parts, root, call)
            for dim in range(-len(each.shape), len(each.shape)):
                call = f"GroupCoordinator.all_gather of {parts.words()}, dim={dim}, the communicator enabled"
                own = tensors.made(parts.of(at.place), parts.dtype, member.device)
                verdict.gathered(attempt(call, group.all_gather, own, dim=dim), parts, call, dim=dim)
                if hasattr(group, "reduce_scatter_along_dim") and member.device.type != "cpu":
                    shape = list(each.shape)
                    shape[dim] *= at.size
                    whole = replace(each, shape=tuple(shape))
                    call = f"GroupCoordinator.reduce_scatter_along_dim of {whole.words()}, dim={dim}"
                    own = tensors.made(whole.of(at.place), whole.dtype, member.device)
                    got = attempt(call, group.reduce_scatter_along_dim, own, dim)
                    mine = [np.split(part, at.size, axis=dim)[at.place] for part in whole.all()]
                    verdict.holds(
                        got, np.add.reduce(mine), whole.dtype, call, sources=partial(list, mine), operation="sum"
                    )


@requirement("NCCL-038")
@on_ranks(2, 4)
def test_graph_capture_enables_the_communicator(member: Member) -> None:
    found = communicators.group_s(member)
    call = "GroupCoordinator.graph_capture()"
    with expect.attempt(call, member.coordinator.graph_capture).value:
        expect.equal(found.disabled, False, call=f"{communicators.OWNER}.disabled within {call}")
    expect.equal(found.disabled, True, call=f"{communicators.OWNER}.disabled after {call}")


@requirement("NCCL-039")
@on_ranks(2, 4)
def test_captured_collectives_are_done_again_with_each_replay(
    member: Member, platform: Any, contract: Contract
) -> None:
    found, at = communicators.group_s(member), calls.seat(member)
    graphs.require(member, platform, contract)
    with Verdict() as verdict:
        for name in calls.names(found):
            if name == calls.PEERS:
                continue
            first, second, third = (calls.suited(name, "float32", at.size, (5, 2), salt) for salt in (1, 20, 40))
            made = calls.prepared(name, found, at, first, 1)
            captured = graphs.captured(member, made.call, partial(made.begin, False))
            for parts in (second, third):
                again = calls.prepared(name, found, at, parts, 1)
                graphs.refill(made, again)
                attempt(f"{made.call}: a replay of the graph that captured it", captured.replay)
                tensors.synchronise(member.device)
                replace(again, results=graphs.in_place_of(again.results, made.results), inputs=()).judge(verdict)


@requirement("NCCL-040")
@on_ranks(2, 4)
def test_coordinators_all_reduce_is_captured(member: Member, platform: Any, contract: Contract) -> None:
    communicators.group_s(member)
    graphs.require(member, platform, contract)
    at, group = calls.seat(member), member.coordinator
    parts = [Parts("sum", "float32", at.size, (6,), salt) for salt in (1, 20, 40)]
    own = tensors.made(parts[0].of(at.place), "float32", member.device)
    result: list[Any] = []
    call = "GroupCoordinator.all_reduce, captured in GroupCoordinator.graph_capture()"
    captured = graphs.captured(member, call, lambda: result.append(group.all_reduce(own + 0)))
    with Verdict() as verdict:
        for each in parts[1:]:
            own.copy_(tensors.made(each.of(at.place), "float32", member.device))
            attempt(f"{call}: a replay", captured.replay)
            tensors.synchronise(member.device)
            verdict.reduced(result[-1], each, f"{call}: after a replay")


@requirement("NCCL-041")
@on_ranks(2)
def test_work_goes_to_the_current_stream(member: Member) -> None:
    found, at = communicators.group_s(member), calls.seat(member)
    module = spies.module_with_streams(member)
    side = module.Stream()
    kind = member.device.type
    with spies.on_library(found) as seen, communicators.enabled(found):
        for name in calls.names(found):
            made = calls.prepared(name, found, at, calls.suited(name, "float32", at.size, (4,)), 0)
            for stream, words in (
                (None, "the default stream"),
                (side, "another stream"),
                (None, "the default one again"),
            ):
                wanted = spies.handle(module.current_stream() if stream is None else stream, kind)
                seen.calls.clear()
                with module.stream(stream) if stream is not None else states.as_it_is():
                    attempt(made.call, made.begin, False)
                call = f"{made.call}: the stream of each call of the library, with {words} current"
                expect.equal(sorted(set(seen.streams())), [wanted], call=call, where=communicators.where(found, name))


@requirement("NCCL-042")
@on_ranks(2)
def test_each_thread_has_its_own_current_stream(member: Member) -> None:
    found, at = communicators.group_s(member), calls.seat(member)
    module = spies.module_with_streams(member)
    side, kind = module.Stream(), member.device.type
    first, second, third = (
        calls.prepared("all_reduce", found, at, calls.suited("all_reduce", "float32", at.size, (4,), salt))
        for salt in (0, 3, 6)
    )
    with spies.on_library(found) as seen, communicators.enabled(found), module.stream(side):
        attempt(first.call, first.begin, False)
        default = spies.in_a_thread(member, lambda: spies.handle(module.current_stream(), kind))
        spies.in_a_thread(member, partial(attempt, f"{second.call}, in another thread", second.begin, False))
        attempt(third.call, third.begin, False)
    wanted = [spies.handle(side, kind), default, spies.handle(side, kind)]
    call = f"{first.call}: the streams of a call, of one in another thread, and of the next here"
    expect.equal(seen.streams(), wanted, call=call)


@requirement("NCCL-043")
@on_ranks(2, 4)
def test_work_is_ordered_with_the_compute_around_it(member: Member) -> None:
    """On its caller's stream a collective needs no waiting: what is before it is done, what comes after sees it."""
    import torch

    found, at = communicators.group_s(member), calls.seat(member)
    module = spies.module_with_streams(member)
    parts = calls.suited("all_reduce", "float32", at.size, (1 << 12,), 4)
    given = tensors.made(parts.of(at.place), "float32", member.device)
    busy = torch.ones(512, 512, device=member.device)
    tensors.synchronise(member.device)
    call = f"{communicators.OWNER}.all_reduce of {parts.words()} between computations on a stream"
    with communicators.enabled(found), Verdict() as verdict:
        for number in range(4):
            stream = module.Stream()
            with module.stream(stream):
                late = tensors.poisoned(parts.shape, "float32", member.device)
                for _ in range(20 * (number % 2)):
                    busy = (busy @ busy).clamp(max=1.0)
                late.copy_(given)  # only once all that is done
                attempt(call, found.all_reduce, late)
                got = late * 1.0
                late.fill_(float("nan"))
            stream.synchronize()
            verdict.reduced(got, parts, call)


@requirement("NCCL-044")
@on_ranks(2)
def test_streams_and_device_stay_as_they_are(member: Member) -> None:
    found, at = communicators.group_s(member), calls.seat(member)
    module = spies.module_with_streams(member)
    side = module.Stream()
    with module.stream(side):
        before = (module.current_stream(), module.current_device())
        with communicators.further(member, {"again": [list(range(member.size))]}):
            expect.equal(
                (module.current_stream(), module.current_device()), before, call="stream and device after a group"
            )
        with communicators.enabled(found):
            for name in calls.names(found):
                made = calls.prepared(name, found, at, calls.suited(name, "float32", at.size, (4,)))
                attempt(made.call, made.begin, False)
                after = (module.current_stream(), module.current_device())
                expect.equal(after, before, call=f"current stream and device after {made.call}")
