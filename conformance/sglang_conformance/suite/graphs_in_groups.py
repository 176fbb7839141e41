"""GRAPH: collectives of a group in captured graphs, whichever engine of the group does them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import time
from functools import partial
from itertools import cycle
from typing import Any

from ..contract.model import Contract
from . import expect
from .aids import pace
from .collecting import tensors
from .collecting.judging import Verdict, attempt
from .communicating import communicators
from .declare import on_ranks, requirement
from .graphing import collectives, module, scopes
from .graphing.collectives import COUNT
from .grouping import beside
from .member import Member

_TYPES = ("bfloat16", "float16", "float32")
_SHAPES = ((64,), (4, 256), (7,), (3, 1000), (1 << 16,))
_SIZES = (8, 4, 2, 1)  # batches, the largest first, as SGLang captures them
_STEPS = ((4, 3), (1, 1), (8, 8), (2, 2), (8, 5), (4, 4), (1, 1), (2, 1), (8, 7))  # a graph's size, and a batch's
_REPLAYS, _BLOCK = 1000, 100
_LAYERS = 8


@requirement("GRAPH-026")
@on_ranks(2, 4)
def test_warm_up_in_a_capture_sums_or_gives_zeros(member: Member, platform: Any, contract: Contract) -> None:
    """SGLang's own first custom all-reduce gives zeros there (0.5.11 to 0.5.23, custom_all_reduce.py)."""
    collectives.required(member, platform, contract)
    with Verdict() as verdict:
        for number, dtype in enumerate(_TYPES):
            each = collectives.all_reduce(member, dtype=dtype)
            parts, call = each.given(number), f"{each.words} within {scopes.CALL}, nothing captured yet"
            with scopes.entered(member.coordinator):
                got = attempt(call, each.work)
            tensors.synchronise(member.device)
            verdict.equal((got.dtype, got.shape), (each.own.dtype, each.own.shape), call=f"{call}: type and shape")
            if not (tensors.numbers(got) == 0).all():
                verdict.reduced(got, parts, call)


@requirement("GRAPH-027")
@on_ranks(2, 4)
def test_each_replay_sums_what_its_inputs_then_hold(member: Member, platform: Any, contract: Contract) -> None:
    """The engines take turns by size: each size may be reduced by another one, or by another algorithm."""
    with Verdict() as verdict:
        for way in collectives.required(member, platform, contract):
            for number, shape in enumerate(_SHAPES):
                each = collectives.all_reduce(member, dtype=_TYPES[number % len(_TYPES)], shape=shape)
                if each.has_engine() or shape == _SHAPES[0]:
                    graph = collectives.captured(member, way, each)
                    collectives.replays(verdict, graph, each, (1, 20, 1), f"captured by {way.words}")
            way.clear()


@requirement("GRAPH-028")
@on_ranks(2, 4)
def test_graph_of_many_layers_sums_each(member: Member, platform: Any, contract: Contract) -> None:
    import numpy as np

    with Verdict() as verdict:
        for way in collectives.required(member, platform, contract):
            each = collectives.all_reduce(member)
            each.given(0)
            call = f"{_LAYERS} layers, each with an all-reduce, captured by {way.words}"
            with scopes.capturing(member, way):
                graph = attempt(call, way.capture, partial(_layers, member, each))
            for salt in (3, 30, 3):
                parts = each.given(salt)
                first, last = attempt(f"{call}: a replay", graph.replay)
                tensors.synchronise(member.device)
                verdict.reduced(first, parts, f"{call}: the first sum, at the end of a replay")
                verdict.holds(last, np.roll(parts.reduced(), _LAYERS), each.dtype, f"{call}: after a replay")
            way.clear()


