"""NCCL: when a group has a PyNCCL communicator, and how it is enabled and disabled.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any
from unittest import mock

from ..contract.model import Contract
from . import expect
from .collecting import tensors
from .collecting.judging import Verdict, attempt
from .communicating import calls, communicators, states
from .declare import on_ranks, requirement
from .grouping import beside
from .member import Member

_GOES_ON = "SGLang's own all_reduce goes on to what was never made, and fails with an AttributeError"
_UNAVAILABLE = "a communicator of one rank is none: SGLang enables what says that it is available, and then calls it"


@requirement("NCCL-001")
@on_ranks(2, 4)
def test_groups_have_a_communicator_where_it_is_declared(member: Member, platform: Any) -> None:
    declared = bool(getattr(getattr(platform, "capabilities", None), "supports_pynccl", False))
    found = communicators.of(member.coordinator)
    call = f"get_tp_group().{communicators.OWNER} of {member.size} ranks"
    here = f"capabilities.supports_pynccl is {declared}"
    if declared:
        seen = communicators.why_none(member.coordinator)
        expect.that(found is not None, expected=f"an available communicator, as {here}", seen=seen, call=call)
        return
    seen = f"an available {communicators.kind(found)}"
    expect.that(found is None, expected=f"no available communicator, as {here}", seen=seen, call=call)
    raise expect.Declined(f"{here}, and the groups have no communicator that is available")


@requirement("NCCL-002")
@on_ranks(2, 4)
def test_all_ranks_have_a_communicator_of_the_same_kind(member: Member) -> str:
    found = communicators.of(member.coordinator)
    said = member.side.to_all("none" if found is None else communicators.kind(found))
    seen = ", ".join(f"rank {rank}: {each}" for rank, each in enumerate(said))
    call = f"get_tp_group().{communicators.OWNER} on each rank"
    expect.that(len(set(said)) == 1, expected="the same on every rank", seen=seen, call=call)
    return f"the groups' communicator is {communicators.described(communicators.group_s(member))}"


@requirement("NCCL-003")
@on_ranks(2, 4)
def test_communicator_is_disabled_at_first(member: Member) -> None:
    with communicators.further(member, {"fresh": beside.everyone(member.size)}) as made:
        if made["fresh"] is None:
            communicators.group_s(member)
            expect.fail(
                expected="a communicator, as the first group has one", seen="none", call="a second group of all"
            )
        for name, wanted in (("available", True), ("disabled", True)):
            call = f"{communicators.OWNER}.{name} of a new group"
            expect.equal(getattr(made["fresh"], name, None), wanted, call=call)


@requirement("NCCL-004")
@on_ranks(2, 4)
def test_communicator_knows_its_place_and_device(member: Member) -> None:
    found = communicators.group_s(member)
    for name, wanted in (("rank", member.number), ("world_size", member.size), ("device", member.device)):
        expect.equal(getattr(found, name, None), wanted, call=f"{communicators.OWNER}.{name} of rank {member.number}")


@requirement("NCCL-005")
@on_ranks(2, 4)
def test_disabled_communicator_returns_none_and_writes_nothing(member: Member) -> None:
    found, at = communicators.group_s(member), calls.seat(member)
    with Verdict() as verdict:
        for name in calls.names(found):
            parts = calls.suited(name, "float32", member.size, (3, 2))
            untouched = calls.prepared(name, found, at, parts)
            before = [tensors.numbers(held.laid.around) for held in (*untouched.results, *untouched.inputs)]
            with found.change_state(enable=False):
                attempt(f"{untouched.call}, disabled", untouched.begin, False)
            for held, numbers in zip((*untouched.results, *untouched.inputs), before, strict=True):
                call = f"{untouched.call}, disabled: the tensor afterwards"
                verdict.holds(held.laid.around, numbers, "float32", call)
        for method, answer in states.answers(found, member).items():
            verdict.equal(answer, None, call=f"{communicators.OWNER}.{method}, disabled")


@requirement("NCCL-006")
@on_ranks(2)
def test_change_state_holds_within_its_scope(member: Member) -> None:
    found = communicators.group_s(member)
    for enable in (True, False, None):
        given = "" if enable is None else f"enable={enable}"
        call, before = f"{communicators.OWNER}.change_state({given})", found.disabled
        scope = expect.attempt(
            call, partial(found.change_state, **({} if enable is None else {"enable": enable}))
        ).value
        expect.equal(found.disabled, before, call=f"disabled, after {call} and before its scope")
        with scope:
            expect.equal(found.disabled, enable is False, call=f"disabled, within {call}")
        expect.equal(found.disabled, before, call=f"disabled, after {call}")


@requirement("NCCL-007")
@on_ranks(2)
def test_state_is_restored_after_an_exception(member: Member) -> None:
    found = communicators.group_s(member)
    for error in (ValueError("of a capture"), KeyboardInterrupt()):
        call = f"{communicators.OWNER}.change_state(enable=True), left by a {type(error).__name__}"
        with contextlib.suppress(type(error)):
            with found.change_state(enable=True):
                raise error
            expect.fail(expected=f"the {type(error).__name__} itself", seen="no error: it was swallowed", call=call)
        expect.equal(found.disabled, True, call=f"disabled, after {call}")


@requirement("NCCL-008")
@on_ranks(2)
def test_scopes_within_scopes_restore_what_was(member: Member) -> None:
    states.run_machine(communicators.group_s(member))


@requirement("NCCL-009")
@on_ranks(2, 4)
def test_enabled_communicator_serves_again_after_being_disabled(member: Member) -> None:
    found, at = communicators.group_s(member), calls.seat(member)
    with Verdict() as verdict, found.change_state(enable=True):
        calls.demanded(verdict, "all_reduce", found, at, calls.suited("all_reduce", "float32", member.size, (5,)))
        with found.change_state(enable=False):
            attempt("all_reduce, disabled", found.all_reduce, tensors.poisoned((5,), "float32", member.device))
        calls.demanded(verdict, "all_reduce", found, at, calls.suited("all_reduce", "float32", member.size, (5,), 7))


@requirement("NCCL-010")
@on_ranks(2)
def test_one_rank_alone_has_no_communicator(member: Member) -> None:
    communicators.group_s(member)
    alone = [[rank] for rank in range(member.size)]
    with beside.added(member, {"alone": alone}) as made:
        found = getattr(made["alone"], communicators.OWNER, None)
        states.require_unavailable(found, f"{communicators.OWNER} of a group of one rank", _UNAVAILABLE)


@requirement("NCCL-011")
@on_ranks(2)
def test_what_is_enabled_without_being_available_says_so(member: Member, host: str) -> None:
    communicators.group_s(member)
    made = states.of_one_rank(member)
    with communicators.answered_by_sglang(member, host, "all_reduce", _GOES_ON):
        states.require_clear_refusal(made, tensors.poisoned((3,), "int32", member.device))


@requirement("NCCL-012")
@on_ranks(2)
def test_group_of_nccls_own_is_refused(member: Member) -> None:
    import torch.distributed as dist

    communicators.group_s(member)
    states.require_made_by_the_class(member)
    group, call = member.coordinator.cpu_group, "PyNcclCommunicator(group) over a group whose backend is nccl"
    with (
        mock.patch("torch.distributed.get_backend", return_value=dist.Backend.NCCL),
        mock.patch("torch.distributed.distributed_c10d.get_backend", return_value=dist.Backend.NCCL),
    ):
        try:
            communicators.the_class()(group=group, device=member.device)
        except Exception as error:
            expect.pass_on_uncovered(error)
            return
    expect.fail(expected="a refusal, with an error", seen="a communicator", call=call)


@requirement("NCCL-013")
@on_ranks(2)
def test_communicator_has_what_the_core_calls(member: Member, contract: Contract) -> None:
    found = communicators.group_s(member)
    for method, given in states.core_calls(contract).items():
        states.require_fit(found, method, given)


@requirement("NCCL-054")
@on_ranks(2)
def test_communicator_class_that_is_named_is_in_use(member: Member, platform: Any) -> None:
    answer = expect.ask(platform, "get_communicator_class")
    if not isinstance(answer.value, type):
        return  # none is named, or something that BE-010 reports
    held = [value for value in vars(member.coordinator).values() if isinstance(value, answer.value)]
    used = getattr(member.coordinator, communicators.OWNER, None)
    expect.that(
        held,
        expected=f"a {answer.value.__name__} in the groups of {member.size} ranks",
        seen="none" if used is None else f"none; {communicators.OWNER} is a {communicators.kind(used)}",
        answer=answer,
        cause="SGLang asks for the class in no release up to 0.5.23: a hook must put it in PyNcclCommunicator's place",
    )
