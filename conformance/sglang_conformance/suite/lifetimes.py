"""PG: how the groups of ranks come and go: before, timeouts, what surrounds them, leaving, and coming back.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..hosts import groups as host_groups
from ..oracles import layouts as oracle
from . import expect
from .declare import in_probe, on_ranks, requirement
from .grouping import beside, devices, holdings, joining, lost, numbers, sizes, surroundings
from .isolate import Outcome
from .member import Member

_HOOKED = "a hook on SGLang's parallel_state does something else"
_TIMEOUT = 37  # seconds: no backend's own
_CYCLES = 2  # of all groups: gloo takes some 10 ms for each peer of each group that it gives up
_GROUPS, _BATCHES, _BATCH = 50, 8, 25
_TRIES = 3  # memory of a device that others use too may grow meanwhile, but hardly three times
_KIB = 1 << 10
_FORGOTTEN = "self_pp:"  # SGLang 0.5.19 to 0.5.23 does not destroy the group of a rank alone, and keeps it
_REFUSALS = (AssertionError, RuntimeError, ValueError)


@requirement("PG-032")
@on_ranks(1, 2, joined=False)
def test_host_says_whether_groups_are_laid_out(member: Member) -> None:
    seen = {"before joining": host_groups.are_laid_out()}
    expect.attempt("init_distributed_environment()", lambda: joining.enter(member))
    seen["after init_distributed_environment()"] = host_groups.are_laid_out()
    expect.attempt("initialize_model_parallel()", lambda: host_groups.lay_out(tp=member.size))
    seen["after initialize_model_parallel()"] = host_groups.are_laid_out()
    joining.leave(member)
    seen["after leaving"] = host_groups.are_laid_out()
    for moment, answer in seen.items():
        right = moment == "after initialize_model_parallel()"
        expect.equal(answer, right, call=f"model_parallel_is_initialized() {moment}", cause=_HOOKED)


@requirement("PG-033")
@on_ranks(1, 2, joined=False)
def test_groups_that_are_not_made_are_refused(member: Member) -> None:
    for kind in host_groups.kinds():
        _asked_in_vain(kind, "before joining")
    expect.attempt("init_distributed_environment()", lambda: joining.enter(member))
    for kind in host_groups.kinds():
        if kind != "world":
            _asked_in_vain(kind, "after init_distributed_environment() alone")
    world = expect.attempt("get_world_group()", lambda: host_groups.group("world"))
    joining.leave(member)
    for kind in host_groups.kinds():
        _asked_in_vain(kind, "after leaving")
    expect.equal(world.value.world_size, member.size, call="get_world_group().world_size")


@requirement("PG-034")
@on_ranks(2, joined=False)
def test_timeout_reaches_every_group(member: Member) -> None:
    import torch.distributed as dist

    call = f"init_distributed_environment(timeout={_TIMEOUT})"
    made = joining.made(member, call, timeout=_TIMEOUT, tp=member.size)
    groups = {f"the {kind} group": coordinator.device_group for kind, coordinator in made.items()}
    groups["the default group"] = dist.distributed_c10d._get_default_group()
    seen = {name: devices.timeout_of(group, member.device) for name, group in groups.items()}
    if set(seen.values()) == {None}:
        raise expect.Declined(f"the backend {member.backend!r} does not say how long it waits")
    for name, seconds in seen.items():
        if seconds is not None:
            expect.equal(seconds, float(_TIMEOUT), call=f"{call}: the timeout of {name}", cause=_HOOKED)


@requirement("PG-035")
@in_probe
def test_rank_that_does_not_come_is_not_waited_for_longer(platform: Any, deadline: float) -> None:
    call = "all_reduce with a short timeout, to which the other rank does not come"
    _gave_up(lost.waiting(platform, lost.STAYS_AWAY, deadline), call)


@requirement("PG-036")
@in_probe
def test_rank_that_has_died_is_not_waited_for_longer(platform: Any, deadline: float) -> None:
    call = "all_reduce with a short timeout, whose other rank has died"
    _gave_up(lost.waiting(platform, lost.DIES, deadline), call)


@requirement("PG-037")
@on_ranks(1, 2, joined=False)
def test_timeouts_that_are_none_are_refused(member: Member) -> None:
    for timeout in (0, -1, 1.5, "30"):
        call = f"init_distributed_environment(timeout={timeout!r})"
        joining.refused(call, partial(joining.enter, member, timeout=timeout), (*_REFUSALS, TypeError))
    expect.equal(joining.open_groups(), 0, call="process groups, after timeouts were refused", cause=_HOOKED)
    joining.made(member, f"tp={member.size}, after timeouts were refused", tp=member.size)
    seen = numbers.exchange(member.group, member.number, member.size, member.device, "tp group")
    numbers.judge(seen, range(member.size))


@requirement("PG-038")
@on_ranks(2, joined=False)
def test_environment_says_nothing_of_ranks(member: Member) -> None:
    seen = []
    for values in (surroundings.WITHOUT, surroundings.OF_ANOTHER):
        call = f"tp={member.size}, and {surroundings.told(values)}"
        with surroundings.environment(values), joining.joined(member, call, tp=member.size) as made:
            place = (made["tp"].rank, made["tp"].local_rank, made["tp"].ranks)
            exchanged = numbers.exchange(member.group, member.number, member.size, member.device, f"tp group, {call}")
            seen.append((call, place, exchanged))
    for call, place, exchanged in seen:
        wanted = (member.number, member.local, list(range(member.size)))
        expect.equal(place, wanted, call=f"rank, local_rank and ranks of the tp group, with {call}", cause=_HOOKED)
        numbers.judge(exchanged, range(member.size))


@requirement("PG-039")
@on_ranks(2, joined=False)
def test_joining_leaves_the_surroundings(member: Member) -> None:
    before = surroundings.seen()
    with joining.joined(member, f"tp={member.size}", tp=member.size):
        numbers.exchange(member.group, member.number, member.size, member.device, "tp group")
        after = surroundings.seen()
    left = surroundings.seen()
    for moment, there in (("joining", after), ("leaving", left)):
        for name, value in before.items():
            changed = surroundings.changes(value, there[name])
            expect.that(
                not changed, expected="as before", seen=changed, call=f"the {name} after {moment}", cause=_HOOKED
            )


@requirement("PG-040")
@on_ranks(2, joined=False)
def test_leaving_destroys_every_group(member: Member) -> None:
    import torch.distributed as dist

    living = {id(each) for each in host_groups.living()}
    chosen = sizes.chosen(member.size, 1)[0]
    with joining.joined(member, sizes.told(chosen), **chosen) as made:
        numbers.exchange(made["world"].device_group, member.number, member.size, member.device, "world group")
    del made
    expect.equal(dist.is_initialized(), False, call="torch.distributed.is_initialized() after leaving", cause=_HOOKED)
    expect.equal(joining.open_groups(), 0, call="process groups of torch after leaving", cause=_HOOKED)
    new = [each.unique_name for each in host_groups.living() if id(each) not in living]
    left = [name for name in new if not name.startswith(_FORGOTTEN)]
    expect.equal(left, [], call="coordinators that still hold a process group after leaving", cause=_HOOKED)


@requirement("PG-041")
@on_ranks(2, joined=False, watched=False)
def test_joining_and_leaving_takes_no_more_each_time(member: Member, platform: Any) -> None:
    def cycle(_: int) -> None:
        with joining.joined(member, f"tp={member.size}", tp=member.size):
            numbers.exchange(member.group, member.number, member.size, member.device, "tp group")

    cycle(0)
    grown = holdings.grown(cycle, _CYCLES, 512 * _KIB, member.device, platform)
    _judge(grown, f"{_CYCLES} more times of joining and leaving")


@requirement("PG-046")
@on_ranks(2, watched=False)
def test_fifty_groups_leave_nothing_behind(member: Member, platform: Any) -> None:
    """Most of them are of one rank, as these are quick to destroy, and made by torch alone."""
    ranks = range(member.size)

    def cycle(number: int) -> None:
        if number % 10 == 0:
            with beside.added(member, {"again": beside.everyone(member.size)}) as made:
                numbers.summed(made["again"].device_group, member.number, member.device, "one of fifty groups")
            return
        own = [beside.on_device([rank]) for rank in ranks][member.number]
        numbers.summed(own, member.number, member.device, "one of fifty groups")
        beside.destroy(own)

    _takes_no_more(member, platform, cycle, _GROUPS, 64 * _KIB, f"{_GROUPS} groups, made, used and destroyed in turn")


@requirement("PG-047")
@on_ranks(2, watched=False)
def test_hundreds_of_collectives_leave_nothing_behind(member: Member, platform: Any) -> None:
    import torch
    import torch.distributed as dist

    def batch(_: int) -> None:
        tensors = [torch.ones(16 * _KIB, device=member.device) for _ in range(_BATCH)]
        works = [dist.all_reduce(tensor, group=member.group, async_op=True) for tensor in tensors]
        for work in works:
            work.wait()
        member.coordinator.all_reduce(tensors[0])

    def cycle(number: int) -> None:
        expect.attempt("all_reduce in get_tp_group().device_group", partial(batch, number))

    least = 32 * _KIB * _BATCH  # half of one tensor for each
    _takes_no_more(member, platform, cycle, _BATCHES, least, f"{_BATCHES * _BATCH} all-reduces")


@requirement("PG-042")
@on_ranks(2, joined=False)
def test_ranks_come_back_at_other_places(member: Member) -> None:
    with joining.joined(member, f"tp={member.size}", tp=member.size):
        first = numbers.exchange(member.group, member.number, member.size, member.device, "tp group, the first time")
    number = member.size - 1 - member.number
    expect.attempt(f"joining again as rank {number}", lambda: joining.enter(member, number=number))
    chosen = {"pp": member.size}
    expect.attempt(f"initialize_model_parallel() with {sizes.told(chosen)}", lambda: host_groups.lay_out(**chosen))
    made = host_groups.made()
    own = {kind: list(coordinator.ranks) for kind, coordinator in made.items()}
    call = f"the pp group, joined again as rank {number}"
    second = numbers.exchange(made["pp"].device_group, number, member.size, member.device, call)
    numbers.judge(first, range(member.size))
    wanted = oracle.members(sizes.whole(chosen), member.size, number)
    expect.equal(own, {kind: wanted[kind] for kind in own}, call=f"the groups, joined again as rank {number}")
    numbers.judge(second, range(member.size))


@requirement("PG-043")
@on_ranks(1, 2, joined=False)
def test_leaving_without_having_joined_does_nothing(member: Member) -> None:
    expect.attempt("leaving, without having joined", host_groups.leave)
    expect.attempt("init_distributed_environment()", lambda: joining.enter(member))
    joining.leave(member, "leaving, without initialize_model_parallel()")
    with joining.joined(member, f"tp={member.size}", tp=member.size):
        seen = numbers.exchange(member.group, member.number, member.size, member.device, "tp group")
    expect.attempt("leaving, a second time", host_groups.leave)
    numbers.judge(seen, range(member.size))


@requirement("PG-044")
@in_probe
def test_rank_drops_its_groups_alone(platform: Any, deadline: float) -> None:
    call = "abort_distributed_environment(), without the other rank"
    outcome = lost.waiting(platform, lost.STAYS_AWAY, deadline, aborting=True)
    right = not outcome.error or outcome.error == "Ended"
    expect.that(right, expected="an end, without waiting", seen=str(outcome), call=call, cause=_HOOKED)


def _asked_in_vain(kind: str, moment: str) -> None:
    call = f"{host_groups.ACCESSORS[kind]}() {moment}"
    joining.refused(call, lambda: host_groups.group(kind), _REFUSALS)


def _takes_no_more(
    member: Member, platform: Any, cycle: Callable[[int], None], times: int, least: int, after: str
) -> None:
    """Judge what a rank holds after so many times, each of which may take less than ``least`` bytes."""
    for number in range(2):
        cycle(number)  # what is made once is made here
    for _ in range(_TRIES):
        grown = holdings.grown(cycle, times, least, member.device, platform)
        if not any(member.side.to_all(bool(grown))):
            return
    _judge(grown, after)


def _judge(grown: Mapping[str, str], after: str) -> None:
    for name, seen in grown.items():
        cause = "what is made is not destroyed, or still referred to"
        expect.fail(expected="as much as before", seen=seen, call=f"{name} after {after}", cause=cause)


def _gave_up(outcome: Outcome, call: str) -> None:
    """An error is right, and so is the end of the process: a backend's watchdog ends it, as NCCL's does."""
    seen = "no error: it went on" if not outcome.error else str(outcome)
    right = outcome.error not in ("", "Hung")
    expect.that(right, expected="an error, or the end of the process", seen=seen, call=call, cause=_HOOKED)
