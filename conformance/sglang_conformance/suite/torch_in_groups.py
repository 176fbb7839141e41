"""COL: torch.distributed's collectives in groups of some ranks, of large, random and oddly laid out tensors, and with
ranks that come late.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .collecting import calls, distributed, drawn, tensors
from .collecting.judging import REFUSED, Verdict, attempt, offered, tried
from .collecting.prepared import Seat
from .declare import on_ranks, requirement
from .member import Member

_PLACED = ("broadcast", "all_gather", "reduce_scatter_tensor", "reduce", "gather", "scatter", "all_to_all_single")
_LATE = 0.008
"""Seconds by which a rank comes later: many times what a collective of these takes."""
_JUST_LARGE, _LARGE = 64 * 1024, 2 * 1024 * 1024
"""Bytes: what each rank brings is a little more; of the latter, what a rank has of all together."""
_SINGLE = 8_209
"""Elements of which large tensors are put together: no piece of a round size holds the same numbers as the next."""


@requirement("COL-080")
@on_ranks(2, 4)
def test_torch_counts_places_within_a_group_and_ranks_in_the_world(member: Member) -> None:
    names = calls.served(member, (*_PLACED, calls.PEERS))
    with Verdict() as verdict:
        for turn, layout in enumerate(_layouts(member.size)):
            with distributed.groups(member, *layout) as groups:
                for salt, (group, ranks) in enumerate(zip(groups, layout, strict=True)):
                    if group is not None:
                        _in_group(verdict, names, calls.seat(member, group, ranks), turn, 17 * salt)


def _layouts(size: int) -> list[list[tuple[int, ...]]]:
    """Groups that share no rank: strided, and then pairs shifted by one; places there are not the ranks' numbers."""
    strided = [tuple(range(first, size, 2)) for first in range(2)]
    shifted = [tuple(range(first, min(first + 2, size - 1))) for first in range(1, size - 1, 2)]
    return [strided, [*shifted, (0, size - 1)]] if size > 2 else [strided]


def _in_group(verdict: Verdict, names: Sequence[str], here: Seat, turn: int, salt: int) -> None:
    for number, name in enumerate(names):
        parts = calls.suited(name, "float32", here.size, (3, 2), salt + number)
        if here.size > 1:
            calls.demanded(verdict, name, here, parts, (turn + number) % here.size)
        elif name != calls.PEERS:  # SGLang calls nothing in a group of one: it may be refused
            done = tried(calls.called, name, here, parts)
            if done is not REFUSED:
                done.judge(verdict)


