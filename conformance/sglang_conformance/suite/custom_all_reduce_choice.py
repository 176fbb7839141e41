"""CARD: which custom all-reduce SGLang chooses, with a plugin's hooks in place, for devices that are not the plugin's.

A plugin's hooks are loaded wherever it is installed, also where another platform is active. So each check asks SGLang's
own choice on imagined machines (:mod:`.reducing.choices`), and compares it with a table of its rules.

They have the time of those that start an interpreter: importing SGLang's kernels takes as long.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from ..certificate.model import Finding
from ..contract.model import Contract
from ..oracles import all_reduce as oracle
from . import expect, isolate
from .declare import in_probe, requirement, spawns
from .execute import facts
from .reducing import accesses, choices, layouts, worlds
from .reducing.choices import Answer
from .reducing.worlds import World

_SEED = 20250
_DRAWN = 2500
_FEW, _MORE = 50, 8  # the worlds asked about at first, and how many times more each time: most faults show soon
_PROFILE = "custom-allreduce"
_COMPARED = ("expected", "seen", "call")
Judgement = Callable[[World, list[Answer]], None]


@requirement("CARD-001")
@spawns
@in_probe
def test_choice_for_other_devices_is_sglangs_own(platform: Any, contract: Contract) -> None:
    def is_its_own(world: World, ranks: list[Answer]) -> None:
        foreign = [each for each in ranks if each.generation == choices.FOREIGN]
        expect.that(
            not foreign,
            expected="a class of SGLang's own: another platform is active, and its device is none of the plugin's",
            seen=", ".join(map(str, foreign)),
            call=_call(world),
            cause="a hook answers for every device",
        )

    _each(platform, contract, (worlds.linked(2), worlds.unlinked(2), worlds.linked(4, kind="musa")), is_its_own)


@requirement("CARD-002")
@spawns
@in_probe
def test_choice_on_one_machine_is_the_rules(platform: Any, contract: Contract) -> None:
    drawn = (replace(each, nodes=(0,) * each.size) for each in worlds.drawn(_SEED, _DRAWN))
    _follows(platform, contract, map(worlds.even, drawn))


@requirement("CARD-002")
@spawns
@in_probe
def test_choice_on_any_machines_is_the_rules(platform: Any, contract: Contract) -> None:
    _follows(platform, contract, map(worlds.even, worlds.drawn(_SEED + 1, _DRAWN)))


@requirement("CARD-003")
@spawns
@in_probe
def test_choice_in_each_case_of_the_history(platform: Any, contract: Contract) -> None:
    _follows(platform, contract, (world for _, world in worlds.HISTORY))


@requirement("CARD-004")
@spawns
@in_probe
def test_second_generation_is_only_taken_where_every_pair_is_linked(platform: Any, contract: Contract) -> None:
    _follows(platform, contract, worlds.less_than_linked())


@requirement("CARD-005")
@spawns
@in_probe
def test_steps_down_go_to_the_next_best(platform: Any, contract: Contract) -> None:
    """What cannot have the second generation has the first, wherever that needs less."""
    _follows(platform, contract, worlds.one_step_down())


@requirement("CARD-006")
@spawns
@in_probe
def test_all_ranks_choose_the_same(platform: Any, contract: Contract) -> None:
    def same(world: World, ranks: list[Answer]) -> None:
        told = ", ".join(f"rank {rank}: {answer}" for rank, answer in enumerate(ranks))
        alike = len({answer.generation for answer in ranks}) == 1
        expect.that(alike, expected="the same on every rank", seen=told, call=_call(world))

    _each(platform, contract, worlds.one_sided(), same)


@requirement("CARD-007")
@spawns
@in_probe
def test_switches_are_obeyed(platform: Any, contract: Contract) -> None:
    sizes = [world for size in (2, 3, 4, 8) for world in (worlds.linked(size), worlds.unlinked(size))]
    _follows(platform, contract, (replace(world, second=said) for world in sizes for said in (None, True, False)))


@requirement("CARD-008")
@spawns
@in_probe
def test_sizes_are_those_that_are_served(platform: Any, contract: Contract) -> None:
    _follows(
        platform,
        contract,
        (
            worlds.linked(size, capability=capability, second=second)
            for size in range(1, 17)
            for capability in ((8, 0), (9, 0), (10, 0), (10, 7), (12, 0))
            for second in (True, False)
        ),
    )


@requirement("CARD-009")
@spawns
@in_probe
def test_several_machines_need_one_fabric(platform: Any, contract: Contract) -> None:
    _follows(platform, contract, worlds.across())


@requirement("CARD-010")
@spawns
@in_probe
def test_links_without_access_are_not_used(platform: Any, contract: Contract) -> None:
    everywhere = frozenset((one, other) for one in range(8) for other in range(8) if one != other)
    closed = [frozenset(way for way in everywhere if max(way) < size) for size in (2, 4, 8)]
    _follows(
        platform,
        contract,
        (
            replace(make(size), closed=shut, second=second)
            for size, shut in zip((2, 4, 8), closed, strict=True)
            for make in (worlds.linked, worlds.unlinked)
            for second in (True, False)
        ),
    )


@requirement("CARD-011")
@spawns
@in_probe
def test_devices_are_told_however_a_process_sees_them(platform: Any, contract: Contract) -> None:
    _follows(
        platform,
        contract,
        (
            make(size, visible=visible)
            for visible in ("own", "uuids")
            for size in (2, 4, 8)
            for make in (worlds.linked, worlds.unlinked)
        ),
    )


@requirement("CARD-012")
@spawns
@in_probe
def test_answer_does_not_depend_on_what_was_asked_before(platform: Any, contract: Contract) -> None:
    """Each in a process of its own, in which nothing has been asked; and then after others have been asked."""
    cases = [worlds.linked(2), worlds.linked(3), worlds.linked(8, capability=(10, 0)), worlds.unlinked(2)]
    _require_forks(platform)

    def compare(*, hooked: bool = True) -> None:
        first = [choices.asked([world], contract.release, hooked=hooked)[0] for world in cases]
        later = choices.asked([*cases, *cases], contract.release, hooked=hooked)
        for number, world in enumerate(cases):
            _judge(world, first[number], contract.release, "asked first")
            _judge(world, later[number], contract.release, "asked later")
            _judge(world, later[len(cases) + number], contract.release, "asked again")

    _settled(platform, compare)


@requirement("CARD-013")
@spawns
@in_probe
def test_bytes_that_are_taken(platform: Any) -> None:
    _settled(platform, partial(layouts.settled, layouts.bytes_taken))


@requirement("CARD-014")
@spawns
@in_probe
def test_layouts_that_are_taken(platform: Any) -> None:
    _settled(platform, partial(layouts.settled, layouts.layouts_taken))


@requirement("CARD-015")
@spawns
@in_probe
def test_elements_that_overlap_are_not_one_stretch(platform: Any) -> None:
    _settled(platform, partial(layouts.settled, layouts.overlaps_refused))


@requirement("CARD-016")
@spawns
@in_probe
def test_types_without_kernels_are_not_taken(platform: Any) -> None:
    _settled(platform, partial(layouts.settled, layouts.types_refused))


@requirement("CARD-017")
@spawns
@in_probe
def test_what_was_kept_of_peer_access_is_trusted_only_where_it_is_whole(platform: Any) -> None:
    _settled(platform, accesses.settled)


def _follows(platform: Any, contract: Contract, asked: Iterable[World]) -> None:
    _each(platform, contract, asked, lambda world, ranks: _judge(world, ranks, contract.release))


def _each(platform: Any, contract: Contract, asked: Iterable[World], judge: Judgement) -> None:
    """Judge what all ranks have in each world. SGLang's own mistakes are told when no hook was found to make one."""
    _require_forks(platform)
    coming, few, its_own = iter(asked), _FEW, list[expect.HostDefect]()
    while chosen := list(islice(coming, few)):
        for world, ranks in zip(chosen, choices.asked(chosen, contract.release), strict=True):
            try:
                judge(world, ranks)
            except expect.Violation as violation:
                alone = partial(_judge_alone, world, contract.release, judge)
                its_own.append(_blamed(platform, violation, alone))
        few *= _MORE
    if its_own:
        raise its_own[0]


