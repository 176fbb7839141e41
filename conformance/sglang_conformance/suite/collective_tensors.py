"""COL: tensors that collectives of SGLang's GroupCoordinator seldom meet: large, empty, not contiguous, of integers.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from . import expect
from .collecting import calls, drawn, rings, tensors
from .collecting.judging import REFUSED, Verdict, attempt, offered, served
from .collecting.parts import each_type, moved, repeated, summed
from .declare import on_ranks, requirement
from .member import Member

if TYPE_CHECKING:
    from ..oracles.collectives import Array

_COUNT = 8_467
_SMALLER, _LARGER = 1, 31  # so many times that count, of eight bytes each: just above 64 KiB, and 2 MiB; all are odd


@requirement("COL-022")
@on_ranks(2, 4)
def test_gathers_of_what_is_not_contiguous_are_right_or_refused(member: Member) -> None:
    with Verdict() as verdict:
        for number, layout in enumerate((tensors.TRANSPOSED, tensors.STRIDED, tensors.EXPANDED)):
            parts = moved(member, drawn.FLOATS[number], ((3, 4), (2, 3, 4), (1, 5))[number], number)
            parts = replace(parts, copies=3) if layout == tensors.EXPANDED else parts
            own = tensors.laid(parts.of(member.number), parts.dtype, member.device, layout)
            for name, dim in (("all_gather", 0), ("all_gather", -1), ("gather", 0)):
                call = f"GroupCoordinator.{name} of {parts.dtype} {list(own.tensor.shape)}, {layout}, dim={dim}"
                got = offered(member, getattr(member.coordinator, name), own.tensor, dim=dim)
                if not (name == "gather" and member.number > 0):
                    verdict.gathered(got, parts, call, dim=dim)
            call = f"gathers of {parts.dtype} {list(own.tensor.shape)}, {layout}: changed elements around it"
            verdict.equal(own.disturbed(), 0, call=call)


@requirement("COL-026")
@on_ranks(2, 4)
def test_empty_tensors_pass_through(member: Member) -> None:
    group, call = member.coordinator, "of float32 [0, 4]"
    with Verdict() as verdict:
        for name, options in (("all_reduce", {}), ("all_gather", {"dim": 0}), ("broadcast", {"src": 1})):
            empty = tensors.poisoned((0, 4), "float32", member.device)
            got = attempt(f"GroupCoordinator.{name} {call}", getattr(group, name), empty, **options)
            seen = expect.show(tuple(getattr(got, "shape", ())))
            verdict.that(seen == "(0, 4)", expected="(0, 4)", seen=seen, call=f"GroupCoordinator.{name} {call}: shape")
        parts = summed(member, "float32", (4,))
        after = tensors.made(parts.of(member.number), "float32", member.device)
        call = "GroupCoordinator.all_reduce of float32 [4], after empty tensors"
        verdict.reduced(attempt(call, group.all_reduce, after), parts, call)


@requirement("COL-026")
@on_ranks(2, 4)
def test_empty_tensors_pass_through_further_methods_or_are_refused(member: Member) -> None:
    # Not through gather and all_to_all_single: of empty tensors torch's own gloo ends the process (2.13).
    group, size = member.coordinator, member.size

    def empty() -> Any:
        return tensors.poisoned((0, 4), "float32", member.device)

    several = [empty() for _ in range(size)]
    with Verdict() as verdict:
        for method, given in (
            (partial(group.all_gather, output_tensor_list=several), [empty()]),
            (group.all_gather_into_tensor, [empty(), empty()]),
            (group.reduce_scatter_tensor, [empty(), empty()]),
            (group.reduce_scatter, [empty(), several]),
        ):
            offered(member, method, *given)
        parts = moved(member, "float32", (4,))
        call = "GroupCoordinator.all_gather of float32 [4], after empty tensors"
        own = tensors.made(parts.of(member.number), parts.dtype, member.device)
        verdict.gathered(attempt(call, group.all_gather, own, dim=0), parts, call)


@requirement("COL-073")
@on_ranks(2, 4)
def test_large_gathers_are_right_throughout(member: Member) -> None:
    whole = summed(member, "float32", (member.size * 40961,))
    with Verdict() as verdict:
        for dtype, copies in (("bfloat16", _LARGER), ("float16", _SMALLER), ("float32", _SMALLER), ("int64", _SMALLER)):
            parts = repeated(moved(member, dtype, (_COUNT,)), copies)
            own = tensors.made(parts.of(member.number), parts.dtype, member.device)
            call = f"GroupCoordinator.all_gather of {parts.words()}"
            verdict.gathered(attempt(call, member.coordinator.all_gather, own, dim=0), parts, call)
        call = f"GroupCoordinator.reduce_scatter_tensor of {whole.words()}"
        room = tensors.poisoned((40961,), "float32", member.device)
        given = tensors.made(whole.of(member.number), "float32", member.device)
        if served(member, call, member.coordinator.reduce_scatter_tensor, room, given) is not REFUSED:
            verdict.scattered(room, whole, member.number, call)


@requirement("COL-027")
@on_ranks(2, 4)
def test_further_large_messages_are_right_or_refused(member: Member) -> None:
    import numpy as np

    group, mine = member.coordinator, member.number
    with Verdict() as verdict:
        for copies in _copies(member):
            parts = repeated(moved(member, "int64", (_COUNT,)), copies)
            every = parts.all()
            got = offered(member, group.gather, tensors.made(every[mine], "int64", member.device), dst=1, dim=0)
            if mine == 1:
                _judge(verdict, f"of {parts.words()}", "int64", "gather", got, np.concatenate(every))
        whole = summed(member, "float32", (member.size * _COUNT,))
        sums = [np.split(part, member.size) for part in whole.all()]
        room = tensors.poisoned((_COUNT,), "float32", member.device)
        given = [tensors.made(part, "float32", member.device) for part in sums[mine]]
        if offered(member, group.reduce_scatter, room, given) is not REFUSED:
            right = np.add.reduce([part[mine] for part in sums])
            _judge(verdict, f"of {whole.words()}", "float32", "reduce_scatter of a list", room, right)


@requirement("COL-072")
@on_ranks(2, 4)
def test_reductions_of_integers_are_right_or_refused(member: Member) -> None:
    group = member.coordinator
    with Verdict() as verdict:
        for parts in each_type(member, "sum", drawn.INTEGERS, times=1):
            call = f"GroupCoordinator.all_reduce of {parts.words()}"
            tensor = tensors.made(parts.of(member.number), parts.dtype, member.device)
            verdict.reduced(offered(member, group.all_reduce, tensor), parts, call)
            whole = parts.for_each()
            given = tensors.made(whole.of(member.number), parts.dtype, member.device)
            listed = [each.contiguous() for each in given.chunk(member.size)]
            for name, from_all in (("reduce_scatter_tensor", given), ("reduce_scatter", listed)):
                call = f"GroupCoordinator.{name} of {whole.words()}"
                room = tensors.poisoned(parts.shape, parts.dtype, member.device)
                if offered(member, getattr(group, name), room, from_all) is not REFUSED:
                    verdict.scattered(room, whole, member.number, call)


@requirement("COL-073")
@on_ranks(2, 4)
def test_large_messages_are_right_throughout(member: Member) -> None:
    import numpy as np
    import torch

    group, peers = member.coordinator, calls.served(member, (calls.PEERS,))
    with Verdict() as verdict:
        for copies in _copies(member):
            parts, count = repeated(moved(member, "int64", (_COUNT,)), copies), copies * _COUNT
            every, before = parts.all(), rings.preceding(member)
            own, said = tensors.made(every[member.number], "int64", member.device), f"of {parts.words()}"
            judge = partial(_judge, verdict, said, "int64")
            rooms = [tensors.poisoned((count,), "int64", member.device) for _ in every]
            attempt(f"all_gather into a list {said}", group.all_gather, own, output_tensor_list=rooms)
            for rank, room in enumerate(rooms):
                judge(f"all_gather into a list, element {rank},", room, every[rank])
            room = tensors.poisoned((member.size * count,), "int64", member.device)
            name = "all_gather_into_tensor"
            if served(member, f"{name} {said}", group.all_gather_into_tensor, room, own) is not REFUSED:
                judge(name, room, np.concatenate(every))
            if peers:
                got = rings.passed_on(
                    member,
                    partial(attempt, f"send {said}", group.send, own),
                    partial(attempt, f"recv {said}", group.recv, torch.Size((count,)), torch.int64),
                )
                judge("send, recv", got, every[before])
            last = member.size - 1
            judge("broadcast", attempt(f"broadcast {said}", group.broadcast, own, src=last), every[last])
    member.note(True)


@requirement("COL-073")
@on_ranks(2, 4)
def test_large_messages_are_parted_rightly_throughout(member: Member) -> None:
    import numpy as np

    group, mine = member.coordinator, member.number
    with Verdict() as verdict:
        for copies in _copies(member):
            parts, count = repeated(moved(member, "int64", (member.size * _COUNT,)), copies), copies * _COUNT
            every = [np.split(part, member.size) for part in parts.all()]
            own = tensors.made(np.concatenate(every[mine]), "int64", member.device)
            if hasattr(group, "all_to_all_single"):
                room, call = tensors.poisoned(own.shape, "int64", member.device), f"all_to_all_single {parts.words()}"
                if served(member, call, group.all_to_all_single, room, own) is not REFUSED:
                    theirs = np.concatenate([part[mine] for part in every])
                    _judge(verdict, f"of {parts.words()}", "int64", "all_to_all_single", room, theirs)
            whole = repeated(summed(member, "float32", parts.shape), copies)
            sums = [np.split(part, member.size) for part in whole.all()]
            right = np.add.reduce([part[mine] for part in sums])
            given = tensors.made(np.concatenate(sums[mine]), "float32", member.device)
            room, said = tensors.poisoned((count,), "float32", member.device), f"of {whole.words()}"
            if served(member, f"reduce_scatter_tensor {said}", group.reduce_scatter_tensor, room, given) is not REFUSED:
                _judge(verdict, said, "float32", "reduce_scatter_tensor", room, right)
            if hasattr(group, "reduce_scatter_along_dim"):
                name = "reduce_scatter_along_dim"
                got = served(member, f"{name} {said}", group.reduce_scatter_along_dim, given, 0)
                _judge(verdict, said, "float32", name, got, right)


@requirement("COL-074")
@on_ranks(2, 4)
def test_inputs_that_are_not_contiguous_are_right_or_refused(member: Member) -> None:
    # Not those of send, which NCCL passes on as they lie in memory; nor, as torch's own gloo takes them for contiguous
    # (2.13), those of a list, and of a broadcast where elements lie between them.
    group = member.coordinator
    with Verdict() as verdict:
        for number, layout in enumerate((tensors.TRANSPOSED, tensors.STRIDED)):
            parts = moved(member, drawn.FLOATS[number], (2 * member.size, 3), number)
            sums, said = replace(parts, operation="sum"), f"of {parts.words()}, {layout}"
            own, addend = (tensors.laid(p.of(member.number), p.dtype, member.device, layout) for p in (parts, sums))
            call = f"GroupCoordinator.broadcast {said}"
            given = tensors.laid(parts.of(member.number), parts.dtype, member.device, layout)
            if layout == tensors.TRANSPOSED and offered(member, group.broadcast, given.tensor, src=1) is not REFUSED:
                verdict.moved(given.tensor, parts, 1, f"{call}: its input afterwards")
            verdict.equal(given.disturbed(), 0, call=f"{call}: changed elements around it")
            room = tensors.poisoned(parts.for_each().shape, parts.dtype, member.device)
            if offered(member, group.all_gather_into_tensor, room, own.tensor) is not REFUSED:
                verdict.gathered(room, parts, f"GroupCoordinator.all_gather_into_tensor {said}")
            room = tensors.poisoned((2, 3), parts.dtype, member.device)
            if offered(member, group.reduce_scatter_tensor, room, addend.tensor) is not REFUSED:
                verdict.scattered(room, sums, member.number, f"GroupCoordinator.reduce_scatter_tensor {said}")
            if hasattr(group, "all_to_all_single"):
                room = tensors.poisoned(parts.shape, parts.dtype, member.device)
                if offered(member, group.all_to_all_single, room, own.tensor) is not REFUSED:
                    verdict.exchanged(room, parts, member.number, f"GroupCoordinator.all_to_all_single {said}")
            for each in (own, addend):
                verdict.equal(each.disturbed(), 0, call=f"collectives {said}: changed elements around their input")


@requirement("COL-074")
@on_ranks(2, 4)
def test_outputs_that_are_not_contiguous_are_right_or_refused(member: Member) -> None:
    # Not those of all_to_all_single and of reduce_scatter: torch's own gloo takes them for contiguous (2.13).
    group = member.coordinator
    with Verdict() as verdict:
        for number, layout in enumerate((tensors.TRANSPOSED, tensors.STRIDED)):
            parts = moved(member, drawn.FLOATS[number], (2 * member.size, 3), number)
            own = tensors.made(parts.of(member.number), parts.dtype, member.device)
            room, call = _room(parts.for_each().shape, parts.dtype, member, layout), f"into a tensor that is {layout}"
            if offered(member, group.all_gather_into_tensor, room.tensor, own) is not REFUSED:
                verdict.gathered(room.tensor, parts, f"GroupCoordinator.all_gather_into_tensor {call}")
            rooms = [_room(parts.shape, parts.dtype, member, layout) for _ in range(member.size)]
            listed = [each.tensor for each in rooms]
            if offered(member, group.all_gather, own, output_tensor_list=listed) is not REFUSED:
                for rank, each in enumerate(listed):
                    verdict.moved(each, parts, rank, f"GroupCoordinator.all_gather into a list, {layout}: {rank}")
            sums = replace(parts, operation="sum")
            given = tensors.made(sums.of(member.number), parts.dtype, member.device)
            part = _room((2, 3), parts.dtype, member, layout)
            if offered(member, group.reduce_scatter_tensor, part.tensor, given) is not REFUSED:
                verdict.scattered(part.tensor, sums, member.number, f"GroupCoordinator.reduce_scatter_tensor {call}")
            for each in (room, part, *rooms):
                verdict.equal(each.disturbed(), 0, call=f"collectives {call}: changed elements around it")


def _copies(member: Member) -> tuple[int, ...]:
    """Small groups have both sizes, larger ones, where each call takes so much longer, the smaller."""
    return (_SMALLER, _LARGER) if member.size == 2 else (_SMALLER,)


def _judge(verdict: Verdict, said: str, dtype: str, name: str, got: Any, expected: Array) -> None:
    verdict.holds(got, expected, dtype, f"GroupCoordinator.{name} {said}")


def _room(shape: Sequence[int], dtype: str, member: Member, layout: str) -> tensors.Laid:
    """Room for a result in that layout, poisoned."""
    import numpy as np

    found = tensors.laid(np.zeros(tuple(shape)), dtype, member.device, layout)
    found.tensor.fill_(tensors.poison(dtype))
    return found
