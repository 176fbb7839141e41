"""COL: every method of SGLang's GroupCoordinator in groups of some ranks, whose places there are not their numbers.

Each group has numbers of its own, so that what crosses from one to another shows.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from .collecting import calls, rings, tensors
from .collecting.judging import REFUSED, Verdict, attempt, offered, served
from .collecting.parts import MOVE, Parts, moved, summed
from .declare import on_ranks, requirement
from .grouping import beside, joining
from .member import Member


@dataclass(frozen=True)
class _Inside:
    """A rank in one group: its ``member`` counts there, by places; ``salt`` is the group's own."""

    member: Member
    group: Any
    ranks: list[int]
    verdict: Verdict

    @property
    def place(self) -> int:
        """The rank's place in the group."""
        return self.member.number

    @property
    def size(self) -> int:
        """The group's."""
        return self.member.size

    @property
    def salt(self) -> int:
        """What makes the group's numbers its own."""
        return 7 * self.ranks[0] + len(self.ranks)

    def moved(self, dtype: str, *shape: int) -> Parts:
        """What the group's ranks move."""
        return moved(self.member, dtype, shape, self.salt)

    def summed(self, dtype: str, *shape: int) -> Parts:
        """What they sum."""
        return summed(self.member, dtype, shape, self.salt)

    def own(self, parts: Parts) -> Any:
        """The part of the rank, on its device."""
        return tensors.made(parts.of(self.place), parts.dtype, self.member.device)

    def room(self, parts: Parts) -> Any:
        """Room for one part."""
        return tensors.poisoned(parts.shape, parts.dtype, self.member.device)

    def call(self, method: str) -> str:
        """A call in this group, for people."""
        return f"GroupCoordinator.{method} in a group of ranks {self.ranks}"


@contextmanager
def _inside(member: Member, lists: beside.Lists) -> Iterator[_Inside]:
    """Groups of these ranks beside the host's own, and the rank in its own of them; judged once they are destroyed."""
    ranks = next(ranks for ranks in lists if member.number in ranks)
    counted = replace(member, number=ranks.index(member.number), size=len(ranks))
    with Verdict() as verdict, beside.added(member, {"inside": lists}) as made:
        yield _Inside(counted, made["inside"], ranks, verdict)


@requirement("COL-071")
@on_ranks(2, 4)
def test_collectives_keep_to_their_group_and_its_places(member: Member) -> None:
    peers = calls.served(member, (calls.PEERS,))
    with _inside(member, beside.strided(member.size)) as inside:
        _reduces(inside)
        _gathers(inside)
        _broadcasts(inside)
        if inside.size > 1:
            _scatters(inside)
            _fills(inside)
            _passes_objects_on(inside)
            if peers:
                _passes_on(inside)
                _passes_dictionaries_on(inside)


@requirement("COL-076")
@on_ranks(2, 4)
def test_further_collectives_keep_to_their_group_and_its_places(member: Member) -> None:
    with _inside(member, [[0], list(range(1, member.size))]) as inside:
        _gathers_to_one(inside)
        if inside.size > 1:
            _scatters_lists(inside)
            _broadcasts_lists(inside)
        said = member.side.to_all(inside.member.served)
        call = f"calls that ranks {inside.ranks} are served, in their group"
        inside.verdict.equal(inside.member.served, said[inside.ranks[0]], call=call)
        member.note(any(map(any, said)))


