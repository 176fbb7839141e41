"""Captured collectives of a group: what they are given before each replay, and what a replay must then give.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...contract.model import Contract
from .. import expect
from ..collecting import tensors
from ..collecting.judging import REFUSED, Verdict, attempt, tried
from ..collecting.parts import MOVE, Parts
from ..communicating import communicators
from ..member import Member
from . import plain, scopes, ways

COUNT = 64
"""Elements of most tensors here: whole packs of 16 bytes in each type, one and more for each of many ranks."""


@dataclass(frozen=True)
class Captured:
    """A collective of a group over a tensor of this rank's, whose numbers are set anew before each replay."""

    coordinator: Any
    own: Any
    dtype: str

    operation = "sum"
    name = "all_reduce"

    def work(self) -> Any:
        """What is captured: the tensor is made within, as the layer before makes it."""
        return self.coordinator.all_reduce(self.own + 0)

    def given(self, salt: int) -> Parts:
        """Bring other numbers, on every rank."""
        group = self.coordinator
        parts = Parts(self.operation, self.dtype, group.world_size, tuple(self.own.shape), salt)
        self.own.copy_(tensors.made(parts.of(group.rank_in_group), self.dtype, self.own.device))
        return parts

    def judge(self, verdict: Verdict, got: Any, parts: Parts, call: str) -> None:
        """Say where the result is wrong."""
        verdict.reduced(got, parts, call)

    def has_engine(self) -> bool:
        """Whether an engine of the group takes it in a capture: PyNCCL, or a custom all-reduce that says so."""
        if communicators.of(self.coordinator) is not None:
            return True
        custom = scopes.custom(self.coordinator)
        return self.name == "all_reduce" and custom is not None and bool(custom.should_custom_ar(self.own))

    @property
    def words(self) -> str:
        """The call, for people."""
        return f"GroupCoordinator.{self.name} of {self.dtype} {list(self.own.shape)}"


@dataclass(frozen=True)
class Gather(Captured):
    """An all-gather along a dimension, as that of the logits."""

    dim: int = -1

    operation = MOVE
    name = "all_gather"

    def work(self) -> Any:
        """What is captured."""
        return self.coordinator.all_gather(self.own + 0, dim=self.dim)

    def judge(self, verdict: Verdict, got: Any, parts: Parts, call: str) -> None:
        """Say where the result is wrong."""
        verdict.gathered(got, parts, call, dim=self.dim)


@dataclass(frozen=True)
class Scatter(Captured):
    """A reduce-scatter along the first dimension."""

    name = "reduce_scatter_tensor"

    def work(self) -> Any:
        """What is captured."""
        given = self.own + 0
        output = given[: len(given) // self.coordinator.world_size] * 0
        self.coordinator.reduce_scatter_tensor(output, given)
        return output

    def judge(self, verdict: Verdict, got: Any, parts: Parts, call: str) -> None:
        """Say where the result is wrong."""
        verdict.scattered(got, parts, self.coordinator.rank_in_group, call)


def all_reduce(
    member: Member, coordinator: Any = None, *, dtype: str = "float32", shape: tuple[int, ...] = (COUNT,)
) -> Captured:
    """An all-reduce of the group of all ranks, or of another one."""
    return Captured(coordinator or member.coordinator, tensors.poisoned(shape, dtype, member.device), dtype)


def required(member: Member, platform: Any, contract: Contract, each: Captured | None = None) -> list[ways.Way]:
    """The ways of capturing a collective, an all-reduce where none is given. Declined where there is none.

    What an engine takes is captured. What none takes goes to torch.distributed, which SGLang has for eager work alone
    (0.5.23, srt/distributed/parallel_state.py: graph_capture): its backend may refuse, on all ranks alike.
    """
    each = all_reduce(member) if each is None else each
    found = [way for way in ways.of(member.device, platform, contract) if _works(member, way)]
    if not found:
        raise expect.NotReached("no graph without a collective is captured and replayed")
    if each.has_engine():
        return found
    served = [way for way in found if _served(member, way, each)]
    if not served:
        raise expect.Declined("the groups have no engine for captures, and torch.distributed refuses to be captured")
    return served


def captured(member: Member, way: ways.Way, each: Captured) -> ways.Graph:
    """The graph of one collective, in a capture of its own."""
    each.given(0)
    with scopes.capturing(member, way):
        graph: ways.Graph = attempt(f"{each.words}, captured by {way.words}", way.capture, each.work)
    return graph


def replays(verdict: Verdict, graph: ways.Graph, each: Captured, salts: tuple[int, ...], words: str) -> None:
    """Replay with other numbers each time: every replay must work on these. ``words`` say of which graph."""
    for salt in salts:
        parts, call = each.given(salt), f"{each.words}, {words}"
        got = attempt(f"{call}: a replay", graph.replay)
        tensors.synchronise(each.own.device)
        each.judge(verdict, got, parts, f"{call}: after a replay")


def eagerly(verdict: Verdict, each: Captured, salt: int, words: str) -> None:
    """Do it without a graph, and judge it."""
    parts, call = each.given(salt), f"{each.words}, {words}"
    got = attempt(call, each.work)
    tensors.synchronise(each.own.device)
    each.judge(verdict, got, parts, call)


def _works(member: Member, way: ways.Way) -> bool:
    """Whether a way captures work without a collective, on every rank: where not, other requirements tell it."""
    each = plain.line(member.device)

    def once() -> None:
        with scopes.capturing(member, way):
            graph = way.capture(each.work)
        each.gives(graph, [1, 2, 3, 4], way.words)

    try:
        done = tried(once) is not REFUSED
    except expect.NotCovered:
        done = False
    return all(member.side.to_all(done))


def _served(member: Member, way: ways.Way, each: Captured) -> bool:
    """Whether torch.distributed is captured; a violation where it is on some ranks only."""
    done = tried(captured, member, way, each) is not REFUSED
    said = member.side.to_all(done)
    if any(said) and not all(said):
        expect.fail(
            expected="the same on every rank",
            seen=", ".join(f"rank {rank}: {'captured' if ok else 'refused'}" for rank, ok in enumerate(said)),
            call=f"{each.words}, captured by {way.words}",
        )
    return done
