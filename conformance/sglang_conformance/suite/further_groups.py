"""PG: groups beside the host's own: of some ranks, of the same ones, overlapping; what is theirs stays theirs.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ..hosts import groups as host_groups
from . import expect
from .aids import worker
from .collecting import judging
from .collecting.apart import at_odd_times
from .declare import on_ranks, requirement
from .grouping import beside, joining, numbers
from .member import Member

_HOOKED = "a hook on SGLang's parallel_state, or on its GroupCoordinator, does something else"
_BARRIER = "a hook on SGLang's barrier does something else, or the backend's does not wait for its own ranks"
_LATE = 0.005  # seconds
_FACTORS = (1, 3, 5)
_ROUNDS = 3


@requirement("PG-013")
@on_ranks(2, 4)
def test_neighbours_are_the_next_ranks_of_the_group(member: Member) -> None:
    for lists in (beside.everyone(member.size), beside.strided(member.size), beside.pairs(member.size)):
        own = next(ranks for ranks in lists if member.number in ranks)
        with beside.added(member, {"ring": lists}) as made:
            place = own.index(member.number)
            wanted = {
                "ranks": own,
                "rank_in_group": place,
                "first_rank": own[0],
                "last_rank": own[-1],
                "is_first_rank": place == 0,
                "is_last_rank": place == len(own) - 1,
                "next_rank": own[(place + 1) % len(own)],
                "prev_rank": own[place - 1],
            }
            seen = {name: getattr(made["ring"], name) for name in wanted}
        for name, right in wanted.items():
            expect.equal(seen[name], right, call=f"init_model_parallel_group({lists}).{name}", cause=_HOOKED)


@requirement("PG-014")
@on_ranks(2, 4, watched=False)
def test_barrier_waits_for_every_rank(member: Member) -> None:
    _waits_for_all(member, "get_tp_group().barrier()", member.coordinator.barrier)


@requirement("PG-014")
@on_ranks(2, 4, watched=False)
def test_barrier_waits_for_its_own_group_only(member: Member) -> None:
    _waits_for_its_own(member, "GroupCoordinator.barrier()", lambda coordinator: coordinator.barrier())


@requirement("PG-045")
@on_ranks(2, 4, watched=False)
def test_torchs_barrier_waits_for_every_rank(member: Member) -> None:
    import torch.distributed as dist

    _waits_for_all(member, "torch.distributed.barrier()", dist.barrier)
    call = "torch.distributed.barrier(get_tp_group().device_group)"
    _waits_for_all(member, call, partial(dist.barrier, group=member.group))


@requirement("PG-045")
@on_ranks(2, 4, watched=False)
def test_torchs_barrier_waits_for_its_own_group_only(member: Member) -> None:
    import torch.distributed as dist

    call = "torch.distributed.barrier() of a device_group"
    _waits_for_its_own(member, call, lambda coordinator: dist.barrier(group=coordinator.device_group))


@requirement("PG-015")
@on_ranks(1, 2)
def test_group_of_one_rank_works(member: Member) -> None:
    import torch

    with beside.added(member, {"alone": [[rank] for rank in range(member.size)]}) as made:
        alone = made["alone"]
        on_device = numbers.summed(alone.device_group, member.number, member.device, "group of one: device_group")
        on_host = numbers.exchange(alone.cpu_group, member.number, 1, torch.device("cpu"), "group of one: cpu_group")
        own = numbers.tensor(member.number, member.device)
        summed = expect.attempt("group of one: GroupCoordinator.all_reduce", lambda: alone.all_reduce(own.clone()))
        gathered = expect.attempt("group of one: GroupCoordinator.all_gather", lambda: alone.all_gather(own.clone()))
        expect.attempt("group of one: GroupCoordinator.barrier", alone.barrier)
    numbers.judge_sum(on_device.value, [member.number], call=on_device.call)
    numbers.judge(on_host, [member.number])
    for answer in (summed, gathered):
        expect.equal(answer.value.cpu().tolist(), numbers.given(member.number), call=answer.call, cause=_HOOKED)


@requirement("PG-048")
@on_ranks(2)
def test_torch_gathers_in_a_group_of_one_rank(member: Member) -> None:
    import torch
    import torch.distributed as dist

    with beside.added(member, {"alone": [[rank] for rank in range(member.size)]}) as made:
        own = numbers.tensor(member.number, member.device)
        whole = torch.full_like(own, numbers.POISON)
        options = {"group": made["alone"].device_group}
        got = judging.offered(member, dist.all_gather_into_tensor, whole, own, **options)
    if got is not judging.REFUSED:
        call = "group of one: all_gather_into_tensor in its device_group"
        expect.equal(worker.values(whole), numbers.given(member.number), call=call)


@requirement("PG-016")
@on_ranks(2, 4, watched=False)
def test_groups_of_the_same_ranks_never_mix(member: Member) -> None:
    """Ranks come to each call at moments of their own: one may be in the next group while another reads the last."""
    import torch.distributed as dist

    ranks, pause = list(range(member.size)), at_odd_times(member)
    made = [beside.on_device(ranks) for _ in _FACTORS]
    call = "all_reduce in three groups of all ranks, all under way at once"
    sums = []
    for _ in range(_ROUNDS):
        tensors = [numbers.tensor(member.number, member.device, factor) for factor in _FACTORS]
        works = []
        for group, tensor in zip(made, tensors, strict=True):
            pause()
            action = partial(dist.all_reduce, tensor, group=group, async_op=True)
            works.append(expect.attempt(call, action).value)
        for work in reversed(works):
            expect.attempt(f"{call}: wait()", work.wait)
        sums.append([worker.values(tensor) for tensor in tensors])
    for group in made:
        beside.destroy(group)
    for found in sums:
        for factor, summed in zip(_FACTORS, found, strict=True):
            numbers.judge_sum(summed, ranks, call=f"{call}: the one of {factor}-fold numbers", factor=factor)


@requirement("PG-017")
@on_ranks(2, 4, watched=False)
def test_overlapping_groups_are_used_in_turn(member: Member) -> None:
    """Ranks come to each call at moments of their own: one may be in the next group while another reads the last."""
    lists = {
        "everyone": beside.everyone(member.size),
        "pairs": beside.pairs(member.size),
        "shifted": beside.pairs(member.size, shift=1),
        "strided": beside.strided(member.size),
    }
    order = random.Random(member.size).choices(list(lists), k=36 // member.size)
    pause = at_odd_times(member)
    sums, seen = [], []
    with beside.added(member, lists) as made:
        for step, kind in enumerate(order):  # nothing between them that would keep ranks together
            call = f"step {step} of {order}: group {made[kind].ranks}"
            factor = step % 3 + 1
            pause()
            args = (made[kind].device_group, member.number, member.device, call)
            sums.append((kind, factor, numbers.summed(*args, factor=factor)))
        for kind, coordinator in made.items():
            own = next(ranks for ranks in lists[kind] if member.number in ranks)
            call = f"group {own}, after others"
            seen.append((own, numbers.exchange(coordinator.device_group, member.number, len(own), member.device, call)))
    for kind, factor, answer in sums:
        own = next(ranks for ranks in lists[kind] if member.number in ranks)
        numbers.judge_sum(answer.value, own, call=answer.call, factor=factor, cause=_HOOKED)
    for ranks, exchanged in seen:
        numbers.judge(exchanged, ranks, cause=_HOOKED)


@requirement("PG-018")
@on_ranks(2, 4)
def test_groups_of_some_ranks_in_any_order(member: Member) -> None:
    import torch

    seen = []
    last = member.size - 1
    for make, device in ((beside.on_device, member.device), (beside.on_host, torch.device("cpu"))):
        for ranks in (list(range(member.size))[::-1], [last, 0], [last]):
            group = make(ranks)
            if member.number in ranks:
                call = f"new_group({ranks}) for tensors on {device.type}"
                exchanged = numbers.exchange(group, member.number, len(ranks), device, call)
                seen.append((sorted(ranks), exchanged))
                beside.destroy(group)
    for ranks, exchanged in seen:
        numbers.judge(exchanged, ranks, cause="torch orders the ranks of a group by their numbers")


@requirement("PG-022")
@on_ranks(2, 4)
def test_groups_of_ones_own_are_made_by_all(member: Member) -> None:
    import torch
    import torch.distributed as dist

    create = host_groups.state().create_custom_parallel_group
    seen = []
    for lists in (beside.strided(member.size), beside.everyone(member.size)):
        own = next(ranks for ranks in lists if member.number in ranks)
        call = f"create_custom_parallel_group({own})"
        group = expect.attempt(call, partial(create, own)).value
        expect.instance(expect.Answer(group, call, ""), dist.ProcessGroup, cause=_HOOKED)
        seen.append((own, numbers.exchange(group, member.number, len(own), torch.device("cpu"), call)))
        dist.destroy_process_group(group)
    for own, exchanged in seen:
        numbers.judge(exchanged, own, cause=_HOOKED)


@requirement("PG-023")
@on_ranks(2, 4)
def test_destroying_a_group_leaves_the_others(member: Member) -> None:
    lists = {"first": beside.everyone(member.size), "second": beside.strided(member.size)}
    before = joining.open_groups()
    with beside.added(member, lists) as made:
        first, second = made["first"], made["second"]
        member.side.meet()
        expect.attempt("GroupCoordinator.destroy()", first.destroy)
        gone = (first.device_group, first.cpu_group)
        expect.attempt("GroupCoordinator.destroy(), once more", first.destroy)
        size = second.world_size
        other = numbers.exchange(
            second.device_group, member.number, size, member.device, "a group beside the destroyed"
        )
        whole = numbers.exchange(member.group, member.number, member.size, member.device, "get_tp_group().device_group")
    expect.equal(gone, (None, None), call="device_group and cpu_group of a destroyed group", cause=_HOOKED)
    numbers.judge(other, second.ranks)
    numbers.judge(whole, range(member.size))
    expect.equal(joining.open_groups(), before, call="process groups, once all groups beside were destroyed")


def _waits_for_all(member: Member, call: str, barrier: Callable[[], Any]) -> None:
    """Each rank in turn comes late; without that, a barrier that does not wait could pass now and then."""
    seen = []
    for late in range(member.size):
        if member.number == late:
            time.sleep(_LATE)
        come = f"{call}, round {late}"
        member.side.add(come)
        expect.attempt(call, barrier)
        seen.append(member.side.read(come))
    for late, there in enumerate(seen):
        told = f"ranks that had come when {call} ended, where rank {late} comes late"
        expect.equal(there, member.size, call=told, cause=_BARRIER)


def _waits_for_its_own(member: Member, call: str, barrier: Callable[[Any], Any]) -> None:
    lists = beside.strided(member.size)
    own = next(ranks for ranks in lists if member.number in ranks)
    with beside.added(member, {"strided": lists}) as made:
        if member.number % 2 == 0:  # the odd ranks come to theirs when the even ones have left theirs
            member.side.add("even")
            expect.attempt(f"{call}, of the even ranks", partial(barrier, made["strided"]))
            seen = member.side.read("even")
            member.side.add("even left")
        else:
            member.side.wait("even left", (member.size + 1) // 2)
            member.side.add("odd")
            expect.attempt(f"{call}, of the odd ranks", partial(barrier, made["strided"]))
            seen = member.side.read("odd")
    expected = f"{len(own)} ranks there when it ends"
    expect.that(seen == len(own), expected=expected, seen=str(seen), call=f"{call}, of ranks {own}", cause=_BARRIER)
