"""NCCL: what stands between a communicator and its library: codes, ids, errors; and what is left of it at the end.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

from ..certificate.model import Finding
from ..oracles import nccl
from . import expect
from .collecting import tensors
from .collecting.judging import Verdict
from .communicating import calls, communicators, states
from .declare import in_probe, on_ranks, requirement
from .grouping import beside, holdings
from .member import Member

_WRAPPER = "sglang.srt.distributed.device_communicators.pynccl_wrapper"
_KIB = 1 << 10
_CYCLES = 6
_LEAVES_OPEN = "SGLang's own all_gather leaves its group open where a type has no code"
_KEEPS = "SGLang's own class keeps its communicators while the process lives"
_WAITS = "SGLang's own class has the other ranks wait until their group's timeout"


@requirement("NCCL-045")
@in_probe
def test_codes_of_types_are_nccls(platform: Any) -> None:
    import torch

    table = _table("ncclDataTypeEnum")
    for name, code in nccl.NAMED_TYPES.items():
        expect.equal(getattr(table, name, None), code, call=f"ncclDataTypeEnum.{name}")
    for name, code in nccl.TYPES.items():
        call = f"ncclDataTypeEnum.from_torch(torch.{name})"
        expect.equal(expect.attempt(call, partial(table.from_torch, getattr(torch, name))), code)
    _refuses(partial(table.from_torch, torch.complex64), "ncclDataTypeEnum.from_torch(torch.complex64)")


@requirement("NCCL-046")
@in_probe
def test_codes_of_reductions_are_nccls(platform: Any) -> None:
    from torch.distributed import ReduceOp

    table = _table("ncclRedOpTypeEnum")
    for name, code in nccl.NAMED_REDUCTIONS.items():
        expect.equal(getattr(table, name, None), code, call=f"ncclRedOpTypeEnum.{name}")
    for name, code in nccl.REDUCTIONS.items():
        call = f"ncclRedOpTypeEnum.from_torch(ReduceOp.{name})"
        expect.equal(expect.attempt(call, partial(table.from_torch, getattr(ReduceOp, name))), code)
    _refuses(partial(table.from_torch, ReduceOp.BXOR), "ncclRedOpTypeEnum.from_torch(ReduceOp.BXOR)")


@requirement("NCCL-047")
@on_ranks(2)
def test_unique_ids_are_of_their_length_and_differ(member: Member) -> None:
    found = communicators.group_s(member)
    make = getattr(getattr(found, "nccl", None), "ncclGetUniqueId", None)
    if not callable(make):
        raise expect.Declined("the communicator has no library of NCCL's API under the name nccl to be asked")
    made = [bytes(expect.attempt("ncclGetUniqueId()", make).value) for _ in range(8)]
    for each in made:
        expect.equal(len(each), nccl.UNIQUE_ID_BYTES, call="len(ncclGetUniqueId())")
    expect.equal(len(set(made)), len(made), call="different ids among 8 of ncclGetUniqueId()")


@requirement("NCCL-048")
@on_ranks(2, 4)
def test_errors_of_the_library_are_raised(member: Member) -> None:
    found, at = communicators.group_s(member), calls.seat(member)
    with communicators.enabled(found):
        for beyond in (member.size, -1):
            tensor = tensors.poisoned((4,), "float32", member.device)
            call = f"{communicators.OWNER}.broadcast(tensor, src={beyond}) in a group of {member.size}"
            _raised(partial(found.broadcast, tensor, src=beyond), call)
        with Verdict() as verdict:  # a call that was refused has done no harm
            calls.demanded(verdict, "all_reduce", found, at, calls.suited("all_reduce", "float32", at.size, (3,)))


@requirement("NCCL-049")
@on_ranks(2)
def test_errors_say_what_the_library_says(member: Member) -> None:
    found = communicators.group_s(member)
    told = getattr(getattr(found, "nccl", None), "ncclGetErrorString", None)
    if not callable(told):
        raise expect.Declined("the communicator has no library of NCCL's API under the name nccl to be asked")
    words = str(expect.attempt("ncclGetErrorString(4)", partial(told, nccl.INVALID_ARGUMENT)).value)
    call = f"{communicators.OWNER}.broadcast(tensor, src={member.size}) in a group of {member.size}"
    with communicators.enabled(found):
        tensor = tensors.poisoned((4,), "float32", member.device)
        error = _raised(partial(found.broadcast, tensor, src=member.size), call)
    expect.that(words in str(error), expected=f"an error with the words {words!r}", seen=expect.show(error), call=call)


@requirement("NCCL-050")
@on_ranks(2)
def test_exchange_that_cannot_be_parted_is_refused(member: Member) -> None:
    found = communicators.group_s(member)
    if not communicators.offers(found, "all_to_all_single"):
        raise expect.Declined("this release's communicator has no all_to_all_single")
    with communicators.enabled(found):
        for given, taken in ((member.size + 1, member.size + 1), (2 * member.size, member.size)):
            call = f"{communicators.OWNER}.all_to_all_single of {given} elements into {taken}, on {member.size} ranks"
            out, into = (tensors.poisoned((count,), "float32", member.device) for count in (taken, given))
            _raised(partial(found.all_to_all_single, out, into), call)


@requirement("NCCL-053")
@on_ranks(2)
def test_what_fails_leaves_no_group_open(member: Member, host: str) -> None:
    """A group that stays open keeps all that follows in its thread, which looks as if it had been done."""
    import torch

    found, at = communicators.group_s(member), calls.seat(member)
    rows = [1 + rank for rank in range(member.size)]
    own, whole = (
        torch.ones(count, 2, dtype=torch.complex64).to(member.device) for count in (rows[at.place], sum(rows))
    )
    call = f"{communicators.OWNER}.all_gather of complex64 with sizes={rows}"
    with communicators.answered_by_sglang(member, host, "all_gather", _LEAVES_OPEN), communicators.enabled(found):
        try:
            found.all_gather(whole, own, sizes=rows)
        except Exception as error:
            expect.pass_on_uncovered(error)
        else:
            raise expect.Declined(f"{call} is served")
        try:
            with Verdict() as verdict:
                calls.demanded(
                    verdict, "all_reduce", found, at, calls.suited("all_reduce", "float32", at.size, (3,), 2)
                )
        finally:
            with contextlib.suppress(Exception):  # there is none, where all is well
                found.group_end()


@requirement("NCCL-051")
@on_ranks(2, watched=False)
def test_communicators_come_and_go_without_a_trace(member: Member, platform: Any, host: str) -> None:
    communicators.group_s(member)

    def cycle(number: int) -> None:
        parts = calls.suited("all_reduce", "float32", member.size, (5,), number)
        with (
            communicators.further(member, {"again": beside.everyone(member.size)}) as made,
            communicators.enabled(made["again"]) as found,
            Verdict() as verdict,
        ):
            calls.demanded(verdict, "all_reduce", found, calls.seat(member), parts)

    for number in range(2):
        cycle(number)  # what is made once is made here
    grown = holdings.grown(cycle, _CYCLES, 512 * _KIB, member.device, platform)
    with communicators.answered_by_sglang(member, host, "__init__", _KEEPS):
        for name, seen in grown.items():
            call = f"{name} after {_CYCLES} groups with a communicator, made, used and destroyed in turn"
            expect.fail(expected="as much as before", seen=seen, call=call, cause="the communicator is not given back")


@requirement("NCCL-052")
@on_ranks(2)
def test_rank_without_the_library_keeps_no_other_waiting(member: Member, host: str) -> None:
    communicators.group_s(member)
    states.require_made_by_the_class(member)
    if communicators.is_sglangs_own(host, "__init__"):  # it would hang until the deadline
        raise expect.HostDefect(_WAITS)
    last = member.number == member.size - 1
    group, asked = beside.on_host(list(range(member.size))), list[bool]()
    call = f"PyNcclCommunicator on all ranks, of which rank {member.size - 1} has no library"
    with _without_library(asked) if last else states.as_it_is():
        try:
            made = communicators.the_class()(group=group, device=member.device)
        except Exception as error:
            expect.pass_on_uncovered(error)
            made = None
    if not any(member.side.to_all(bool(asked))):
        raise expect.Declined("the communicator has its library from elsewhere than SGLang's binding")
    states.require_unavailable(made, call, "it goes on alone")
    member.side.meet()
    beside.destroy(group)


@contextmanager
def _without_library(asked: list[bool]) -> Iterator[None]:
    def load(*_: Any, **__: Any) -> None:
        asked.append(True)
        raise OSError("libnccl.so.2: cannot open shared object file: No such file or directory")

    with mock.patch.object(importlib.import_module(_WRAPPER).NCCLLibrary, "__init__", load):
        yield


def _table(name: str) -> Any:
    return getattr(importlib.import_module(_WRAPPER), name)


def _refuses(action: Any, call: str) -> None:
    try:
        value = action()
    except ValueError:
        return
    except Exception as error:
        expect.fail(expected="ValueError", seen=f"{type(error).__name__}: {error}", call=call)
    expect.fail(expected="ValueError", seen=f"the code {value!r}", call=call)


def _raised(action: Any, call: str) -> Exception:
    try:
        answer = action()
    except Exception as error:
        expect.pass_on_uncovered(error)
        return error
    seen, cause = f"none; it returned {expect.show(answer)}", "the library's result is not looked at"
    raise expect.Violation(Finding("an error", seen, call, cause=cause))
