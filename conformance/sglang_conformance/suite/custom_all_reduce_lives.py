"""CAR: how ranks agree on a custom all-reduce, where one of them fails too, and what is left of it at the end.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
import time
from functools import partial
from typing import Any

from . import expect
from .collecting.judging import REFUSED, Verdict, attempt, tried
from .declare import in_probe, on_ranks, requirement
from .execute import facts
from .grouping import beside, holdings
from .member import Member
from .reducing import calls, engines, forms, left, lost, making, sizes

_KIB = 1 << 10
_CYCLES = 6
_PAUSE = 0.3  # seconds
_PATIENCE = 0.7  # seconds that a group waits, where a rank does not come
_TURNS = (1, 2, 4)  # of tensors that are made while it is made


@requirement("CAR-048")
@on_ranks(2, 4, watched=False)
def test_rank_that_stays_away_keeps_no_other_waiting(member: Member) -> None:
    make, last = engines.maker(member), member.number == member.size - 1
    call = f"making it in a group that waits {_PATIENCE:g} s, where rank {member.size - 1} does not come"
    with making.group(member, _PATIENCE) as group:
        found = None if last else making.tried(make, group)
        making.together(call, member.side.meet)
        seen = engines.told(making.holding(found))
        expect.that(not making.enabled(found), expected="none, or one that is disabled", seen=seen, call=call)
        found = making.tried(make, group) if last else found
        seen = engines.told(making.holding(found))
        call = f"{call} until the others have given up"
        expect.that(not making.enabled(found), expected="none, or one that is disabled", seen=seen, call=call)
        with Verdict() as verdict:
            _falls_back(member, verdict, found, f", {call}")
        del found


@requirement("CAR-049")
@on_ranks(2, 4, watched=False)
def test_rank_that_comes_late_is_not_left_out(member: Member) -> None:
    make = engines.maker(member)
    with making.group(member) as group, Verdict() as verdict:
        if member.number == 0:
            time.sleep(_PAUSE)
        found = making.tried(make, group)
        call = f"making it, where rank 0 comes {_PAUSE:g} s after the others"
        if _all_or_none(member, found, call):
            _serves(member, verdict, found, f", {call}")


@requirement("CAR-050")
@on_ranks(2, 4, watched=False)
def test_ranks_have_one_together_or_not_at_all(member: Member) -> None:
    make = engines.maker(member)
    with Verdict() as verdict:
        for which in sorted({0, member.size - 1}):
            for lack, scope in making.LACKS.items():
                with making.group(member, _PATIENCE) as group:
                    with scope() if member.number == which else making.nothing_lacks():
                        found = making.tried(make, group)
                    call = f"making it, where rank {which} has {lack}"
                    if _all_or_none(member, found, call):
                        _serves(member, verdict, found, f", {call}")
                    else:
                        _falls_back(member, verdict, found, f", {call}")
                    del found


@requirement("CAR-051")
@on_ranks(2, watched=False)
def test_rank_whose_making_raises_keeps_no_other_waiting(member: Member) -> None:
    make = engines.maker(member)
    with Verdict() as verdict:
        for turn in _TURNS:
            with making.group(member, _PATIENCE) as group:
                with making.no_tensor_from(turn) if member.number == 1 else making.nothing_lacks():
                    found = making.tried(make, group)
                call = (
                    f"making it in a group that waits {_PATIENCE:g} s, where rank 1 is refused a tensor (its {turn}.)"
                )
                if _all_or_none(member, found, call):
                    _serves(member, verdict, found, f", {call}")
                else:
                    _falls_back(member, verdict, found, f", {call}")
                del found


@requirement("CAR-052")
@on_ranks(2, watched=False)
def test_ranks_with_the_same_ordinal(member: Member) -> None:
    import torch

    if member.device.type == "cpu":
        raise expect.Declined("the host is one device for all ranks")
    make = engines.maker(member)
    module, first = torch.get_device_module(member.device), torch.device(member.device.type, 0)
    call = "making it, where every rank's device is the first"
    with making.group(member, _PATIENCE) as group, Verdict() as verdict:
        try:
            module.set_device(first)
            found = making.tried(make, group, first)
            if _all_or_none(member, found, call):
                _serves(member, verdict, found, f", {call}", first)
        finally:
            module.set_device(member.device)


@requirement("CAR-053")
@on_ranks(2, watched=False)
def test_groups_come_and_go_without_a_trace(member: Member, platform: Any) -> None:
    served = sizes.served(member)

    def cycle(number: int) -> None:
        dtype, count = list(served.items())[number % len(served)]
        with engines.further(member, {"again": beside.everyone(member.size)}) as made, Verdict() as verdict:
            expect.that(made["again"] is not None, expected="one too", seen="none", call="a further group of all")
            calls.reduced(member, verdict, made["again"], forms.flat(dtype, member.size, count, number))

    _leaves_nothing(member, platform, cycle, f"{_CYCLES} groups with one, made, used and destroyed in turn")


@requirement("CAR-054")
@on_ranks(2, watched=False)
def test_one_group_makes_it_again_and_again(member: Member, platform: Any) -> None:
    make, served = engines.maker(member), sizes.served(member)
    with making.group(member) as group:

        def cycle(number: int) -> None:
            dtype, count = list(served.items())[number % len(served)]
            found = making.tried(make, group)
            with Verdict() as verdict:
                expect.that(making.enabled(found), expected="one each time", seen="none", call="making it again")
                calls.reduced(member, verdict, found, forms.flat(dtype, member.size, count, number))
            member.side.meet()
            if number % 2:
                engines.close(found)
            del found
            gc.collect()
            member.side.meet()

        after = f"it was made {_CYCLES} times for one group, used, and closed or dropped"
        _leaves_nothing(member, platform, cycle, after)


@requirement("CAR-055")
@on_ranks(2, watched=False)
def test_closing_twice_does_no_harm(member: Member) -> None:
    make, own, served = engines.maker(member), engines.group_s(member), sizes.served(member)
    engines.require_closing(own)
    with making.group(member) as group, Verdict() as verdict:
        found = making.tried(make, group)
        _serves(member, verdict, found, "")
        for _ in range(2):
            engines.close(found)
            member.side.meet()
        del found
        gc.collect()
        for dtype, count in served.items():
            after = ", after another one was closed twice"
            calls.reduced(member, verdict, own, forms.flat(dtype, member.size, count), after=after)


@requirement("CAR-056")
@on_ranks(2, watched=False)
def test_closed_it_takes_no_tensor(member: Member) -> None:
    make, served = engines.maker(member), sizes.served(member)
    engines.require_closing(engines.group_s(member))
    with making.group(member) as group:
        found = making.tried(make, group)
        engines.close(found)
        member.side.meet()
        for dtype, count in served.items():
            brought = forms.flat(dtype, member.size, count)
            tensor, _ = calls.given(member, brought)
            call = f"{engines.OWNER}.should_custom_ar({brought.words()}), closed"
            answer = False if getattr(found, "disabled", False) else tried(found.should_custom_ar, tensor)
            expect.that(answer is REFUSED or not answer, expected="False", seen=expect.show(answer), call=call)


@requirement("CAR-057")
@in_probe
def test_killed_rank_leaves_no_shared_memory(platform: Any, deadline: float) -> None:
    lost.require(platform, facts(platform)["custom-allreduce"])
    _, there = lost.waiting(platform, deadline, reducing=False)
    call = (
        "the files of shared memory of a group of two, after one was killed and the other has closed its own and ended"
    )
    expect.that(not there, expected="none", seen=", ".join(there), call=call)


@requirement("CAR-058")
@in_probe
def test_killed_rank_is_not_waited_for_without_end(platform: Any, deadline: float) -> None:
    lost.require(platform, facts(platform)["custom-allreduce"])
    outcome, _ = lost.waiting(platform, deadline, reducing=True)
    call = f"{engines.OWNER}.custom_all_reduce, whose other rank was killed"
    seen = "no error: it went on" if not outcome.error else str(outcome)
    right = outcome.error not in ("", "Hung")
    expect.that(right, expected="an error, or the end of the process", seen=seen, call=call)


@requirement("CAR-059")
@on_ranks(2, watched=False)
def test_ranks_that_are_given_different_maximums(member: Member) -> None:
    make = engines.maker(member)
    there = sizes.edges(member, engines.group_s(member), "bfloat16")
    largest = max((edge.last for edge in there if edge.accepted), default=0)
    given = max(1024, largest >> (1 + member.number))
    call = "making it, where the last rank is given half the maximum of the others"
    if not making.takes(make, "max_size"):
        raise expect.Declined("it is given no maximum by the name max_size")
    with making.group(member, _PATIENCE) as group, Verdict() as verdict:
        found = making.tried(partial(make, max_size=given), group)
        if not _all_or_none(member, found, call):
            return
        for length in sorted({largest >> 3, largest >> 2, (largest >> 2) + 16, largest >> 1}):
            brought = forms.flat("bfloat16", member.size, length // 16 * 8, 3)
            tensor, _ = calls.given(member, brought)
            if calls.alike(member, found, [(tensor, f"{brought.words()}, {call}")])[0]:
                words = f"{calls.spelt(brought)}, {call}"
                calls.judge(verdict, attempt(words, found.custom_all_reduce, tensor), brought, words)


def _all_or_none(member: Member, found: Any, call: str) -> bool:
    """Whether it is enabled: on all ranks, or on none."""
    own = [making.enabled(found), engines.told(making.holding(found))]
    said = making.together(call, lambda: member.side.to_all(own))
    seen = ", ".join(f"rank {rank}: {words}" for rank, (_, words) in enumerate(said))
    right = len({enabled for enabled, _ in said}) == 1
    expect.that(right, expected="one on every rank, or on none", seen=seen, call=call)
    return bool(said[0][0])


def _serves(member: Member, verdict: Verdict, found: Any, after: str, device: Any = None) -> None:
    for dtype, count in sizes.served(member).items():
        brought = forms.flat(dtype, member.size, count, 3)
        tensor, _ = calls.given(member, brought)
        tensor = tensor if device is None else tensor.to(device)
        if engines.accepts(found, tensor, brought.words()):
            call = f"{calls.spelt(brought)}{after}"
            calls.judge(verdict, attempt(call, found.custom_all_reduce, tensor), brought, call)


def _falls_back(member: Member, verdict: Verdict, found: Any, after: str) -> None:
    """The group goes by its next engine, with what was made in its engine's place."""
    with engines.in_its_place(member.coordinator, found):
        for dtype, count in sizes.FALLBACK.items():
            brought = forms.flat(dtype, member.size, count, 3)
            tensor, _ = calls.given(member, brought)
            call = f"GroupCoordinator.all_reduce of {brought.words()}{after}"
            calls.judge(verdict, attempt(call, member.coordinator.all_reduce, tensor), brought, call)


def _leaves_nothing(member: Member, platform: Any, cycle: Any, after: str) -> None:
    for number in range(2):
        cycle(number)  # what is made once is made here
    before = left.shared_mappings()
    grown = holdings.grown(cycle, _CYCLES, 512 * _KIB, member.device, platform)
    more = left.shared_mappings() - before
    if more >= _CYCLES:
        grown["mappings of shared memory"] = f"{before}, and then {before + more}"
    for name, seen in grown.items():
        cause = "what is made is not given back"
        expect.fail(expected="as much as before", seen=seen, call=f"{name} after {after}", cause=cause)