@requirement("COL-081")
@on_ranks(2, 4)
def test_torch_moves_large_tensors_whole(member: Member) -> None:
    here, names = calls.seat(member), calls.served(member, (*_PLACED, calls.PEERS))
    with Verdict() as verdict:
        for name in names:
            dtype, width = ("float32", 4) if name.startswith("reduce") else ("int64", 8)
            bytes_in_all = (_JUST_LARGE, _LARGE) if member.size == 2 else (_JUST_LARGE,)
            for turn, size in enumerate(bytes_in_all):
                parted = size == _LARGE and name not in ("broadcast", "reduce", calls.PEERS)
                copies = -(-size // (width * _SINGLE * (member.size if parted else 1)))
                parts = calls.suited(name, dtype, member.size, (_SINGLE,), copies=copies)
                calls.demanded(verdict, name, here, parts, turn % member.size)


@requirement("COL-082")
@on_ranks(2, 4)
def test_torch_sums_random_numbers_to_the_types_precision(member: Member) -> None:
    import torch.distributed as dist

    has_reduce = bool(calls.served(member, ("reduce",)))
    cases = [(dtype, 5_000, 1) for dtype in drawn.FLOATS] + [("bfloat16", 5_000, 200)] * (member.size == 2)
    with Verdict() as verdict:
        for seed, (dtype, count, times) in enumerate(cases):
            parts = _noise(dtype, count * times, seed, member.size, times)
            root, number = seed % member.size, member.number
            words = f"{dtype} [{count * times}], random numbers"

            def own(dtype: str = dtype, mine: Any = parts[number]) -> Any:
                return tensors.made(mine, dtype, member.device)

            call = f"torch.distributed.all_reduce of {words}"
            total = own()
            attempt(call, dist.all_reduce, total, group=member.group)
            verdict.near_sum(total, parts, dtype, call)
            if times > 1:
                continue
            call = f"torch.distributed.reduce_scatter_tensor of {words}"
            room = tensors.poisoned((count // member.size,), dtype, member.device)
            attempt(call, distributed.reduce_scatter_single, room, own(), group=member.group)
            mine = slice(number * len(room), (number + 1) * len(room))
            verdict.near_sum(room, [part[mine] for part in parts], dtype, call)
            if has_reduce:
                call, total = f"torch.distributed.reduce of {words}, root {root}", own()
                attempt(call, dist.reduce, total, root, group=member.group)
                if number == root:
                    verdict.near_sum(total, parts, dtype, call)


def _noise(dtype: str, count: int, seed: int, size: int, times: int) -> list[Any]:
    """Every rank's random numbers: so many ``times`` the same, which is quicker."""
    import numpy as np

    from ..oracles import collectives as oracle

    whole = count // times // size * size
    return [np.tile(oracle.noise(dtype, whole, 0, 100 * seed + rank), times) for rank in range(size)]


@requirement("COL-083")
@on_ranks(2, 4)
def test_torch_takes_tensors_that_are_not_contiguous_rightly_or_refuses(member: Member) -> None:
    here = calls.seat(member)
    strided = (
        "all_gather",
        "all_gather_into_tensor",
        "gather",
        "reduce_scatter_tensor",
        "all_to_all_single",
        calls.PEERS,
    )
    # Others take every tensor that is dense for its memory, which is right where all ranks lay it out alike; of strided
    # ones gloo reduces and sends the memory between the columns (torch 2.13), so nothing is asked of those.
    offers = {tensors.STRIDED: strided, tensors.TRANSPOSED: ("all_reduce", "reduce", "broadcast", "scatter")}
    with Verdict() as verdict:
        for layout, names in offers.items():
            for name in names:
                parts = calls.suited(name, "float32", member.size, (3, 4))
                done = offered(member, calls.called, name, here, parts, 0, layout)
                if done is not REFUSED:
                    done.judge(verdict)


@requirement("COL-084")
@on_ranks(2, watched=False)
def test_what_follows_torchs_wait_sees_the_result(member: Member) -> None:
    names = calls.served(member, ("all_reduce", "all_gather_into_tensor", *_PLACED, calls.PEERS))
    with Verdict() as verdict:
        for number, name in enumerate(names):
            for late, async_op in ((0, True), (1, True), (number % 2, False)):
                _come_late(verdict, member, name, late, async_op)


def _come_late(verdict: Verdict, member: Member, name: str, late: int, async_op: bool) -> None:
    """One collective to which a rank comes later: the other has called it by then, and must not read too early."""
    here, first = calls.seat(member), 1 - late
    root = first if name in ("reduce", "gather") or not async_op else late
    parts = calls.suited(name, "float32", member.size, (41, 7), 5 * late)
    done = calls.prepared(name, here, parts, root)
    call = f"{done.call}, {'async_op=True, ' if async_op else ''}rank {late} comes later"
    done = replace(done, call=call)
    if member.number == late:
        member.side.wait(call, 1)
        time.sleep(_LATE)
    else:
        member.side.add(call)
    works = attempt(call, done.begin, async_op)
    for work in works[:1]:
        attempt(f"{call}: wait", work.wait)
    copies = done.copies()  # made by the current stream, with nothing that waits for the device
    for work in works[1:]:  # a send, which waits for the other rank, and so would have the receipt come meanwhile
        attempt(f"{call}: wait", work.wait)
    done.spoil()
    done.judge(verdict, copies)
