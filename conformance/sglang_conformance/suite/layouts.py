"""PG: which ranks the groups of each kind of parallelism are made of, and that their numbers stay among them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ..hosts import groups as host_groups
from ..oracles import layouts as oracle
from . import expect
from .aids import groups
from .declare import in_probe, on_ranks, requirement
from .grouping import dry, joining, laid_out, numbers, sizes
from .member import Member

_HOOKED = "a hook on SGLang's parallel_state lays the groups out otherwise"
_ALL_RANKS = "new_group is a collective of all ranks: they must make the same groups in the same order"
_REFUSALS = (RuntimeError, AssertionError, ValueError)


@requirement("PG-024")
@in_probe
def test_layouts_are_those_worked_out_by_hand(platform: Any) -> None:
    backend = str(groups.chosen(platform.device_type).value)
    for table in sizes.TABLES:
        for rank in range(table.world):
            call = f"the groups of rank {rank}, with {sizes.told(table.sizes)}"
            layout = dry.seen(call, rank, sizes.whole(table.sizes), backend)
            wanted = {kind: next(g for g in groups if rank in g) for kind, groups in table.groups.items()}
            _compare({kind: layout.own.get(kind) for kind in wanted}, wanted, call)


@requirement("PG-024")
@in_probe
@given(drawn=sizes.drawn(32), place=st.floats(0, 1, exclude_max=True))
def test_layouts_follow_sglangs_rules(platform: Any, drawn: dict[str, int], place: float) -> None:
    backend = str(groups.chosen(platform.device_type).value)
    world = drawn["tp"] * drawn["pp"]
    rank = int(place * world)
    call = f"the groups of rank {rank} of {world}, with {sizes.told(drawn)}"
    layout = dry.seen(call, rank, drawn, backend)
    _compare(layout.own, oracle.members(drawn, world, rank), call)


@requirement("PG-024")
@on_ranks(2, 4, joined=False)
def test_ranks_find_themselves_in_the_groups_of_the_rules(member: Member) -> None:
    chosen = sizes.telling(member.size)[2]
    own = oracle.members(chosen, member.size, member.number)
    for kind, place in laid_out.places(member, chosen).items():
        right = (own[kind], own[kind].index(member.number), len(own[kind]))
        call = f"the ranks, rank_in_group and world_size of the {kind} group, with {sizes.told(chosen)}"
        expect.equal(place, right, call=call, cause=_HOOKED)


@requirement("PG-025")
@in_probe
@given(drawn=sizes.drawn(8))
def test_every_rank_makes_the_same_groups_in_the_same_order(platform: Any, drawn: dict[str, int]) -> None:
    backend = str(groups.chosen(platform.device_type).value)
    world = drawn["tp"] * drawn["pp"]
    with_sizes = f"of {world} makes, with {sizes.told(drawn)}"
    first = dry.seen(f"the groups that rank 0 {with_sizes}", 0, drawn, backend).made
    for rank in sorted({1, world // 2, world - 1} - {0, world}):
        call = f"the groups that rank {rank} {with_sizes}"
        made = dry.seen(call, rank, drawn, backend).made
        for mine, rank0s in zip([*made, None], [*first, None], strict=False):
            expect.that(mine == rank0s, expected=f"{rank0s}, as rank 0", seen=f"{mine}", call=call, cause=_ALL_RANKS)


@requirement("PG-025")
@on_ranks(2, 4, joined=False)
def test_ranks_ask_for_the_same_groups_in_the_same_order(member: Member) -> None:
    chosen = sizes.telling(member.size)[1]
    first, *others = laid_out.asked(member, chosen)
    for rank, mine in enumerate(others, 1):
        call = f"the groups that rank {rank} asks torch for, with {sizes.told(chosen)}"
        expect.equal(mine, first, call=call, cause=_ALL_RANKS)


@requirement("PG-026")
@on_ranks(2, 4, joined=False)
def test_numbers_stay_within_their_group(member: Member) -> None:
    _numbers_stay(member, sizes.telling(member.size)[0])


@requirement("PG-026")
@on_ranks(2, 4, joined=False)
def test_numbers_stay_within_attentions_and_the_experts_groups(member: Member) -> None:
    _numbers_stay(member, sizes.telling(member.size)[1])


@requirement("PG-027")
@in_probe
@given(drawn=sizes.drawn(16))
def test_kinds_of_the_same_ranks_share_a_coordinator(platform: Any, drawn: dict[str, int]) -> None:
    backend = str(groups.chosen(platform.device_type).value)
    layout = dry.seen(f"the groups of rank 0, with {sizes.told(drawn)}", 0, drawn, backend)
    for kind, other in oracle.sharing(drawn).items():
        call = f"the {kind} group and the {other} group, with {sizes.told(drawn)}"
        same = layout.one[kind] == layout.one[other]
        expect.that(same, expected="one coordinator", seen="two", call=call, cause=_HOOKED)


@requirement("PG-028")
@on_ranks(2, 4, joined=False)
def test_ranks_and_sizes_are_told_by_kind(member: Member) -> None:
    state = host_groups.state()
    chosen = sizes.chosen(member.size, 3)[1]
    asked = [
        (kind, name, expect.attempt(f"{name}(), with {sizes.told(chosen)}", getattr(state, name)))
        for kind in joining.made(member, sizes.told(chosen), **chosen)
        for name in host_groups.NUMBERS[kind]
    ]
    own = oracle.members(chosen, member.size, member.number)
    for kind, name, answer in asked:
        of_rank = name == host_groups.NUMBERS[kind][0]
        right = own[kind].index(member.number) if of_rank else len(own[kind])
        expect.equal(answer, right, cause=_HOOKED)


@requirement("PG-029")
@on_ranks(2, joined=False)
def test_sizes_that_do_not_make_up_the_world_are_refused(member: Member) -> None:
    n = member.size
    expect.attempt("init_distributed_environment()", lambda: joining.enter(member))
    before = joining.open_groups()
    for tp, pp in ((n + 1, 1), (n, 2), (1, 1), (2 * n, 1)):
        call = f"initialize_model_parallel() on {n} ranks, with tp={tp}, pp={pp}"
        joining.refused(call, partial(host_groups.lay_out, tp=tp, pp=pp), _REFUSALS)
        expect.equal(joining.open_groups(), before, call=f"process groups after {call} was refused", cause=_HOOKED)
        expect.equal(host_groups.are_laid_out(), False, call=f"model_parallel_is_initialized() after {call}")
    joining.leave(member, "leaving after sizes were refused")
    joining.made(member, f"tp={n}, after sizes were refused", tp=n)
    seen = numbers.exchange(member.group, member.number, n, member.device, "tp group after sizes were refused")
    numbers.judge(seen, range(n))


@requirement("PG-030")
@in_probe
def test_decode_context_groups_are_right_or_refused(platform: Any) -> None:
    backend = str(groups.chosen(platform.device_type).value)
    wrong = {**sizes.whole({"tp": 4}), "dcp": 3}
    joining.refused("decode context parallelism of 3 in tp=4", partial(dry.lay_out, 0, wrong, backend), _REFUSALS)
    right = {**sizes.whole({"tp": 4, "pp": 2}), "dcp": 2}
    try:
        layouts = [dry.lay_out(rank, right, backend) for rank in range(8)]
    except RuntimeError as error:
        raise expect.Declined(f"SGLang lets this device have no decode context parallelism: {error}") from None
    for rank, layout in enumerate(layouts):
        call = f"the groups of rank {rank} of 8, with {sizes.told(right)}"
        _compare(layout.own, oracle.members(right, 8, rank), call)


@requirement("PG-031")
@on_ranks(2)
def test_setting_up_twice_is_harmless_or_refused(member: Member) -> None:
    before, count = host_groups.made(), joining.open_groups()
    expect.attempt("init_distributed_environment(), again", lambda: joining.enter(member))
    expect.equal(joining.open_groups(), count, call="process groups after init_distributed_environment(), again")
    call = "initialize_model_parallel(), again"
    joining.refused(call, lambda: host_groups.lay_out(tp=member.size), (AssertionError, RuntimeError))
    after = host_groups.made()
    for kind, coordinator in before.items():
        call = f"the {kind} group, after it was set up again"
        expect.that(after[kind] is coordinator, expected="the same one", seen="another one", call=call, cause=_HOOKED)
    seen = numbers.exchange(member.group, member.number, member.size, member.device, "tp group set up again")
    expect.equal(joining.open_groups(), count, call="process groups after it was set up again", cause=_HOOKED)
    numbers.judge(seen, range(member.size))


def _numbers_stay(member: Member, chosen: sizes.Sizes) -> None:
    own = oracle.members(chosen, member.size, member.number)
    for kinds, exchanged in laid_out.exchanged(member, chosen).items():
        cause = "the ranks do not make the same groups in the same order, or the backend sends to others"
        for kind in kinds:
            numbers.judge(exchanged, own[kind], cause=cause)


def _compare(own: dict[str, Any], wanted: dict[str, list[int]], call: str) -> None:
    for kind, ranks in wanted.items():
        expect.equal(own.get(kind), ranks, call=f"{call}: {kind}", cause=_HOOKED)
