"""GRAPH: graphs of the device, by torch's module of it: what a capture keeps, and what a replay does again.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import gc
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ..contract.model import Contract
from . import expect
from .aids import worker
from .collecting import tensors
from .declare import in_probe, requirement
from .graphing import module, plain, ways
from .graphing.plain import Interruption

_SIZES = (8, 4, 2, 1)  # largest first, as SGLang captures them
_MIB = 1 << 20
_FIRST, _ROUNDS = 3, 8  # captures that may take something for good, and others
_REPLAYS = 300

numbers = st.lists(st.integers(-1000, 1000), min_size=4, max_size=4)


@requirement("GRAPH-001")
@in_probe
@given(fed=st.lists(numbers, min_size=1, max_size=5))
def test_replay_works_on_what_its_inputs_hold(platform: Any, contract: Contract, fed: list[list[int]]) -> None:
    device = module.started(platform, contract)
    way, each = ways.ByModule(device), plain.line(device)
    graph = plain.captured(way, each)
    for given_now in fed:
        each.gives(graph, given_now, way.words)
    way.clear()


@requirement("GRAPH-001")
@in_probe
def test_replay_does_its_work_once(platform: Any, contract: Contract) -> None:
    device = module.started(platform, contract)
    way, each = ways.ByModule(device), plain.line(device)
    with plain.capturing(way, device):
        graph = expect.attempt(f"x.add_(1), captured by {way.words}", lambda: way.capture(lambda: each.x.add_(1))).value
    each.x.zero_()
    for count in range(1, 6):
        expect.attempt(f"{way.words}: a replay", graph.replay)
        expect.equal(worker.values(each.x), [count] * 4, call=f"x after {count} replays of x.add_(1), from 0")


@requirement("GRAPH-002")
@in_probe
def test_capture_is_seen(platform: Any, contract: Contract) -> None:
    device = module.started(platform, contract)
    streams, way, each = module.of(device), ways.ByModule(device), plain.line(device)
    seen: list[bool] = []

    def work() -> Any:
        seen.append(module.is_capturing(streams))
        return each.work()

    def failing() -> Any:
        if module.is_capturing(streams):
            raise Interruption
        return each.work()

    ask = f"torch.{device.type}.is_current_stream_capturing()"
    with plain.capturing(way, device):
        expect.attempt(f"a capture by {way.words}", lambda: way.capture(work))
        expect.equal(seen, [False] * ways.WARM_UPS + [True], call=f"{ask} in each warm-up and in the capture")
        expect.equal(module.is_capturing(streams), False, call=f"{ask} after the capture")
        with contextlib.suppress(Exception):
            way.capture(failing)
        expect.equal(module.is_capturing(streams), False, call=f"{ask} after a capture that failed")
    expect.equal(module.is_capturing(streams), False, call=f"{ask} on the stream from before")


@requirement("GRAPH-003")
@in_probe
def test_capture_is_on_the_stream_that_it_is_given(platform: Any, contract: Contract) -> None:
    device = module.started(platform, contract)
    streams, way, each = module.of(device), ways.ByModule(device), plain.line(device)
    before, other = streams.current_stream(), streams.Stream()
    seen: list[Any] = []

    def work() -> Any:
        seen.append(streams.current_stream())
        return each.work()

    with plain.capturing(way, device) as side, streams.stream(other):
        expect.attempt(f"a capture by {way.words}", lambda: way.capture(work))
        expect.equal(streams.current_stream(), other, call="current stream after the capture")
    expect.equal(seen[-1], side, call="current stream in a capture on a stream that is given")
    expect.equal(streams.current_stream(), before, call="current stream after all")


@requirement("GRAPH-004")
@in_probe
def test_capture_that_fails_says_why_and_leaves_nothing(platform: Any, contract: Contract) -> None:
    device = module.started(platform, contract)
    streams, way, each = module.of(device), ways.ByModule(device), plain.line(device)
    graph = plain.captured(way, each)
    raised, caught = Interruption("raised in the capture"), None
    calls = iter(range(ways.WARM_UPS + 1))

    def failing() -> Any:
        result = each.work()
        if next(calls) == ways.WARM_UPS:
            raise raised
        return result

    before, other = streams.current_stream(), plain.line(device, factor=5)
    with plain.capturing(way, device) as side:
        try:
            way.capture(failing)
        except Exception as error:
            caught = error
        plain.comes_out(caught, raised, f"{way.words} around work that raises")
        expect.equal(streams.current_stream(), side, call="current stream after a capture that failed")
        expect.attempt("work on the stream of a capture that failed", lambda: tensors.synchronise(device))
        call = f"{way.words}, captured after one that failed, on its stream"
        after = expect.attempt(call, lambda: way.capture(other.work)).value
    expect.equal(streams.current_stream(), before, call="current stream after all")
    each.gives(graph, [1, 2, 3, 4], f"{way.words}, captured before one that failed")
    other.gives(after, [4, 3, 2, 1], call)


@requirement("GRAPH-005")
@in_probe
def test_work_of_a_stream_that_has_joined_is_captured(platform: Any, contract: Contract) -> None:
    device = module.started(platform, contract)
    streams, way, each = module.of(device), ways.ByModule(device), plain.line(device)
    aside = streams.Stream()

    def work() -> Any:
        main = streams.current_stream()
        aside.wait_stream(main)
        with streams.stream(aside):
            there = each.x * 3
        here = each.x * 10
        main.wait_stream(aside)
        return here + there

    with plain.capturing(way, device):
        graph = expect.attempt(f"work of two streams, captured by {way.words}", lambda: way.capture(work)).value
    for fed in ([1.0, 2.0, 3.0, 4.0], [5.0, 0.0, -1.0, 7.0]):
        plain.fill(each.x, fed)
        got = expect.attempt(f"{way.words}: a replay", graph.replay).value
        expect.equal(worker.values(got), [13 * number for number in fed], call="a replay of work of two streams")


@requirement("GRAPH-006")
@in_probe
def test_captures_give_their_memory_back(platform: Any, contract: Contract) -> None:
    device = module.started(platform, contract)
    streams = module.of(device)
    held: list[dict[str, int]] = []
    for number in range(_FIRST + _ROUNDS):
        way, each = ways.ByModule(device), plain.line(device, _MIB, factor=number)
        plain.captured(way, each).replay()
        tensors.synchronise(device)
        way.clear()
        del way, each
        gc.collect()
        held.append({"bytes": module.allocated(streams), **plain.held()})
    allowed = {"bytes": _ROUNDS // 2 * 4 * _MIB, "descriptors": _ROUNDS // 2, "threads": _ROUNDS // 2}
    what = f"{_ROUNDS} captures of 4 MiB and more, each of them reset"
    plain.takes_less(held[_FIRST - 1], held[-1], allowed, after=what, call=f"torch.{device.type}.graph()")


@requirement("GRAPH-007")
@in_probe
def test_replays_take_nothing(platform: Any, contract: Contract) -> None:
    device = module.started(platform, contract)
    streams, way, each = module.of(device), ways.ByModule(device), plain.line(device, 256)
    graph = plain.captured(way, each)

    def after(count: int) -> dict[str, int]:
        for _ in range(count):
            graph.replay()
        tensors.synchronise(device)
        gc.collect()
        return {"bytes": module.allocated(streams), **plain.held()}

    before, now = after(20), after(_REPLAYS)
    allowed = {"bytes": _REPLAYS * 256, "descriptors": _REPLAYS // 4, "threads": _REPLAYS // 4}
    plain.takes_less(before, now, allowed, after=f"{_REPLAYS} replays", call=f"{way.words}: replays")


@requirement("GRAPH-008")
@in_probe
def test_replays_are_ordered_with_the_work_around_them(platform: Any, contract: Contract) -> None:
    import torch

    device = module.started(platform, contract)
    way, each = ways.ByModule(device), plain.line(device)
    graph = plain.captured(way, each)
    busy, kept = torch.ones(256, 256, device=device), []
    for number in range(20):
        for _ in range(number % 4):
            busy = (busy @ busy).clamp(max=1.0)
        each.x.copy_(busy[0, :4] * number)  # only once all that is done
        kept.append(expect.attempt(f"{way.words}: a replay", graph.replay).value + 0)
        each.x.fill_(float("nan"))
    tensors.synchronise(device)
    for number, got in enumerate(kept):
        expect.equal(worker.values(got), each.of([number] * 4), call=f"replay {number} between work on its stream")


@requirement("GRAPH-009")
@in_probe
def test_replay_may_be_on_another_stream_than_its_capture(platform: Any, contract: Contract) -> None:
    device = module.started(platform, contract)
    streams, way, each = module.of(device), ways.ByModule(device), plain.line(device)
    with plain.capturing(way, device) as side:
        graph = expect.attempt(f"a capture by {way.words}", lambda: way.capture(each.work)).value
    first = streams.current_stream()
    for number, stream in enumerate((side, streams.Stream(), first, side)):
        with streams.stream(stream):
            where = "the stream of its capture" if stream == side else "another stream"
            each.gives(graph, [number, 1, 2, 3], f"{way.words}, replayed on {where}")
        tensors.synchronise(device)


@requirement("GRAPH-010")
@in_probe
@given(order=st.lists(st.sampled_from(_SIZES), min_size=1, max_size=12))
def test_graphs_that_share_a_pool_are_replayed_in_any_order(
    platform: Any, contract: Contract, order: list[int]
) -> None:
    device = module.started(platform, contract)
    way = ways.ByModule(device)
    each = {size: plain.line(device, size, factor=size + 2) for size in _SIZES}
    with plain.capturing(way, device):
        graphs = {
            size: expect.attempt(f"a capture by {way.words}", partial(way.capture, line.work)).value
            for size, line in each.items()
        }
    for number, size in enumerate(order):
        call = f"{way.words} of {size} elements, replay {number} in the order {order}"
        each[size].gives(graphs[size], [number + place for place in range(size)], call)
    way.clear()
