"""PG: groups beside the host's own: of some ranks, of the same ones, overlapping; what is theirs stays theirs.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import random
import time
from functools import partial

from ..hosts import groups as host_groups
from . import expect
from .aids import worker
from .declare import on_ranks, requirement
from .grouping import beside, joining, machines, numbers
from .member import Member

_HOOKED = "a hook on SGLang's parallel_state, or on its GroupCoordinator, does something else"
_LATE = 0.02  # seconds


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
@on_ranks(2, 4)
def test_barrier_waits_for_the_last_rank(member: Member) -> None:
    count = machines.counts(member)
    if member.number == member.size - 1:
        time.sleep(_LATE)  # without it a barrier that does not wait could pass now and then
    count.add("here")
    expect.attempt("get_tp_group().barrier()", member.coordinator.barrier)
    seen = count.read("here")
    call = "ranks that had come when get_tp_group().barrier() ended"
    expect.equal(seen, member.size, call=call, cause=_HOOKED)


@requirement("PG-014")
@on_ranks(2, 4)
def test_barrier_waits_for_its_own_group_only(member: Member) -> None:
    lists = beside.strided(member.size)
    own = next(ranks for ranks in lists if member.number in ranks)
    count = machines.counts(member)
    with beside.added(member, {"strided": lists}) as made:
        if member.number % 2 == 0:  # the odd ranks come to theirs when the even ones have left theirs
            count.add("even")
            expect.attempt("barrier of the even ranks' group", made["strided"].barrier)
            seen = count.read("even")
            count.add("even left")
        else:
            count.wait("even left", (member.size + 1) // 2)
            count.add("odd")
            expect.attempt("barrier of the odd ranks' group", made["strided"].barrier)
            seen = count.read("odd")
    call = f"GroupCoordinator.barrier() of ranks {own}"
    expect.that(
        seen == len(own), expected=f"{len(own)} ranks there when it ends", seen=str(seen), call=call, cause=_HOOKED
    )


@requirement("PG-015")
@on_ranks(1, 2)
def test_group_of_one_rank_works(member: Member) -> None:
    import torch

    with beside.added(member, {"alone": [[rank] for rank in range(member.size)]}) as made:
        alone = made["alone"]
        exchanged = numbers.exchange(alone.device_group, member.number, 1, member.device, "group of one: device_group")
        on_host = numbers.exchange(alone.cpu_group, member.number, 1, torch.device("cpu"), "group of one: cpu_group")
        own = numbers.tensor(member.number, member.device)
        summed = expect.attempt("group of one: GroupCoordinator.all_reduce", lambda: alone.all_reduce(own.clone()))
        gathered = expect.attempt("group of one: GroupCoordinator.all_gather", lambda: alone.all_gather(own.clone()))
        expect.attempt("group of one: GroupCoordinator.barrier", alone.barrier)
    numbers.judge(exchanged, [member.number])
    numbers.judge(on_host, [member.number])
    for answer in (summed, gathered):
        expect.equal(answer.value.cpu().tolist(), numbers.given(member.number), call=answer.call, cause=_HOOKED)


@requirement("PG-016")
@on_ranks(2, 4)
def test_groups_of_the_same_ranks_never_mix(member: Member) -> None:
    import torch.distributed as dist

    ranks = list(range(member.size))
    made = [expect.attempt("new_group", partial(dist.new_group, ranks, backend=member.backend)).value for _ in range(3)]
    tensors = [numbers.tensor(member.number, member.device, factor) for factor in (1, 3, 5)]
    call = "all_reduce in three groups of all ranks, all under way at once"
    pairs = list(zip(made, tensors, strict=True))
    works = expect.attempt(
        call, lambda: [dist.all_reduce(tensor, group=group, async_op=True) for group, tensor in pairs]
    ).value
    for work in reversed(works):
        expect.attempt(f"{call}: wait()", work.wait)
    sums = [worker.values(tensor) for tensor in tensors]
    for group in made:
        expect.attempt("destroy_process_group", partial(dist.destroy_process_group, group))
    for factor, summed in zip((1, 3, 5), sums, strict=True):
        numbers.judge_sum(summed, ranks, call=f"{call}: the one of {factor}-fold numbers", factor=factor)


@requirement("PG-017")
@on_ranks(2, 4)
def test_overlapping_groups_are_used_in_turn(member: Member) -> None:
    lists = {
        "everyone": beside.everyone(member.size),
        "pairs": beside.pairs(member.size),
        "shifted": beside.pairs(member.size, shift=1),
        "strided": beside.strided(member.size),
    }
    order = [*lists, *random.Random(member.size).choices(list(lists), k=24 // member.size)]
    seen = []
    with beside.added(member, lists) as made:
        for step, kind in enumerate(order):
            own = next(ranks for ranks in lists[kind] if member.number in ranks)
            call = f"step {step} of {order}: group {own}"
            factor = step % 3 + 1
            args = (made[kind].device_group, member.number, len(own), member.device, call)
            seen.append((own, factor, numbers.exchange(*args, factor=factor)))
    for ranks, factor, exchanged in seen:
        numbers.judge(exchanged, ranks, factor=factor, cause=_HOOKED)


@requirement("PG-018")
@on_ranks(2, 4)
def test_groups_of_some_ranks_in_any_order(member: Member) -> None:
    import torch
    import torch.distributed as dist

    seen = []
    last = member.size - 1
    for backend, device in ((member.backend, member.device), ("gloo", torch.device("cpu"))):
        for ranks in (list(range(member.size))[::-1], [last, 0], [last]):
            call = f"new_group({ranks}, backend={backend!r})"
            group = expect.attempt(call, partial(dist.new_group, ranks, backend=backend)).value
            if member.number in ranks:
                exchanged = numbers.exchange(group, member.number, len(ranks), device, call)
                seen.append((sorted(ranks), exchanged))
                expect.attempt(f"destroy_process_group of {call}", partial(dist.destroy_process_group, group))
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
