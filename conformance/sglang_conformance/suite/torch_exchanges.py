"""COL: what torch.distributed carries between ranks on the platform's backend, and what it refuses.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from . import expect
from .collecting import calls, distributed, drawn, rings, tensors
from .collecting.judging import REFUSED, Verdict, attempt, offered, tried
from .collecting.parts import MOVE, Parts, each_type
from .declare import on_ranks, requirement
from .member import Member

_EIGHT_BITS = ("float8_e4m3fn", "float8_e5m2")
_splits = st.lists(st.lists(st.integers(0, 3), min_size=8, max_size=8), min_size=8, max_size=8)
"""How many rows each rank has for each other: of rank s for rank d, at [s % 8][d % 8]."""


@requirement("COL-051")
@on_ranks(2, 4)
@given(dtype=drawn.floats, width=st.integers(1, 3), splits=_splits, salt=drawn.salts)
def test_torch_exchanges_unequal_parts(
    member: Member, dtype: str, width: int, splits: list[list[int]], salt: int
) -> None:
    ranks = range(member.size)
    rows = [[splits[source % 8][target % 8] for target in ranks] for source in ranks]
    with Verdict() as verdict:
        _exchanged(verdict, member, Parts(MOVE, dtype, member.size, (1, width), salt), rows)


@requirement("COL-051")
@on_ranks(2, 4)
def test_torch_exchanges_other_parts_of_the_same_shapes(member: Member) -> None:
    """What remembers how to split a shape is wrong here: each rank gives and takes as many rows in each turn."""
    ranks = range(member.size)
    with Verdict() as verdict:
        for turn in ranks:
            rows = [[(source + target + turn) % member.size for target in ranks] for source in ranks]
            _exchanged(verdict, member, Parts(MOVE, "float32", member.size, (1, 3), 3 * turn), rows)


def _exchanged(verdict: Verdict, member: Member, parts: Parts, rows: Sequence[Sequence[int]]) -> None:
    """Exchange parts of so many rows, of rank s for rank d at ``[s][d]``, and judge what this rank was given."""
    import numpy as np
    import torch.distributed as dist

    from ..oracles import collectives as oracle

    ranks, (_, width), dtype = range(member.size), parts.shape, parts.dtype
    wholes = [parts.of(rank, (sum(rows[rank]), width)) for rank in ranks]
    given, taken = list(rows[member.number]), [rows[source][member.number] for source in ranks]
    call = f"torch.distributed.all_to_all_single of {dtype}, {width} wide, splits {given} in and {taken} out"
    room = tensors.poisoned((sum(taken), width), dtype, member.device)
    own = tensors.made(wholes[member.number], dtype, member.device)
    attempt(call, dist.all_to_all_single, room, own, taken, given, group=member.group)
    theirs = oracle.exchanged([oracle.split(w, rows[r]) for r, w in enumerate(wholes)], member.number)
    verdict.holds(room, np.concatenate(theirs), dtype, call)


@requirement("COL-052")
@on_ranks(2, 4)
def test_torch_exchanges_lists_or_refuses(member: Member) -> None:
    import torch.distributed as dist

    with Verdict() as verdict:
        for each in each_type(member, MOVE, drawn.FLOATS):
            parts = [replace(each, salt=each.salt + 7 * target) for target in range(member.size)]
            given = [tensors.made(part.of(member.number), each.dtype, member.device) for part in parts]
            rooms = [tensors.poisoned(each.shape, each.dtype, member.device) for _ in parts]
            if offered(member, dist.all_to_all, rooms, given, group=member.group) is REFUSED:
                continue
            call = f"torch.distributed.all_to_all of {member.size} tensors of {each.words()}"
            for source, room in enumerate(rooms):
                verdict.moved(room, parts[member.number], source, f"{call}: element {source}")


@requirement("COL-053")
@on_ranks(2, 4)
def test_torch_sends_and_receives_in_both_orders(member: Member) -> None:
    calls.require_peers(member)
    here = calls.seat(member)
    with Verdict() as verdict:
        for number, parts in enumerate(each_type(member, MOVE, drawn.MOVED, scalars=True)):
            calls.demanded(verdict, calls.PEERS, here, parts, number)


@requirement("COL-054")
@on_ranks(2, 4)
def test_torch_sends_and_receives_in_one_batch(member: Member) -> None:
    import torch.distributed as dist

    before, after, group = rings.preceding(member), rings.following(member), member.group
    calls.require_peers(member)
    with Verdict() as verdict:
        for messages in (1, 2, 6):
            each = itertools.cycle(each_type(member, MOVE, drawn.MOVED, scalars=True))
            parts = list(itertools.islice(each, messages, 2 * messages))
            call = f"torch.distributed.batch_isend_irecv of {messages} tensors to the next rank, from the one before"
            given = [tensors.made(each.of(member.number), each.dtype, member.device) for each in parts]
            rooms = [tensors.poisoned(each.shape, each.dtype, member.device) for each in parts]
            batch = [dist.P2POp(dist.isend, tensor, after, group=group) for tensor in given]
            batch += [dist.P2POp(dist.irecv, room, before, group=group) for room in rooms]
            for work in attempt(call, dist.batch_isend_irecv, batch):
                attempt(f"{call}: wait", work.wait)
            for number, room in enumerate(rooms):
                verdict.moved(room, parts[number], before, f"{call}: tensor {number}, of {parts[number].words()}")


@requirement("COL-055")
@on_ranks(2, 4)
def test_torch_moves_eight_bit_floats_rightly_or_refuses(member: Member) -> None:
    import torch.distributed as dist

    def sent(parts: Parts, root: int) -> Any:
        """The tensor, which a device without such types refuses, broadcast."""
        tensor = tensors.made(parts.of(member.number), parts.dtype, member.device)
        dist.broadcast(tensor, root, group=member.group)
        return tensor

    with Verdict() as verdict:
        for number, parts in enumerate(each_type(member, MOVE, _EIGHT_BITS)):
            root = number % member.size
            got = offered(member, sent, parts, root)
            verdict.moved(got, parts, root, f"torch.distributed.broadcast of {parts.words()}, src={root}")


@requirement("COL-056")
@on_ranks(2, 4)
def test_torch_carries_objects_on_the_devices_group(member: Member) -> None:
    import torch.distributed as dist

    every = [{"rank": rank, "text": "x" * 100 * rank, "list": [rank] * 3} for rank in range(member.size)]
    gathered: list[Any] = [None] * member.size
    call = "torch.distributed.all_gather_object on the device's group"
    attempt(call, dist.all_gather_object, gathered, every[member.number], group=member.group)
    with Verdict() as verdict:
        verdict.equal(gathered, every, call=call)
        for root in range(member.size):
            call = f"torch.distributed.broadcast_object_list on the device's group, src={root}"
            sent = [every[root], root] if member.number == root else [None, None]
            attempt(call, dist.broadcast_object_list, sent, src=root, group=member.group)
            verdict.equal(sent, [every[root], root], call=call)


@requirement("COL-057")
@on_ranks(2, 4)
def test_torch_takes_host_tensors_rightly_or_refuses(member: Member) -> None:
    import torch
    import torch.distributed as dist

    parts = Parts("sum", "float32", member.size, (3, 5))
    tensor = tensors.made(parts.of(member.number), parts.dtype, torch.device("cpu"))
    if offered(member, dist.all_reduce, tensor, group=member.group) is not REFUSED:
        with Verdict() as verdict:
            verdict.reduced(tensor, parts, f"torch.distributed.all_reduce of {parts.words()} of the host")


@requirement("COL-058")
@on_ranks(2, 4)
def test_torch_refuses_sizes_and_types_that_do_not_fit(member: Member) -> None:
    import torch
    import torch.distributed as dist

    group, size = member.group, member.size

    def zeros(count: int, dtype: Any = torch.float32) -> Any:
        return torch.zeros(count, dtype=dtype, device=member.device)

    calls = {
        "all_gather into tensors of another type": lambda: dist.all_gather(
            [zeros(2, torch.int32)] * size, zeros(2), group
        ),
        "all_gather_into_tensor into one too large": lambda: distributed.all_gather_single(
            zeros(2 * size + 1), zeros(2), group=group
        ),
        "all_gather_into_tensor into one too small": lambda: distributed.all_gather_single(
            zeros(2 * size - 1), zeros(2), group=group
        ),
        "all_gather_into_tensor into another type": lambda: distributed.all_gather_single(
            zeros(2 * size, torch.int32), zeros(2), group=group
        ),
        "all_to_all_single with splits that are not the sizes": lambda: dist.all_to_all_single(
            zeros(2 * size), zeros(2 * size), [2] * size, [3] * size, group=group
        ),
        "all_to_all_single into another type": lambda: dist.all_to_all_single(
            zeros(2 * size, torch.int32), zeros(2 * size), group=group
        ),
        "send to itself": lambda: dist.send(zeros(2), member.number, group=group),
    }
    with Verdict() as verdict:
        for name, action in calls.items():
            got = tried(action)
            call = f"torch.distributed.{name}"
            verdict.that(got is REFUSED, expected="an error", seen="no error", call=call)
        parts = Parts("sum", "float32", size, (5,))
        tensor = tensors.made(parts.of(member.number), "float32", member.device)
        call = "torch.distributed.all_reduce of float32 [5], after calls that were refused"
        attempt(call, dist.all_reduce, tensor, group=group)
        verdict.reduced(tensor, parts, call)


@requirement("COL-059")
@on_ranks(2, 4)
def test_root_outside_of_the_group_is_refused(member: Member) -> None:
    import torch.distributed as dist

    with distributed.groups(member, range(member.size - 1)) as (group,):
        if group is not None:
            tensor = tensors.poisoned((2,), "float32", member.device)
            call = f"torch.distributed.broadcast in a group of ranks 0 to {member.size - 2}, src={member.size - 1}"
            got = tried(dist.broadcast, tensor, member.size - 1, group=group)
            expect.that(got is REFUSED, expected="an error", seen="no error", call=call)