@requirement("GRAPH-029")
@on_ranks(2, 4)
def test_thousand_replays_sum_anew_each_time(member: Member, platform: Any, contract: Contract) -> str:
    """Nobody waits between them, and now and then one rank is late. A machine that is busy does fewer in its time."""
    import numpy as np

    steps, places = np.arange(_REPLAYS)[:, None], np.arange(COUNT)
    fed = [(7 * steps + 3 * places + 11 * rank) % (101 + rank) for rank in range(member.size)]
    numbers = tensors.made(fed[member.number].astype(np.float64), "float32", member.device)
    wanted, begun, told = np.add.reduce(fed).astype(np.float64), time.monotonic(), []
    with Verdict() as verdict:
        for way in collectives.required(member, platform, contract):
            each, done = collectives.all_reduce(member), 0
            graph = collectives.captured(member, way, each)
            kept = tensors.poisoned((_REPLAYS, COUNT), each.dtype, member.device)
            in_time = [True]
            while all(in_time) and done < _REPLAYS:
                for step in range(done, done + _BLOCK):
                    each.own.copy_(numbers[step])
                    kept[step].copy_(attempt(f"{each.words}, captured by {way.words}: a replay", graph.replay))
                    if (step * 31 + member.number * 17) % 101 == 0:
                        time.sleep(0.001)
                done += _BLOCK
                in_time = member.side.to_all(time.monotonic() - begun < pace.SHARE * member.seconds)
            tensors.synchronise(member.device)
            call = f"{each.words}, captured by {way.words}: {done} replays, each with other numbers"
            verdict.holds(kept[:done], wanted[:done], each.dtype, call)
            way.clear()
            told.append(f"{done} replays by {way.words}")
    return ", ".join(told)


@requirement("GRAPH-030")
@on_ranks(2, 4)
def test_graphs_of_several_sizes_serve_any_batch(member: Member, platform: Any, contract: Contract) -> None:
    """All read the same memory, of which smaller graphs take the first rows; a batch is padded to the next size."""
    with Verdict() as verdict:
        for way in collectives.required(member, platform, contract):
            whole = collectives.all_reduce(member, shape=(_SIZES[0], COUNT))
            each = {size: collectives.Captured(whole.coordinator, whole.own[:size], whole.dtype) for size in _SIZES}
            whole.given(0)
            with scopes.capturing(member, way):
                graphs = {
                    size: attempt(f"{one.words}, captured by {way.words}", way.capture, one.work, size)
                    for size, one in each.items()
                }
            for number, (size, batch) in enumerate(_STEPS):
                rows = collectives.Captured(whole.coordinator, whole.own[:batch], whole.dtype)
                parts = rows.given(3 * number)
                call = f"{each[size].words}, captured by {way.words}, for a batch of {batch}"
                got = attempt(f"{call}: a replay", graphs[size].replay)
                tensors.synchronise(member.device)
                verdict.equal(tuple(got.shape), (size, COUNT), call=f"{call}: shape")
                verdict.reduced(got[:batch], parts, f"{call}: replay {number}")
            way.clear()


@requirement("GRAPH-031")
@on_ranks(2, 4)
def test_replays_and_eager_collectives_take_turns(member: Member, platform: Any, contract: Contract) -> None:
    with Verdict() as verdict:
        for way in collectives.required(member, platform, contract):
            each, other = collectives.all_reduce(member), collectives.all_reduce(member)
            graph, kept = collectives.captured(member, way, each), []
            for step in range(10):
                call = f"{each.words}: captured by {way.words}, a replay before and after eager ones"
                parts, aside = each.given(step), other.given(100 + step)
                got = attempt(call, graph.replay)
                eager = attempt(f"{other.words} after a replay", other.work)
                tensors.synchronise(member.device)
                verdict.reduced(got, parts, f"{call}, looked at after an eager one")
                kept.append((eager, aside))
                for result, brought in kept[-2:]:
                    verdict.reduced(result, brought, f"{other.words} between replays, looked at after one")
            way.clear()


@requirement("GRAPH-032")
@on_ranks(2, 4)
def test_captured_collectives_are_replayed_on_any_stream(member: Member, platform: Any, contract: Contract) -> None:
    streams = None
    with Verdict() as verdict:
        for way in collectives.required(member, platform, contract):
            streams = module.of(member.device)
            each = collectives.all_reduce(member)
            graph = collectives.captured(member, way, each)
            first = streams.current_stream()
            for number, stream in enumerate((streams.Stream(), first, streams.Stream())):
                stream.wait_stream(streams.current_stream())
                with streams.stream(stream):
                    collectives.replays(
                        verdict, graph, each, (number, 9), f"captured by {way.words}, on stream {number}"
                    )
            way.clear()


