"""COL: what SGLang's GroupCoordinator carries from some ranks to others: tensors, objects and dictionaries of both.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ..hosts import groups
from . import expect
from .collecting import calls, distributed, drawn, rings, tensors
from .collecting.dictionaries import Dictionary
from .collecting.judging import REFUSED, Verdict, attempt, tried
from .collecting.parts import MOVE, each_type, moved, rooted, summed
from .declare import on_ranks, requirement
from .grouping import joining
from .member import Member

_LATE = 0.01  # seconds by which one rank is later than the others
_THINGS: tuple[Any, ...] = ("", {"text": "é" * 70_000}, [1, None, 2.5, {"inner": [True, "x"]}])
"""Plain objects: nothing to speak of, one that is too long for small buffers, one within another."""

_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | drawn.texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(drawn.texts, inner, max_size=3),
    max_leaves=6,
)


@requirement("COL-028")
@on_ranks(2, 4)
def test_gather_joins_on_its_destination(member: Member) -> None:
    with Verdict() as verdict:
        for parts, root in rooted(each_type(member, MOVE, drawn.MOVED)):
            for dim in range(-len(parts.shape), len(parts.shape)):
                call = f"GroupCoordinator.gather of {parts.words()}, dst={root}, dim={dim}"
                tensor = tensors.made(parts.of(member.number), parts.dtype, member.device)
                got = attempt(call, member.coordinator.gather, tensor, dst=root, dim=dim)
                if member.number == root:
                    verdict.gathered(got, parts, call, dim=dim)
                else:
                    verdict.that(got is None, expected="None", seen=expect.show(got), call=call)


@requirement("COL-029")
@on_ranks(2, 4)
def test_broadcast_writes_the_sources_tensor(member: Member) -> None:
    with Verdict() as verdict:
        for parts, source in rooted(each_type(member, MOVE, drawn.MOVED, scalars=True)):
            call = f"GroupCoordinator.broadcast of {parts.words()} {tensors.OFFSET}, src={source}"
            room = tensors.laid(parts.of(member.number), parts.dtype, member.device, tensors.OFFSET)
            got = attempt(call, member.coordinator.broadcast, room.tensor, src=source)
            verdict.moved(got, parts, source, call)
            verdict.moved(room.tensor, parts, source, f"{call}: its input afterwards")
            verdict.equal(room.disturbed(), 0, call=f"{call}: changed elements around it")


@requirement("COL-030")
@on_ranks(2, 3, 4)
def test_tensors_go_to_the_next_rank(member: Member) -> None:
    import torch

    group, before = member.coordinator, rings.preceding(member)
    calls.require_peers(member)
    with Verdict() as verdict:
        for number, parts in enumerate(each_type(member, MOVE, drawn.MOVED, scalars=True)):
            own = tensors.made(parts.of(member.number), parts.dtype, member.device)
            dst, src = (None, None) if number % 2 else (rings.following(member), before)
            call = f"GroupCoordinator.send({parts.words()}, dst={dst}), recv(src={src})"
            got = rings.passed_on(
                member,
                partial(attempt, call, group.send, own, dst),
                partial(attempt, call, group.recv, torch.Size(parts.shape), getattr(torch, parts.dtype), src),
                odd_first=number % 4 > 1,
            )
            verdict.moved(got, parts, before, call)


@requirement("COL-031")
@on_ranks(2, 4)
def test_object_of_each_source_reaches_all(member: Member) -> None:
    with Verdict() as verdict:
        for name, group in (("tp", member.coordinator), ("world", groups.group("world"))):
            # Only the first can, where the host has given the group its queue in shared memory.
            queued = getattr(group, "mq_broadcaster", None) is not None
            for source in range(1 if queued else member.size):
                for thing in _THINGS:
                    call = f"{name}: GroupCoordinator.broadcast_object, src={source}"
                    own = [source, thing] if member.number == source else None
                    verdict.equal(attempt(call, group.broadcast_object, own, src=source), [source, thing], call=call)


@requirement("COL-032")
@on_ranks(2, 4)
def test_object_list_of_each_source_reaches_all(member: Member) -> None:
    with Verdict() as verdict:
        for source in range(member.size):
            call = f"GroupCoordinator.broadcast_object_list, src={source}"
            mine = member.number == source
            given = [source, "x" * 1000, {"rank": source}] if mine else [None, None, None]
            got = attempt(call, member.coordinator.broadcast_object_list, given, src=source)
            verdict.equal(got, [source, "x" * 1000, {"rank": source}], call=call)


@requirement("COL-033")
@on_ranks(2, 4)
def test_objects_are_gathered_by_rank(member: Member) -> None:
    with Verdict() as verdict:
        for thing in _THINGS:
            # Of unequal lengths, as what they are sent in must hold the longest.
            every = [{"of": rank, "thing": [thing] * rank} for rank in range(member.size)]
            call = "GroupCoordinator.all_gather_object"
            verdict.equal(attempt(call, member.coordinator.all_gather_object, every[member.number]), every, call=call)


@requirement("COL-034")
@on_ranks(2, 4)
def test_objects_go_to_the_next_rank(member: Member) -> None:
    before = rings.preceding(member)
    with Verdict() as verdict:
        for number, thing in enumerate(_THINGS * 2):
            later, works = number % 2 == 1, list[Any]()
            call = f"GroupCoordinator.send_object(async_send={later}), recv_object"
            send = partial(
                attempt, call, member.coordinator.send_object, [member.number, thing], dst=rings.following(member)
            )
            got = rings.passed_on(
                member,
                lambda: works.extend(send(async_send=later) or ()),  # noqa: B023 - called at once
                partial(attempt, call, member.coordinator.recv_object, src=before),
                odd_first=number % 4 > 1,
            )
            _wait(call, works)
            verdict.equal(got, [before, thing], call=call)


@requirement("COL-035")
@on_ranks(2, 4)
def test_tensor_dictionary_of_one_rank_reaches_all(member: Member) -> None:
    with Verdict() as verdict:
        for number, parts in enumerate(each_type(member, MOVE, drawn.MOVED, scalars=True, times=1)):
            given = Dictionary(parts, _THINGS[number % len(_THINGS)])
            name, group = (("tp", member.coordinator), ("world", groups.group("world")))[number % 2]
            # Only the first can, where the host has given the group its queue in shared memory.
            source = 0 if getattr(group, "mq_broadcaster", None) is not None else member.size - 1
            call = f"{name}: GroupCoordinator.broadcast_tensor_dict with {given.words()}, src={source}"
            own = given.of(source, member.device) if member.number == source else None
            given.judge(verdict, attempt(call, group.broadcast_tensor_dict, own, src=source), source, member, call)


@requirement("COL-036")
@on_ranks(2, 4)
@given(dtype=drawn.moved, shape=drawn.shapes, thing=_plain, later=st.booleans(), salt=drawn.salts)
def test_tensor_dictionaries_go_to_the_next_rank(
    member: Member, dtype: str, shape: list[int], thing: Any, later: bool, salt: int
) -> None:
    given, group = Dictionary(moved(member, dtype, shape, salt), thing), member.coordinator
    call = f"GroupCoordinator.send_tensor_dict(async_send={later}), recv_tensor_dict with {given.words()}"
    own, works = given.of(member.number, member.device), list[Any]()
    calls.require_peers(member)
    got = rings.passed_on(
        member,
        lambda: works.extend(attempt(call, group.send_tensor_dict, own, async_send=later) or ()),
        lambda: attempt(call, group.recv_tensor_dict),
    )
    _wait(call, works)
    with Verdict() as verdict:
        given.judge(verdict, got, rings.preceding(member), member, call)


@requirement("COL-037")
@on_ranks(2, 4)
def test_tensor_dictionaries_are_sent_and_received_at_once(member: Member) -> None:
    calls.require_peers(member)
    with Verdict() as verdict:
        for number, parts in enumerate(each_type(member, MOVE, drawn.MOVED, scalars=True, times=1)):
            # SGLang hands all tensors to one batch, which torch wants on one group: none of the host's among them.
            given = Dictionary(parts, _THINGS[number % len(_THINGS)], host=False)
            call = f"GroupCoordinator.send_recv_tensor_dict with {given.words()}"
            got = attempt(call, member.coordinator.send_recv_tensor_dict, given.of(member.number, member.device))
            given.judge(verdict, got, rings.preceding(member), member, call)


@requirement("COL-038")
@on_ranks(2, 4, joined=False)
def test_tensor_dictionaries_between_stages_are_put_together(member: Member) -> None:
    tp = 2 if member.size % 2 == 0 and member.size > 2 else 1
    with joining.joined(member, f"tp={tp}, pp={member.size // tp}", tp=tp, pp=member.size // tp):
        stages, peers = groups.group("pp"), groups.group("attention_tp")
        calls.require_peers(member, groups.group("world").device_group)
        stage = stages.rank_in_group
        with Verdict() as verdict:
            for dtype, shape in (("bfloat16", (4, 6)), ("float32", (3, 1)), ("int64", (2,))):
                parts = moved(member, dtype, shape)
                call = f"send_tensor_dict, recv_tensor_dict of {parts.words()} between stages of {tp} ranks"
                own = {"hidden": tensors.made(parts.of(stage), dtype, member.device), "number": stage}
                if stage < stages.world_size - 1:
                    attempt(call, stages.send_tensor_dict, own, all_gather_group=peers)
                if stage > 0:
                    got = attempt(call, stages.recv_tensor_dict, all_gather_group=peers)
                    verdict.moved(got.get("hidden"), parts, stage - 1, call)
                    verdict.equal(got.get("number"), stage - 1, call=call)


@requirement("COL-039")
@on_ranks(2, 4, watched=False)
def test_barrier_waits_for_every_rank(member: Member) -> None:
    with Verdict() as verdict:
        for late in range(member.size):
            if member.number == late:
                time.sleep(_LATE)
            member.side.add(f"barrier {late}")
            call = f"GroupCoordinator.barrier, to which rank {late} comes later"
            attempt(call, member.coordinator.barrier)
            come = member.side.read(f"barrier {late}")
            verdict.equal(come, member.size, call=f"{call}: ranks that have come when it returns")


@requirement("COL-040")
@on_ranks(2, 4)
def test_ranks_and_dimensions_that_are_none_are_refused(member: Member) -> None:
    group, beyond = member.coordinator, member.size
    tensor = tensors.poisoned((2, 3), "float32", member.device)
    wrong = {
        "all_gather(dim=5) of two dimensions": lambda: group.all_gather(tensor, dim=5),
        "gather(dim=5) of two dimensions": lambda: group.gather(tensor, dst=0, dim=5),
        f"broadcast(src={beyond})": lambda: group.broadcast(tensor, src=beyond),
        f"broadcast_object(src={beyond})": lambda: group.broadcast_object("x", src=beyond),
        f"broadcast_object_list(src={beyond})": lambda: group.broadcast_object_list(["x"], src=beyond),
        "send_object to itself": lambda: group.send_object("x", dst=member.number),
        "recv_object from itself": lambda: group.recv_object(src=member.number),
    }
    with Verdict() as verdict:
        for name, action in wrong.items():
            got = tried(action)
            seen = "no error"
            verdict.that(got is REFUSED, expected="an error", seen=seen, call=f"GroupCoordinator.{name}")
        parts = summed(member, "float32", (5,))
        call = "GroupCoordinator.all_reduce of float32 [5], after calls that were refused"
        own = tensors.made(parts.of(member.number), "float32", member.device)
        verdict.reduced(attempt(call, group.all_reduce, own), parts, call)


@requirement("COL-041")
@on_ranks(2, 4)
def test_hosts_group_carries_host_tensors(member: Member) -> None:
    import torch
    import torch.distributed as dist

    group, host, root = member.coordinator.cpu_group, torch.device("cpu"), member.size - 1
    with Verdict() as verdict:
        for parts in each_type(member, MOVE, drawn.INTEGERS):
            counts, dtype = replace(parts, operation="sum"), parts.dtype
            total, own = (tensors.made(each.of(member.number), dtype, host) for each in (counts, parts))
            whole = tensors.poisoned(parts.for_each().shape, dtype, host)
            call = f"of {parts.words()} of the host on the coordinator's cpu_group"
            attempt(f"all_reduce {call}", dist.all_reduce, total, group=group)
            attempt(f"all_gather_into_tensor {call}", distributed.all_gather_single, whole, own, group=group)
            attempt(f"broadcast {call}", dist.broadcast, own, member.coordinator.ranks[root], group=group)
            verdict.reduced(total, counts, f"all_reduce {call}")
            verdict.gathered(whole, parts, f"all_gather_into_tensor {call}")
            verdict.moved(own, parts, root, f"broadcast {call}, from rank {root}")


def _wait(call: str, works: list[Any]) -> None:
    """Wait for what was sent to be sent."""
    for each in works:
        if each.work is not None:
            attempt(f"{call}: wait", each.work.wait)
