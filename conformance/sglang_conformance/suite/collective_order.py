"""COL: collectives beside each other: several under way, in several groups, on several streams, between computations.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from . import expect
from .collecting import distributed, drawn, tensors
from .collecting.apart import at_odd_times
from .collecting.judging import Verdict, attempt
from .collecting.parts import MOVE, Parts, each_type, in_turn, moved, summed
from .declare import on_ranks, requirement
from .member import Member

_STEPS = 12
_SMALL_CALLS = 40


@requirement("COL-060")
@on_ranks(2, 4, watched=False)
def test_reductions_under_way_complete_in_any_order_of_waiting(member: Member) -> None:
    import torch.distributed as dist

    pause = at_odd_times(member)
    with Verdict() as verdict:
        for turn, order in enumerate(("as begun", "backwards", "shuffled", "shuffled")):
            parts = [replace(each, salt=each.salt + turn) for each in each_type(member, "sum", drawn.FLOATS)]
            given = [tensors.made(each.of(member.number), each.dtype, member.device) for each in parts]
            call = f"{len(parts)} torch.distributed.all_reduce(async_op=True), waited for {order}"
            works = []
            for tensor in given:
                pause()
                works.append(attempt(call, dist.all_reduce, tensor, group=member.group, async_op=True))
            # Each rank waits in an order of its own: all were begun in the same one.
            for number in _ordered(len(works), order, turn + member.number):
                attempt(f"{call}: wait", works[number].wait)
            for number, tensor in enumerate(given):
                verdict.reduced(tensor, parts[number], f"{call}: number {number}, of {parts[number].words()}")


@requirement("COL-061")
@on_ranks(2, 4)
def test_different_collectives_are_under_way_at_once(member: Member) -> None:
    import torch.distributed as dist

    options = {"group": member.group, "async_op": True}
    with Verdict() as verdict:
        for number, parts in enumerate(each_type(member, MOVE, drawn.FLOATS)):
            sums, root = replace(parts, operation="sum"), number % member.size
            total, own, sent = (
                tensors.made(each.of(member.number), parts.dtype, member.device) for each in (sums, parts, parts)
            )
            whole = tensors.poisoned(parts.for_each().shape, parts.dtype, member.device)
            call = f"all_reduce, all_gather_into_tensor, broadcast of {parts.words()}, all with async_op=True"
            works = [
                attempt(call, dist.all_reduce, total, **options),
                attempt(call, distributed.all_gather_single, whole, own, **options),
                attempt(call, dist.broadcast, sent, root, **options),
            ]
            for work in works[:: 1 if number % 2 else -1]:
                attempt(f"{call}: wait", work.wait)
            verdict.reduced(total, sums, f"{call}: all_reduce")
            verdict.gathered(whole, parts, f"{call}: all_gather_into_tensor")
            verdict.moved(sent, parts, root, f"{call}: broadcast from rank {root}")


@requirement("COL-062")
@on_ranks(2, 4)
def test_work_that_was_waited_for_is_complete(member: Member) -> None:
    import torch.distributed as dist

    parts = summed(member, "float32", (70_001,))
    tensor = tensors.made(parts.of(member.number), "float32", member.device)
    call = f"torch.distributed.all_reduce(async_op=True) of {parts.words()}"
    work = attempt(call, dist.all_reduce, tensor, group=member.group, async_op=True)
    attempt(f"{call}: wait", work.wait)
    tensors.synchronise(member.device)
    with Verdict() as verdict:
        verdict.reduced(tensor, parts, call)
        verdict.equal(attempt(call, work.is_completed), True, call=f"{call}: is_completed() after wait()")


@requirement("COL-063")
@on_ranks(2, 4, watched=False)
def test_computations_and_collectives_keep_their_order(member: Member) -> None:
    import numpy as np

    parts = summed(member, "float32", (3001,))
    mine, whole = tensors.made(parts.of(member.number), "float32", member.device), None
    pause = at_odd_times(member)
    call = "compute, GroupCoordinator.all_reduce, compute, with nothing between them"
    for step in range(_STEPS):
        pause()
        given = mine * 2.0 ** (step % 3)
        total = attempt(call, member.coordinator.all_reduce, given * 1.0)
        given.fill_(float("nan"))  # what was reduced was a copy: this must change nothing
        result = total * 0.5 + 1.0
        total.fill_(float("nan"))
        whole = result if whole is None else whole + result
    factors = sum(2.0 ** (step % 3) * 0.5 for step in range(_STEPS))
    expected = parts.reduced() * factors + _STEPS
    with Verdict() as verdict:
        # A step that is missed, or that reads too early, is off by far more than rounding.
        verdict.holds(whole, expected, "float32", call, within=np.abs(expected) * 2.0**-16)


@requirement("COL-064")
@on_ranks(2, 4)
def test_collectives_on_another_stream_are_ordered_by_it(member: Member) -> None:
    import torch

    module = torch.get_device_module(member.device)
    if member.device.type == "cpu":
        raise expect.Declined("the host has no streams")
    parts, call = summed(member, "float32", (5003,)), "GroupCoordinator.all_reduce on a stream of its own"
    results = []
    for _ in range(5):
        stream, here = module.Stream(), module.current_stream()
        tensor = tensors.made(parts.of(member.number), "float32", member.device) * 1.0
        stream.wait_stream(here)
        with module.stream(stream):
            total = attempt(call, member.coordinator.all_reduce, tensor)
            doubled = total * 2.0
        here.wait_stream(stream)
        results.append(doubled * 0.5)
    with Verdict() as verdict:
        for result in results:
            verdict.reduced(result, parts, call)


@requirement("COL-065")
@on_ranks(2, 4, watched=False)
def test_overlapping_groups_do_not_mix(member: Member) -> None:
    import torch.distributed as dist

    last, pattern, pause, results = member.size - 1, random.Random(1), at_odd_times(member), []
    both = [list(range(member.size))] * 2 if last == 1 else [list(range(last)), list(range(1, member.size))]
    with distributed.groups(member, *both) as mine:
        for step in range(_STEPS):
            which = pattern.randrange(2)
            group, ranks = mine[which], both[which]
            if group is None:
                continue
            parts = Parts("sum", drawn.FLOATS[step % 3], len(ranks), (9,), 5 * step + which)
            tensor = tensors.made(parts.of(ranks.index(member.number)), parts.dtype, member.device)
            call = f"call {step + 1}, torch.distributed.all_reduce of {parts.words()} in a group of ranks {ranks}"
            pause()
            attempt(call, dist.all_reduce, tensor, group=group)
            results.append((tensor, parts, call))
    with Verdict() as verdict:
        for result in results:
            verdict.reduced(*result)


@requirement("COL-066")
@on_ranks(2, 4)
def test_groups_of_some_ranks_work_beside_each_other(member: Member) -> None:
    import torch.distributed as dist

    parity = member.number % 2
    halves = [list(range(0, member.size, 2)), list(range(1, member.size, 2))]
    ranks, own = halves[parity], member.number // 2
    with distributed.groups(member, *halves) as mine, Verdict() as verdict:
        for each in each_type(member, MOVE, drawn.FLOATS):
            parts = replace(each, size=len(ranks), salt=each.salt + parity)
            sums = replace(parts, operation="sum")
            total, sent = (tensors.made(part.of(own), parts.dtype, member.device) for part in (sums, parts))
            whole = tensors.poisoned(parts.for_each().shape, parts.dtype, member.device)
            call, group = f"of {parts.words()} in a group of ranks {ranks}", mine[parity]
            attempt(f"all_gather_into_tensor {call}", distributed.all_gather_single, whole, sent, group=group)
            attempt(f"all_reduce {call}", dist.all_reduce, total, group=group)
            attempt(f"broadcast {call}", dist.broadcast, sent, ranks[-1], group=group)
            verdict.gathered(whole, parts, f"all_gather_into_tensor {call}")
            verdict.reduced(total, sums, f"all_reduce {call}")
            verdict.moved(sent, parts, len(ranks) - 1, f"broadcast {call}, from rank {ranks[-1]}")


@requirement("COL-067")
@on_ranks(2, 4)
def test_gathers_follow_the_order_of_the_groups_ranks(member: Member) -> None:
    import torch.distributed as dist

    backwards = list(range(member.size))[::-1]
    with distributed.groups(member, backwards) as (group,):
        ranks = dist.get_process_group_ranks(group)  # torch sorts what it is given, and says so here
        call = f"torch.distributed.new_group({backwards})"
        parts = moved(member, "float32", (3, 2))
        whole = tensors.poisoned((member.size * 3, 2), "float32", member.device)
        own = tensors.made(parts.of(ranks.index(member.number)), "float32", member.device)
        gather = f"{call}: all_gather_into_tensor"
        attempt(gather, distributed.all_gather_single, whole, own, group=group)
        with Verdict() as verdict:
            verdict.equal(dist.get_rank(group), ranks.index(member.number), call=f"{call}: this rank's place in it")
            verdict.gathered(whole, parts, f"{gather}, which has the ranks {ranks}")


@requirement("COL-068")
@on_ranks(2, 4, watched=False)
def test_changing_collectives_leave_nothing_behind(member: Member) -> None:
    group, gone = member.coordinator, "many calls in a row, of changing kinds, shapes and types"
    verdict, judgements, pause = Verdict(), list[Callable[[], None]](), at_odd_times(member)
    for number in range(_SMALL_CALLS):
        dtype, shape = drawn.FLOATS[number // 3 % 3], (1 + number % 5, 1 + number % 2)
        sums, parts = summed(member, dtype, shape, number), moved(member, dtype, shape, number)
        own, root = tensors.made(parts.of(member.number), dtype, member.device), number % member.size
        pause()
        if number % 3 == 0:
            call = f"{gone}: GroupCoordinator.all_gather of {parts.words()}"
            got = attempt(call, group.all_gather, own, dim=0)
            judgements.append(partial(verdict.gathered, got, parts, call))
        elif number % 3 == 1:
            call = f"{gone}: GroupCoordinator.broadcast of {parts.words()}, src={root}"
            got = attempt(call, group.broadcast, own, src=root)
            judgements.append(partial(verdict.moved, got, parts, root, call))
        else:
            call = f"{gone}: GroupCoordinator.all_reduce of {sums.words()}"
            got = attempt(call, group.all_reduce, tensors.made(sums.of(member.number), dtype, member.device))
            judgements.append(partial(verdict.reduced, got, sums, call))
    with verdict:  # only now: whoever reads a result waits for it
        for judge in judgements:
            judge()


@requirement("COL-068")
@on_ranks(2, 4)
def test_the_same_memory_in_other_lengths_and_types(member: Member) -> None:
    group, memory = member.coordinator, tensors.memory(member.device)
    with Verdict() as verdict:
        for sums, parts, root in in_turn(member):
            call = f"GroupCoordinator.{{}} of {parts.words()} where others were before"
            own = tensors.again(memory, sums.of(member.number), sums.dtype)
            verdict.reduced(attempt(call.format("all_reduce"), group.all_reduce, own), sums, call.format("all_reduce"))
            own = tensors.again(memory, parts.of(member.number), parts.dtype)
            gathered = attempt(call.format("all_gather"), group.all_gather, own, dim=0)
            verdict.gathered(gathered, parts, call.format("all_gather"))
            given = attempt(call.format("broadcast"), group.broadcast, own, src=root)
            verdict.moved(given, parts, root, call.format("broadcast"))


@requirement("COL-069")
@on_ranks(2, 4)
def test_results_are_kept_when_the_next_come(member: Member) -> None:
    group, results = member.coordinator, []
    for number in range(6):
        parts = moved(member, "bfloat16", (33,), 11 * number)
        own = tensors.made(parts.of(member.number), "bfloat16", member.device)
        call = f"GroupCoordinator.all_gather of {parts.words()}, result {number + 1}, looked at after six calls"
        results.append((attempt(call, group.all_gather, own, dim=0), parts, call))
    with Verdict() as verdict:
        for got, parts, call in results:
            verdict.gathered(got, parts, call)


@requirement("COL-070")
@on_ranks(2, 4)
def test_collectives_leave_device_and_random_numbers_alone(member: Member) -> None:
    import torch

    module, group = torch.get_device_module(member.device), member.coordinator
    ask = getattr(module, "current_device", lambda: 0)
    own = tensors.poisoned((4, 2), "bfloat16", member.device)
    torch.manual_seed(7)
    wanted = (ask(), torch.rand(3).tolist(), torch.get_default_dtype())
    torch.manual_seed(7)
    for name, action in {
        "all_reduce": lambda: group.all_reduce(own.clone()),
        "all_gather": lambda: group.all_gather(own, dim=0),
        "broadcast": lambda: group.broadcast(own.clone(), src=0),
        "broadcast_object": lambda: group.broadcast_object({"a": 1}, src=0),
        "barrier": group.barrier,
    }.items():
        attempt(f"GroupCoordinator.{name}", action)
    call = "after collectives of the coordinator: the current device, the next random numbers, the default type"
    expect.equal((ask(), torch.rand(3).tolist(), torch.get_default_dtype()), wanted, call=call)


def _ordered(count: int, order: str, seed: int) -> list[int]:
    numbers = list(range(count))
    if order == "backwards":
        numbers.reverse()
    elif order == "shuffled":
        random.Random(seed).shuffle(numbers)
    return numbers