@requirement("GRAPH-033")
@on_ranks(2, 4)
def test_graphs_of_earlier_captures_stay_right(member: Member, platform: Any, contract: Contract) -> None:
    with Verdict() as verdict:
        for way in collectives.required(member, platform, contract):
            each = [collectives.all_reduce(member, shape=(COUNT * (number + 1),)) for number in range(3)]
            graphs = []
            for number, one in enumerate(each):
                graphs.append(collectives.captured(member, way, one))
                for again in range(number + 1):
                    words = f"captured by {way.words} in capture {again + 1} of {number + 1}"
                    collectives.replays(verdict, graphs[again], each[again], (number, 9 + number), words)
            way.clear()


@requirement("GRAPH-034")
@on_ranks(2, 4)
def test_graphs_of_two_groups_go_their_own_ways(member: Member, platform: Any, contract: Contract) -> None:
    """One graph has a sum of each group; those of one group alone are replayed more often in one than in another."""
    found = collectives.required(member, platform, contract)
    lists = {"pairs": beside.pairs(member.size), "further": beside.pairs(member.size, shift=member.size // 2 - 1)}
    if member.size > 2:
        lists["further"] = beside.strided(member.size)
    with Verdict() as verdict, beside.added(member, lists) as made:
        each = [collectives.all_reduce(member, coordinator) for coordinator in made.values()]
        if not all(one.has_engine() for one in each):
            raise expect.Declined("further groups have no engine for captures")
        for way in found:
            for one in each:
                one.given(0)
            with scopes.capturing(member, way, *made.values()):
                both = attempt("all-reduces of two groups", way.capture, lambda: tuple(one.work() for one in each))
                alone = [attempt(one.words, way.capture, one.work) for one in each]
            for step in (3, 4):
                parts = [one.given(step) for one in each]
                got = attempt("a replay of all-reduces of two groups", both.replay)
                tensors.synchronise(member.device)
                for result, one, brought in zip(got, each, parts, strict=True):
                    one.judge(verdict, result, brought, f"{one.words}, two groups captured in one graph by {way.words}")
            for number, one in enumerate(each):
                times = 1 + one.coordinator.ranks[0] + number
                words = f"captured by {way.words} for its group alone"
                collectives.replays(verdict, alone[number], one, tuple(range(times)), words)
            way.clear()


@requirement("GRAPH-037")
@on_ranks(2, 4)
def test_coordinators_all_gather_is_captured(member: Member, platform: Any, contract: Contract) -> None:
    _in_turn(
        member,
        platform,
        contract,
        *(
            collectives.Gather(member.coordinator, tensors.poisoned(shape, dtype, member.device), dtype, dim)
            for dtype, shape, dim in (("float32", (2, COUNT), -1), ("bfloat16", (COUNT,), 0), ("int64", (3, 2, 4), 1))
        ),
    )


@requirement("GRAPH-038")
@on_ranks(2, 4)
def test_coordinators_reduce_scatter_is_captured(member: Member, platform: Any, contract: Contract) -> None:
    _in_turn(
        member,
        platform,
        contract,
        *(
            collectives.Scatter(member.coordinator, tensors.poisoned(shape, dtype, member.device), dtype)
            for dtype, shape in (("float32", (4 * member.size, 16)), ("bfloat16", (COUNT * member.size,)))
        ),
    )


def _layers(member: Member, each: collectives.Captured) -> tuple[Any, Any]:
    """A first sum, which is kept as a residual is, and what the layers behind it make of it: turned, each by a place.

    One rank after the other brings what it has from the layer before, and the others zeros, so that no layer's numbers
    are another's. Where there is PyNCCL, some have a size that a custom all-reduce, of whole packs, leaves to it.
    """
    import torch

    odd = COUNT + 7 if communicators.of(each.coordinator) is not None else COUNT
    x = first = each.work()
    for layer, length in zip(range(_LAYERS), cycle((COUNT, 16 * COUNT, odd)), strict=False):
        mine = float(layer % member.size == member.number)
        x = torch.roll(each.coordinator.all_reduce((x * mine).repeat(16)[:length])[:COUNT], 1)
    return first, x


def _in_turn(member: Member, platform: Any, contract: Contract, *each: collectives.Captured) -> None:
    """Capture one after the other, and replay all of them."""
    with Verdict() as verdict:
        for way in collectives.required(member, platform, contract, each[0]):
            graphs = [collectives.captured(member, way, one) for one in each]
            for salt in (2, 21):
                for one, graph in zip(each, graphs, strict=True):
                    collectives.replays(verdict, graph, one, (salt,), f"captured by {way.words}")
            way.clear()
