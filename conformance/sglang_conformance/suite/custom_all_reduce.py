"""CAR: when a group has a custom all-reduce, its states, and how the group goes by it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

from ..hosts import groups
from . import expect
from .collecting import tensors
from .collecting.judging import Verdict, attempt
from .communicating import communicators
from .declare import on_ranks, requirement
from .execute import facts
from .grouping import beside
from .member import Member
from .reducing import calls, engines, forms, sizes, spies

_PROFILE = "custom-allreduce"
_FIRST_GENERATION = "0, or the sum: SGLang's first generation gives zeros in a warm-up"


@requirement("CAR-001")
@on_ranks(2, 4)
def test_groups_have_one_where_it_is_declared(member: Member, platform: Any) -> str:
    if not facts(platform)[_PROFILE]:
        raise expect.Declined("no plugin brings a custom all-reduce, and the platform is none for which SGLang has one")
    there = {"all": member.coordinator}
    with beside.added(member, {"pairs": beside.pairs(member.size)} if member.size > 2 else {}) as made:
        there |= made
        said = {
            name: member.side.to_all([engines.of(each) is not None, engines.told(each)]) for name, each in there.items()
        }
    served = [name for name, answers in said.items() if all(enabled for enabled, _ in answers)]
    seen = "; ".join(f"in the groups of {name}: {', '.join(words for _, words in said[name])}" for name in said)
    if member.size == 2 and not any(enabled for enabled, _ in said["all"]):
        raise expect.Declined("groups of two have none, and larger ones may all the same")
    call = f"get_tp_group().{engines.OWNER} of {member.size} ranks, and of pairs of them"
    expect.that(served, expected="one that is not disabled, on every rank, in one of these", seen=seen, call=call)
    return f"the groups of {' and of '.join(served)} have one"


@requirement("CAR-002")
@on_ranks(2, 4)
def test_one_is_there_only_where_it_is_declared(member: Member, platform: Any) -> None:
    found = engines.of(member.coordinator)
    if found is None or facts(platform)[_PROFILE]:
        return
    expect.fail(
        expected=f"no {engines.OWNER} that is enabled, as nothing says that there is one",
        seen=f"a {engines.described(found)}",
        call=f"get_tp_group().{engines.OWNER}",
        cause="it was given to the group past SGLang's choice: what is in use is not certified",
    )


@requirement("CAR-003")
@on_ranks(2, 4)
def test_all_ranks_have_one_of_the_same_kind(member: Member) -> str:
    said = member.side.to_all(engines.told(member.coordinator))
    seen = ", ".join(f"rank {rank}: {each}" for rank, each in enumerate(said))
    call = f"get_tp_group().{engines.OWNER} on each rank"
    expect.that(len(set(said)) == 1, expected="the same on every rank", seen=seen, call=call)
    return f"the groups' custom all-reduce is {engines.described(engines.group_s(member))}"


@requirement("CAR-004")
@on_ranks(2)
def test_it_has_what_the_core_calls(member: Member) -> None:
    found = engines.group_s(member)
    for name in engines.NAMES:
        call, place = f"{engines.OWNER}.{name}", engines.where(found, name)
        expect.that(hasattr(found, name), expected="an attribute", seen="none", call=call, where=place)
        if name == "disabled":
            continue
        given = () if name == "capture" else ("tensor",)
        try:
            inspect.signature(getattr(found, name)).bind(*given)
        except (TypeError, ValueError) as error:
            expect.fail(expected=f"to be called with {given}", seen=str(error), call=call, where=place)


@requirement("CAR-005")
@on_ranks(2)
def test_one_rank_alone_has_none(member: Member) -> None:
    engines.group_s(member)
    with beside.added(member, {"alone": [[rank] for rank in range(member.size)]}) as made:
        seen = engines.told(made["alone"])
        alone = engines.of(made["alone"]) is None
        call = f"{engines.OWNER} of a group of one rank"
        expect.that(alone, expected="none, or one that is disabled", seen=seen, call=call)
        brought = forms.flat("float32", 1, 16)
        tensor, _ = calls.given(member, brought, 0)
        got = attempt("GroupCoordinator.all_reduce in a group of one rank", made["alone"].all_reduce, tensor)
        with Verdict() as verdict:
            verdict.holds(got, brought.of(0), "float32", "GroupCoordinator.all_reduce in a group of one rank")


@requirement("CAR-006")
@on_ranks(2, 4)
def test_users_can_switch_it_off(member: Member) -> None:
    engines.group_s(member)
    state, call = groups.state(), "set_custom_all_reduce(False)"
    expect.attempt(call, lambda: state.set_custom_all_reduce(False))
    try:
        with beside.added(member, {"without": beside.everyone(member.size)}) as made, Verdict() as verdict:
            seen, none = engines.told(made["without"]), engines.of(made["without"]) is None
            words = f"{engines.OWNER} of a group made after {call}"
            verdict.that(none, expected="none, or one that is disabled", seen=seen, call=words)
            _by_group(member, verdict, made["without"], forms.flat("float32", member.size, 64), f", after {call}")
    finally:
        state.set_custom_all_reduce(True)


@requirement("CAR-007")
@on_ranks(2, 4)
def test_disabled_it_takes_no_tensor(member: Member) -> None:
    found, served = engines.group_s(member), sizes.served(member)
    call = f"{engines.OWNER}.custom_all_reduce, called by GroupCoordinator.all_reduce while disabled"
    with engines.disabled(found), spies.between(member.coordinator, found) as spy, Verdict() as verdict:
        for dtype, count in served.items():
            brought = forms.flat(dtype, member.size, count)
            tensor, _ = calls.given(member, brought)
            asked = f"{engines.OWNER}.should_custom_ar({brought.words()}), disabled"
            verdict.equal(engines.accepts(found, tensor, brought.words()), False, call=asked)
            _by_group(member, verdict, member.coordinator, brought, f", its {engines.OWNER} disabled")
        verdict.equal(spy.reductions, 0, call=f"the number of calls of {call}")


@requirement("CAR-008")
@on_ranks(2, 4)
def test_it_serves_again_after_having_been_disabled(member: Member) -> None:
    found, served = engines.group_s(member), sizes.served(member)
    with Verdict() as verdict:
        for turn in range(3):
            for dtype, count in served.items():
                calls.reduced(member, verdict, found, forms.flat(dtype, member.size, count, turn))
                with engines.disabled(found):
                    tensor, _ = calls.given(member, forms.flat(dtype, member.size, count))
                    engines.accepts(found, tensor)
                after = ", after it was disabled for a while"
                calls.reduced(member, verdict, found, forms.flat(dtype, member.size, count, turn + 7), after=after)


@requirement("CAR-009")
@on_ranks(2, 4)
def test_capture_is_entered_and_left_without_any_reduction(member: Member) -> None:
    found = engines.group_s(member)
    for number in range(3):
        _scope(found, f"entered and left without a reduction, time {number + 1}")
        expect.equal(bool(found.disabled), False, call=f"{engines.OWNER}.disabled after {engines.OWNER}.capture()")
    with Verdict() as verdict:
        _each(member, verdict, found, ", after capture() was entered and left")


@requirement("CAR-010")
@on_ranks(2, 4)
def test_capture_that_fails_restores_what_was(member: Member) -> None:
    found = engines.group_s(member)
    with Verdict() as verdict:
        for number, error in enumerate((ValueError("of a capture"), KeyboardInterrupt())):
            call, seen = f"{engines.OWNER}.capture(), left by a {type(error).__name__}", "no error: it was swallowed"
            try:
                with found.capture():
                    raise error
            except type(error) as other:
                seen = "" if other is error else f"another one: {other}"
            except Exception as other:
                seen = f"{type(other).__name__}: {other}"
            verdict.that(not seen, expected=f"the {type(error).__name__} itself", seen=seen, call=call)
            verdict.equal(bool(found.disabled), False, call=f"{engines.OWNER}.disabled after {call}")
            _each(member, verdict, found, f", after {call}", number + 1)
            _scope(found, f"after {call}")


@requirement("CAR-011")
@on_ranks(2)
def test_capture_is_entered_while_disabled(member: Member) -> None:
    found = engines.group_s(member)
    with engines.disabled(found):
        _scope(found, "disabled")
        expect.equal(bool(found.disabled), True, call=f"{engines.OWNER}.disabled after capture(), disabled before")
    with Verdict() as verdict:
        _each(member, verdict, found, ", after capture() while it was disabled")


@requirement("CAR-012")
@on_ranks(2, 4)
def test_calls_before_within_and_after_a_capture(member: Member) -> None:
    import torch

    found, served = engines.group_s(member), sizes.served(member)
    with Verdict() as verdict:
        for turn in range(2):
            _each(member, verdict, found, ", before capture()", turn)
            scope = expect.attempt(f"{engines.OWNER}.capture()", found.capture).value
            with scope:
                for dtype, count in served.items():
                    brought = forms.flat(dtype, member.size, count, turn)
                    call = f"{calls.spelt(brought)}, within capture(), not being captured"
                    tensor, _ = calls.given(member, brought)
                    if not engines.accepts(found, tensor, brought.words()):
                        continue
                    got = attempt(call, found.custom_all_reduce, tensor)
                    if isinstance(got, torch.Tensor) and not tensors.numbers(got).any():
                        shaped = got.shape == tensor.shape and got.dtype == tensor.dtype
                        verdict.that(shaped, expected=_FIRST_GENERATION, seen=f"{got.dtype} {got.shape}", call=call)
                        continue
                    calls.judge(verdict, got, brought, call)
            _each(member, verdict, found, ", after capture()", turn + 5)


@requirement("CAR-013")
@on_ranks(2, 4)
def test_group_asks_it_first(member: Member) -> None:
    found, served, group = engines.group_s(member), sizes.served(member), member.coordinator
    if member.device.type == "cpu":
        raise expect.Declined("SGLang sums host tensors without asking any engine")
    pynccl = communicators.of(group)
    scopes = {"": contextlib.nullcontext()}
    if pynccl is not None:
        scopes[", PyNCCL enabled"] = pynccl.change_state(enable=True)
    with Verdict() as verdict:
        for words, scope in scopes.items():
            with scope:
                for dtype, count in served.items():
                    brought = forms.flat(dtype, member.size, count)
                    with spies.between(group, found) as spy:
                        _by_group(member, verdict, group, brought, words)
                    call = f"the calls of {calls.spelt(brought)} by GroupCoordinator.all_reduce{words}"
                    verdict.equal(spy.reductions, 1, call=call, cause="the group goes by another engine than this one")


@requirement("CAR-060")
@on_ranks(2)
def test_capture_within_a_capture(member: Member) -> None:
    found = engines.group_s(member)
    with Verdict() as verdict:
        for _ in range(2):
            with expect.attempt(f"{engines.OWNER}.capture()", found.capture).value:
                _scope(found, "within another")
            expect.equal(bool(found.disabled), False, call=f"{engines.OWNER}.disabled after capture() within capture()")
            _each(member, verdict, found, ", after capture() within capture()")


def _each(member: Member, verdict: Verdict, found: Any, after: str, salt: int = 0) -> None:
    """Reduce of each type that is served."""
    for dtype, count in sizes.served(member).items():
        calls.reduced(member, verdict, found, forms.flat(dtype, member.size, count, salt), after=after)


def _scope(found: Any, words: str) -> None:
    def enter() -> None:
        with found.capture():
            pass

    expect.attempt(f"{engines.OWNER}.capture(), {words}", enter, where=engines.where(found, "capture"))


def _by_group(member: Member, verdict: Verdict, group: Any, brought: forms.Brought, words: str) -> None:
    tensor, _ = calls.given(member, brought)
    call = f"GroupCoordinator.all_reduce of {brought.words()}{words}"
    calls.judge(verdict, attempt(call, group.all_reduce, tensor), brought, call)
