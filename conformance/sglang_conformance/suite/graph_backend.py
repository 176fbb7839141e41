"""GRAPH: the platform's backend, by which SGLang's own runners capture and replay.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

from ..contract.model import Contract
from . import expect
from .aids import worker
from .aids.construction import declares_graphs
from .collecting import tensors
from .declare import on_ranks, requirement
from .graphing import module, plain, scopes, ways
from .graphing.plain import Interruption
from .member import Member

_MIB = 1 << 20
_FIRST, _ROUNDS = 3, 8  # captures that may take memory for good, and others
_FED = ([1.0, 2.0, 3.0, 4.0], [-5.0, 0.0, 7.0, 100.0])


@requirement("GRAPH-011")
@on_ranks(2)
def test_backend_captures_on_the_stream_of_its_session(member: Member, platform: Any, contract: Contract) -> None:
    way = _backend(member, platform, contract)
    streams, each = module.of(member.device), plain.line(member.device)
    seen: list[tuple[Any, bool]] = []

    def forward() -> Any:
        seen.append((streams.current_stream(), module.is_capturing(streams)))
        return each.work()

    with scopes.entered(member.coordinator) as context:
        stream = scopes.stream_of(member, context)
        with way.session(stream):
            expect.attempt(way.words, partial(way.capture, forward))
    expect.that(seen, expected="forward_fn to be called", seen="no call of it", call=way.words)
    call = f"in forward_fn's last call by {way.words}"
    expect.equal(seen[-1][0], stream, call=f"current stream {call}")
    expect.equal(seen[-1][1], True, call=f"is_current_stream_capturing() {call}")


@requirement("GRAPH-012")
@on_ranks(2)
def test_backend_replays_give_what_forward_gives(member: Member, platform: Any, contract: Contract) -> None:
    way = _backend(member, platform, contract)
    each = plain.line(member.device)
    with scopes.capturing(member, way):
        alone = expect.attempt(way.words, partial(way.capture, each.work, 4)).value
        several = expect.attempt(way.words, partial(way.capture, lambda: (each.work(), each.x * 3), 2)).value
    for fed in _FED:
        each.gives(alone, fed, way.words)
        got = expect.attempt(f"{way.words} of a tuple: a replay", several.replay).value
        expect.that(
            isinstance(got, tuple) and len(got) == 2,
            expected="a tuple of two, as forward_fn gives",
            seen=expect.show(type(got)),
            call=f"{way.words}: a replay",
        )
        wanted = [each.of(fed), [3 * number for number in fed]]
        expect.equal([worker.values(tensor) for tensor in got], wanted, call=f"{way.words} of a tuple: a replay")


@requirement("GRAPH-013")
@on_ranks(2)
def test_backend_says_which_shapes_it_has_captured(member: Member, platform: Any, contract: Contract) -> None:
    way = _backend(member, platform, contract)
    each, there, others = plain.line(member.device), ways.key_of(2), (ways.key_of(1), ways.key_of(4))
    _has(way, (), (there, *others), "before any capture")
    with scopes.capturing(member, way):
        expect.attempt(way.words, lambda: way.backend.capture_one(there, each.work))
        _has(way, (there,), others, "after the capture of one shape, in its session")
    _has(way, (there,), others, "after the capture of one shape")
    way.clear()
    _has(way, (), (there, *others), "after cleanup()")


@requirement("GRAPH-014")
@on_ranks(2)
def test_backend_has_a_graph_for_each_key(member: Member, platform: Any, contract: Contract) -> None:
    way = _backend(member, platform, contract)
    keys = [ways.key_of(4), ways.key_of(4, "lora"), ways.key_of(4, "nolora"), ways.key_of(2), ways.key_of(2, "lora")]
    lines = [plain.line(member.device, key.size, factor) for factor, key in enumerate(keys, 2)]
    with scopes.capturing(member, way):
        for key, each in zip(keys, lines, strict=True):
            expect.attempt(way.words, partial(way.backend.capture_one, key, each.work))
    for number in (3, 0, 4, 1, 2, 0):
        fed = [float(number + place) for place in range(keys[number].size)]
        graph = ways.Graph(partial(ways.replayed, way.backend, keys[number]))
        lines[number].gives(graph, fed, f"{way.words} for {keys[number]}")


@requirement("GRAPH-015")
@on_ranks(2)
def test_backend_resets_what_warm_ups_changed(member: Member, platform: Any, contract: Contract) -> None:
    way = _backend(member, platform, contract)
    streams, each = module.of(member.device), plain.line(member.device)
    done: list[str] = []

    def forward() -> Any:
        done.append("forward_fn")
        return each.work()

    def reset() -> None:
        done.append("post_warmup_hook, within the capture" if module.is_capturing(streams) else "post_warmup_hook")

    with scopes.capturing(member, way):
        capture = partial(way.backend.capture_one, ways.key_of(4), forward, post_warmup_hook=reset)
        expect.attempt(way.words, capture)
    call = f"what {way.words} calls"
    expect.that(done[-1:] == ["forward_fn"], expected="forward_fn last", seen=", ".join(done) or "nothing", call=call)
    warmed_up = done.count("forward_fn") > 1
    expect.that(
        not warmed_up or done[-2] == "post_warmup_hook",
        expected="post_warmup_hook between the last warm-up and the capture",
        seen=", ".join(done),
        call=call,
        cause="an attention backend's state that a warm-up has changed is captured",
    )


@requirement("GRAPH-016")
@on_ranks(2)
def test_backend_keeps_graphs_from_session_to_session(member: Member, platform: Any, contract: Contract) -> None:
    way = _backend(member, platform, contract)
    each = [plain.line(member.device, factor=factor) for factor in (2, 3, 5)]
    graphs = []
    for size, line in enumerate(each, 1):
        with scopes.capturing(member, way):
            graphs.append(expect.attempt(way.words, partial(way.capture, line.work, size)).value)
    for number in (0, 2, 1, 0):
        each[number].gives(graphs[number], _FED[number % 2], f"{way.words} in session {number + 1} of 3")


@requirement("GRAPH-017")
@on_ranks(2)
def test_backend_lets_errors_out_and_captures_again(member: Member, platform: Any, contract: Contract) -> None:
    way = _backend(member, platform, contract)
    streams, each = module.of(member.device), plain.line(member.device)

    def failing(raised: Exception, everywhere: bool) -> Any:
        if everywhere or module.is_capturing(streams):
            raise raised
        return each.work()

    for key, everywhere in ((ways.key_of(4), True), (ways.key_of(2), False)):
        raised, caught = Interruption("raised in forward_fn"), None
        with scopes.entered(member.coordinator) as context, way.session(scopes.stream_of(member, context)):
            try:
                way.backend.capture_one(key, partial(failing, raised, everywhere))
            except Exception as error:
                caught = error
        where = "from the first warm-up on" if everywhere else "in the capture"
        plain.comes_out(caught, raised, f"{way.words} of a forward_fn that raises {where}")
        expect.equal(ways.can_run(way.backend, key), False, call="can_run of a shape whose capture has failed")
    with scopes.capturing(member, way):
        graph = expect.attempt(f"{way.words} after one that failed", partial(way.capture, each.work)).value
    each.gives(graph, _FED[0], f"{way.words} after one that failed")


@requirement("GRAPH-018")
@on_ranks(2)
def test_backend_lets_go_of_its_graphs(member: Member, platform: Any, contract: Contract) -> None:
    way = _backend(member, platform, contract)
    streams, held = module.of(member.device), list[int]()
    for number in range(_FIRST + _ROUNDS):
        each = plain.line(member.device, _MIB, factor=number)
        with scopes.capturing(member, way):
            graph = expect.attempt(way.words, partial(way.capture, each.work)).value
        expect.attempt(f"{way.words}: a replay", graph.replay)
        tensors.synchronise(member.device)
        expect.attempt("cleanup()", way.clear)
        del each, graph
        gc.collect()
        held.append(module.allocated(streams))
    before, now, allowed = held[_FIRST - 1], held[-1], _ROUNDS // 2 * 4 * _MIB
    what = f"{_ROUNDS} captures of 4 MiB and more, with cleanup() after each"
    plain.takes_less({"bytes": before}, {"bytes": now}, {"bytes": allowed}, after=what, call="cleanup()")


def _backend(member: Member, platform: Any, contract: Contract) -> ways.ByBackend:
    if not declares_graphs(platform, contract):
        raise expect.Declined("the platform declares no graph capture")
    return ways.by_backend(member.device, platform)


def _has(way: ways.ByBackend, there: tuple[Any, ...], missing: tuple[Any, ...], when: str) -> None:
    for wanted, keys in ((True, there), (False, missing)):
        for key in keys:
            answer = expect.attempt(f"can_run(forward_batch, {key}) {when}", partial(ways.can_run, way.backend, key))
            expect.equal(answer, wanted)
