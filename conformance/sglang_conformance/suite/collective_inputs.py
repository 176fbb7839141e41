"""COL: what collectives of SGLang's GroupCoordinator leave as it was: what they are given, and what they gave before.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from .collecting import calls, drawn, rings, tensors
from .collecting.judging import Verdict, attempt, offered, served
from .collecting.parts import MOVE, Parts, each_type, moved, summed
from .declare import on_ranks, requirement
from .member import Member

_ROUNDS = 3


@requirement("COL-021")
@on_ranks(2, 4)
def test_what_is_given_stays_as_it_was(member: Member) -> None:
    group = member.coordinator
    with Verdict() as verdict:
        for shape in each_type(member, MOVE, drawn.FLOATS, times=1):
            parts = shape.for_each()
            whole = tensors.poisoned(parts.for_each().shape, parts.dtype, member.device)
            part = tensors.poisoned(shape.shape, parts.dtype, member.device)
            rooms = [tensors.poisoned(parts.shape, parts.dtype, member.device) for _ in range(member.size)]
            for name, given, options in (
                ("all_gather", (), {"dim": 0}),
                ("all_gather", (), {"output_tensor_list": rooms}),
                ("all_gather_into_tensor", (whole,), {}),
                ("reduce_scatter_tensor", (part,), {}),
                ("reduce_scatter_along_dim", (), {"dim": 0}),
            ):
                if hasattr(group, name):
                    function = partial(served, member, f"GroupCoordinator.{name} of {parts.words()}")
                    _leaves_its_input(member, verdict, parts, name, function, given, options)


@requirement("COL-021")
@on_ranks(2, 4)
def test_what_is_sent_stays_as_it_was(member: Member) -> None:
    import torch

    group = member.coordinator
    calls.require_peers(member)
    with Verdict() as verdict:
        for parts in each_type(member, MOVE, drawn.FLOATS, times=1):
            call = f"GroupCoordinator.send of {parts.words()}"
            own = tensors.laid(parts.of(member.number), parts.dtype, member.device, tensors.OFFSET)
            rings.passed_on(
                member,
                partial(attempt, call, group.send, own.tensor),
                partial(attempt, call, group.recv, torch.Size(parts.shape), getattr(torch, parts.dtype)),
            )
            _stays(verdict, own, parts, member.number, call)


@requirement("COL-021")
@on_ranks(2, 4)
def test_what_is_given_to_what_may_be_refused_stays_as_it_was(member: Member) -> None:
    group = member.coordinator
    with Verdict() as verdict:
        for shape in each_type(member, MOVE, drawn.FLOATS, times=1):
            parts = shape.for_each()
            part = tensors.poisoned(shape.shape, parts.dtype, member.device)
            rows = parts.shape[0]
            for name, given, options in (
                ("gather", (), {"dst": 0, "dim": 0}),
                ("all_gatherv", (), {"sizes": [rows] * member.size}),
                ("reduce_scatterv", (), {"sizes": [rows // member.size] * member.size}),
            ):
                _leaves_its_input(member, verdict, parts, name, partial(offered, member), given, options)
            call = f"GroupCoordinator.reduce_scatter of {member.size} tensors of {shape.words()}"
            own = tensors.laid(parts.of(member.number), parts.dtype, member.device, tensors.OFFSET)
            offered(member, group.reduce_scatter, part, list(own.tensor.chunk(member.size)))
            _stays(verdict, own, parts, member.number, call)


@requirement("COL-075")
@on_ranks(2, 4)
def test_results_of_each_kind_are_kept_when_the_next_come(member: Member) -> None:
    import torch

    group, before, results = member.coordinator, rings.preceding(member), list[Callable[[Verdict], None]]()
    peers = calls.served(member, (calls.PEERS,))
    for number in range(_ROUNDS):
        parts = moved(member, "float32", (2 * member.size, 3), 11 * number)
        own = tensors.made(parts.of(member.number), "float32", member.device)
        said = f"of {parts.words()}, result {number + 1} of {_ROUNDS}, looked at after the last"
        if hasattr(group, "reduce_scatter_along_dim"):
            sums = summed(member, "float32", parts.shape, 11 * number)
            given = tensors.made(sums.of(member.number), "float32", member.device)
            call = f"GroupCoordinator.reduce_scatter_along_dim {said}"
            got = served(member, call, group.reduce_scatter_along_dim, given, 0)
            results.append(partial(Verdict.scattered, got=got, whole=sums, rank=member.number, call=call))
        if not peers:
            continue
        call = f"GroupCoordinator.recv {said}"
        got = rings.passed_on(
            member,
            partial(attempt, call, group.send, own),
            partial(attempt, call, group.recv, torch.Size(parts.shape), torch.float32),
        )
        results.append(partial(Verdict.moved, got=got, parts=parts, rank=before, call=call))
        call = f"GroupCoordinator.recv_tensor_dict {said}"
        got = rings.passed_on(
            member,
            partial(attempt, call, group.send_tensor_dict, {"tensor": own}),
            partial(attempt, call, group.recv_tensor_dict),
        )
        results.append(partial(Verdict.moved, got=got["tensor"], parts=parts, rank=before, call=call))
    member.note(bool(peers))
    with Verdict() as verdict:
        for judge in results:
            judge(verdict)


@requirement("COL-075")
@on_ranks(2, 4)
def test_results_of_what_may_be_refused_are_kept_when_the_next_come(member: Member) -> None:
    group, results = member.coordinator, list[Callable[[Verdict], None]]()
    for number in range(_ROUNDS):
        parts = moved(member, "float32", (2, 3), 11 * number)
        sums = summed(member, "float32", (2 * member.size, 3), 11 * number)
        said = f"of {parts.words()}, result {number + 1} of {_ROUNDS}, looked at after the last"
        own = tensors.made(parts.of(member.number), "float32", member.device)
        given = tensors.made(sums.of(member.number), "float32", member.device)
        call = f"GroupCoordinator.gather {said}"
        got = offered(member, group.gather, own, dst=0, dim=0)
        if member.number == 0:
            results.append(partial(Verdict.gathered, got=got, parts=parts, call=call))
        got = offered(member, group.all_gatherv, own, sizes=[2] * member.size)
        got = got[0] if isinstance(got, (list, tuple)) and len(got) == 1 else got  # a list in SGLang, also of one
        call = f"GroupCoordinator.all_gatherv {said}"
        results.append(partial(Verdict.gathered, got=got, parts=parts, call=call))
        call = f"GroupCoordinator.reduce_scatterv {said}"
        got = offered(member, group.reduce_scatterv, given, sizes=[2] * member.size)
        results.append(partial(Verdict.scattered, got=got, whole=sums, rank=member.number, call=call))
    with Verdict() as verdict:
        for judge in results:
            judge(verdict)


def _leaves_its_input(
    member: Member,
    verdict: Verdict,
    parts: Parts,
    name: str,
    calling: Callable[..., Any],
    given: Sequence[Any],
    options: Mapping[str, Any],
) -> None:
    """That a method, called in that way, changes neither its last argument nor what lies around it."""
    own = tensors.laid(parts.of(member.number), parts.dtype, member.device, tensors.OFFSET)
    calling(getattr(member.coordinator, name), *given, own.tensor, **options)
    _stays(verdict, own, parts, member.number, f"GroupCoordinator.{name} of {parts.words()}")


def _stays(verdict: Verdict, own: tensors.Laid, parts: Parts, rank: int, call: str) -> None:
    verdict.moved(own.tensor, parts, rank, f"{call}: its input afterwards")
    verdict.equal(own.disturbed(), 0, call=f"{call}: changed elements around its input")
