"""GRAPH: captures of a group's collectives that fail on one rank, and what captures and replays leave behind.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

from ..contract.model import Contract
from .collecting import tensors
from .collecting.judging import Verdict, attempt
from .declare import on_ranks, requirement
from .graphing import collectives, module, plain, scopes, ways
from .graphing.collectives import COUNT
from .graphing.plain import Interruption
from .member import Member

_MIB = 1 << 20
_FIRST, _ROUNDS = 2, 6  # captures that may take memory for good, and others
_REPLAYS = 100


@requirement("GRAPH-035")
@on_ranks(2, 4)
def test_failure_of_one_rank_in_a_capture_reaches_it_alone(member: Member, platform: Any, contract: Contract) -> None:
    with Verdict() as verdict:
        for way in collectives.required(member, platform, contract):
            each = collectives.all_reduce(member)
            calls = _calls(member, way, each)
            for culprit in range(member.size):
                call = f"{each.words}, captured by {way.words}, where rank {culprit} raises in the capture"
                raised, caught = Interruption(f"raised on rank {culprit}"), None
                try:
                    _capture_where_one_raises(member, way, each, raised if member.number == culprit else None, calls)
                except Exception as error:
                    caught = error
                if member.number == culprit:
                    verdict.note(partial(plain.comes_out, caught, raised, call))
                member.side.meet()
                collectives.eagerly(verdict, each, culprit, f"after rank {culprit} has raised in a capture")
                graph = collectives.captured(member, way, each)
                words = f"captured by {way.words} after rank {culprit} has raised in another capture"
                collectives.replays(verdict, graph, each, (1, 20), words)
            way.clear()


@requirement("GRAPH-036")
@on_ranks(2, 4)
def test_captured_collectives_give_their_memory_back(member: Member, platform: Any, contract: Contract) -> None:
    for way in collectives.required(member, platform, contract):
        held: list[dict[str, int]] = []
        for _ in range(_FIRST + _ROUNDS):
            each = collectives.all_reduce(member, shape=(_MIB // 4,))
            graph = collectives.captured(member, way, each)
            attempt(f"{each.words}, captured by {way.words}: a replay", graph.replay)
            tensors.synchronise(member.device)
            way.clear()
            del each, graph
            gc.collect()
            held.append({"bytes": module.allocated(module.of(member.device)), **plain.held()})
        allowed = {"bytes": _ROUNDS // 2 * _MIB, "threads": _ROUNDS // 2}
        what, call = (
            f"{_ROUNDS} captures of 1 MiB and more, each of them let go",
            f"all-reduces captured by {way.words}",
        )
        plain.takes_less(held[_FIRST - 1], held[-1], allowed, after=what, call=call)


@requirement("GRAPH-039")
@on_ranks(2, 4)
def test_replays_of_collectives_take_nothing(member: Member, platform: Any, contract: Contract) -> None:
    for way in collectives.required(member, platform, contract):
        each = collectives.all_reduce(member)
        graph = collectives.captured(member, way, each)

        def after(count: int, graph: ways.Graph = graph) -> dict[str, int]:
            for _ in range(count):
                graph.replay()
            tensors.synchronise(member.device)
            gc.collect()
            return {"bytes": module.allocated(module.of(member.device)), **plain.held()}

        before, now = after(_REPLAYS // 10), after(_REPLAYS)
        allowed = {"bytes": _REPLAYS * COUNT * 4, "descriptors": _REPLAYS // 4, "threads": _REPLAYS // 4}
        call = f"{each.words}, captured by {way.words}: replays"
        plain.takes_less(before, now, allowed, after=f"{_REPLAYS} replays", call=call)
        way.clear()


def _calls(member: Member, way: ways.Way, each: collectives.Captured) -> int:
    """How often this way calls the work of a capture, with its warm-ups."""
    counted: list[None] = []

    def work() -> Any:
        counted.append(None)
        return each.work()

    each.given(0)
    with scopes.capturing(member, way):
        attempt(f"{each.words}, captured by {way.words}", way.capture, work)
    return len(counted)


def _capture_where_one_raises(
    member: Member, way: ways.Way, each: collectives.Captured, raised: Exception | None, calls: int
) -> None:
    """Capture on every rank; on one the last call of the work, which is captured, raises behind its collective."""
    left = iter(range(calls - 1, -1, -1))

    def work() -> Any:
        result = each.work()
        if next(left) == 0 and raised is not None:
            raise raised
        return result

    with scopes.capturing(member, way):
        way.capture(work)