def _judge_alone(world: World, release: str, judge: Judgement) -> None:
    judge(world, choices.asked([world], release, hooked=False)[0])


def _settled(platform: Any, check: Callable[..., None]) -> None:
    """Run a check, which takes ``hooked``; where SGLang alone breaks the rule as well, that is its defect."""
    _require_forks(platform)
    try:
        check()
    except expect.Violation as violation:
        raise _blamed(platform, violation, partial(check, hooked=False)) from None


def _blamed(platform: Any, violation: expect.Violation, alone: Callable[[], None]) -> expect.HostDefect:
    """SGLang's defect, if it breaks the rule in the same way without any hook in it; else the violation is raised.

    The maintainers of a platform of SGLang's own, which has a custom all-reduce, want the failure.
    """
    if platform.is_out_of_tree() or not facts(platform)[_PROFILE]:
        try:
            alone()
        except expect.Violation as its:
            if [its.finding[name] for name in _COMPARED] == [violation.finding[name] for name in _COMPARED]:
                fault = f"SGLang's own choice, without any hook in it: {violation}, of {violation.finding['call']}"
                return expect.HostDefect(fault, violation)
    hooks = choices.hooked()
    if not hooks:
        raise violation
    told = {**violation.finding, "where": hooks[0][1], "cause": f"a hook on {', '.join(name for name, _ in hooks)}"}
    raise expect.Violation(Finding(**told)) from None


def _judge(world: World, ranks: list[Answer], release: str, when: str = "") -> None:
    wanted = oracle.generation(world, release)
    for rank, answer in enumerate(ranks):
        if answer.generation != wanted:
            expect.fail(
                expected=f"{_TOLD[wanted]} on every rank",
                seen=f"{_TOLD.get(answer.generation, answer.generation)} on rank {rank}"
                + (f" ({answer.note})" if answer.note else ""),
                call=_call(world, when),
            )


def _call(world: World, when: str = "") -> str:
    return f"{choices.DISPATCH} of {world.words()}{f', {when}' if when else ''}"


def _require_forks(platform: Any) -> None:
    choices.modules()  # here, and not in each fork: SGLang's take seconds to import
    if not isolate.can_fork(platform):
        raise expect.Declined(isolate.CANNOT_FORK)


_TOLD = {
    oracle.SECOND: "the second generation",
    oracle.FIRST: "the first generation",
    oracle.NONE: "no custom all-reduce",
    choices.WAITING: "an endless wait for the other ranks",
}