@requirement("COL-014")
@on_ranks(2, 4, joined=False)
def test_functions_of_tensor_parallelism_keep_to_their_stage(member: Member) -> None:
    tp = 2 if member.size % 2 == 0 and member.size > 2 else 1
    stage, place = divmod(member.number, tp)
    made = joining.made(member, f"tp={tp}, pp={member.size // tp}", tp=tp, pp=member.size // tp)
    source = 0 if getattr(made["tp"], "mq_broadcaster", None) is not None else tp - 1  # its queue has one source
    operations = importlib.import_module("sglang.srt.distributed.communication_op")
    where = f"in stage {stage} of {member.size // tp}, of {tp} ranks each"
    sums, parts = (Parts(kind, "float32", tp, (3, 5), 7 * stage) for kind in ("sum", MOVE))
    total, own = (tensors.made(each.of(place), "float32", member.device) for each in (sums, parts))
    with Verdict() as verdict:
        call = f"tensor_model_parallel_all_reduce of float32 [3, 5] {where}"
        verdict.reduced(attempt(call, operations.tensor_model_parallel_all_reduce, total), sums, call)
        call = f"tensor_model_parallel_all_gather of float32 [3, 5] {where}"
        verdict.gathered(attempt(call, operations.tensor_model_parallel_all_gather, own), parts, call, dim=1)
        call = f"broadcast_tensor_dict from place {source} {where}"
        got = attempt(call, operations.broadcast_tensor_dict, {"tensor": own} if place == source else None, source)
        verdict.equal(sorted(got or {}), ["tensor"], call=f"{call}: the keys")
        verdict.moved((got or {}).get("tensor"), parts, source, call)


def _reduces(inside: _Inside) -> None:
    for dtype in ("float32", "bfloat16"):
        parts, call = inside.summed(dtype, 3, 5), inside.call(f"all_reduce of {dtype} [3, 5]")
        inside.verdict.reduced(attempt(call, inside.group.all_reduce, inside.own(parts)), parts, call)


def _gathers(inside: _Inside) -> None:
    parts = inside.moved("float32", 3, 5)
    for dim in (0, -1):
        call = inside.call(f"all_gather of {parts.words()}, dim={dim}")
        inside.verdict.gathered(
            attempt(call, inside.group.all_gather, inside.own(parts), dim=dim), parts, call, dim=dim
        )
    call = inside.call(f"all_gather of {parts.words()} into a list")
    rooms = [inside.room(parts) for _ in inside.ranks]
    attempt(call, inside.group.all_gather, inside.own(parts), output_tensor_list=rooms)
    for place, room in enumerate(rooms):
        inside.verdict.moved(room, parts, place, f"{call}: element {place}")
    call = inside.call("all_gather_object")
    every = [f"of place {place}, {inside.salt}" for place in range(inside.size)]
    inside.verdict.equal(attempt(call, inside.group.all_gather_object, every[inside.place]), every, call=call)


def _broadcasts(inside: _Inside) -> None:
    parts = inside.moved("int64", 4)
    for source in range(inside.size):
        call = inside.call(f"broadcast of {parts.words()}, src={source}")
        got = attempt(call, inside.group.broadcast, inside.own(parts), src=source)
        inside.verdict.moved(got, parts, source, call)
    for source in _sources(inside):
        thing = {"of": source, "salt": inside.salt}
        call = inside.call(f"broadcast_object, src={source}")
        got = attempt(call, inside.group.broadcast_object, thing if inside.place == source else None, src=source)
        inside.verdict.equal(got, thing, call=call)


def _scatters(inside: _Inside) -> None:
    parts, method = inside.summed("float32", 2, 3), "reduce_scatter_tensor"
    whole = parts.for_each()
    room, call = inside.room(parts), inside.call(f"{method} of {whole.words()}")
    if served(inside.member, call, inside.group.reduce_scatter_tensor, room, inside.own(whole)) is not REFUSED:
        inside.verdict.scattered(room, whole, inside.place, call)
    if hasattr(inside.group, "reduce_scatter_along_dim"):
        call = inside.call(f"reduce_scatter_along_dim of {whole.words()}, dim=0")
        got = served(inside.member, call, inside.group.reduce_scatter_along_dim, inside.own(whole), 0)
        inside.verdict.scattered(got, whole, inside.place, call)


def _fills(inside: _Inside) -> None:
    parts = inside.moved("bfloat16", 2, 3)
    whole = parts.for_each()
    room, call = inside.room(whole), inside.call(f"all_gather_into_tensor of {parts.words()}")
    if served(inside.member, call, inside.group.all_gather_into_tensor, room, inside.own(parts)) is not REFUSED:
        inside.verdict.gathered(room, parts, call)
    if hasattr(inside.group, "all_to_all_single"):
        room, call = inside.room(whole), inside.call(f"all_to_all_single of {whole.words()}")
        if served(inside.member, call, inside.group.all_to_all_single, room, inside.own(whole)) is not REFUSED:
            inside.verdict.exchanged(room, whole, inside.place, call)


def _passes_on(inside: _Inside) -> None:
    import torch

    group, member = inside.group, inside.member
    parts = inside.moved("float32", 2, 3)
    for dst, src in ((None, None), (rings.following(member), rings.preceding(member))):
        call = inside.call(f"send({parts.words()}, dst={dst}), recv(src={src})")
        got = rings.passed_on(
            member,
            partial(attempt, call, group.send, inside.own(parts), dst),
            partial(attempt, call, group.recv, torch.Size(parts.shape), torch.float32, src),
        )
        inside.verdict.moved(got, parts, rings.preceding(member), call)


def _passes_objects_on(inside: _Inside) -> None:
    group, member, before = inside.group, inside.member, rings.preceding(inside.member)
    call = inside.call("send_object, recv_object")
    got = rings.passed_on(
        member,
        partial(attempt, call, group.send_object, [inside.place, inside.salt], dst=rings.following(member)),
        partial(attempt, call, group.recv_object, src=before),
    )
    inside.verdict.equal(got, [before, inside.salt], call=call)


def _passes_dictionaries_on(inside: _Inside) -> None:
    group, member, before = inside.group, inside.member, rings.preceding(inside.member)
    parts, call = inside.moved("float32", 2, 3), inside.call("send_tensor_dict, recv_tensor_dict")
    given = {"tensor": inside.own(parts), "place": inside.place}
    got = rings.passed_on(
        member, partial(attempt, call, group.send_tensor_dict, given), partial(attempt, call, group.recv_tensor_dict)
    )
    _judge_dictionary(inside, got, parts, before, call)
    if hasattr(group, "send_recv_tensor_dict"):
        call = inside.call("send_recv_tensor_dict")
        got = attempt(call, group.send_recv_tensor_dict, given)
        _judge_dictionary(inside, got, parts, before, call)


def _judge_dictionary(inside: _Inside, got: Any, parts: Parts, place: int, call: str) -> None:
    if got is REFUSED:
        return
    got = got if isinstance(got, dict) else {}
    inside.verdict.equal(got.get("place"), place, call=call)
    inside.verdict.moved(got.get("tensor"), parts, place, call)


def _gathers_to_one(inside: _Inside) -> None:
    parts = inside.moved("float32", 3, 5)
    for target in range(inside.size):
        call = inside.call(f"gather of {parts.words()}, dst={target}")
        got = offered(inside.member, inside.group.gather, inside.own(parts), dst=target, dim=0)
        if inside.place == target:
            inside.verdict.gathered(got, parts, call)
        elif got is not REFUSED:
            inside.verdict.equal(got, None, call=call)


def _scatters_lists(inside: _Inside) -> None:
    parts = inside.summed("float32", 2, 3)
    whole = parts.for_each()
    room, call = inside.room(parts), inside.call(f"reduce_scatter of {inside.size} tensors of {parts.words()}")
    given = [each.contiguous() for each in inside.own(whole).chunk(inside.size)]
    if offered(inside.member, inside.group.reduce_scatter, room, given) is not REFUSED:
        inside.verdict.scattered(room, whole, inside.place, call)


def _broadcasts_lists(inside: _Inside) -> None:
    for source in range(inside.size):
        call = inside.call(f"broadcast_object_list, src={source}")
        given = [source, inside.salt] if inside.place == source else [None, None]
        got = offered(inside.member, inside.group.broadcast_object_list, given, src=source)
        if got is not REFUSED:
            inside.verdict.equal(got, [source, inside.salt], call=call)
    parts = inside.moved("float32", 2, 3)
    for source in _sources(inside):
        call = inside.call(f"broadcast_tensor_dict, src={source}")
        own = {"tensor": inside.own(parts), "place": source} if inside.place == source else None
        got = offered(inside.member, inside.group.broadcast_tensor_dict, own, src=source)
        _judge_dictionary(inside, got, parts, source, call)


def _sources(inside: _Inside) -> range:
    """The places that objects can be broadcast from: only the first, where the host gave the group its queue."""
    return range(1 if getattr(inside.group, "mq_broadcaster", None) is not None else inside.size)
