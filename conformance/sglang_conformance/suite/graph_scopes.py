"""GRAPH: GroupCoordinator.graph_capture(): the stream of a capture, its order, and the engines of the groups in it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

from ..contract.model import Contract
from ..hosts import groups as host_groups
from . import expect
from .aids.construction import declares_graphs
from .collecting import tensors
from .collecting.judging import Verdict
from .collecting.parts import Parts
from .communicating import communicators
from .declare import on_ranks, requirement
from .graphing import module, plain, scopes
from .graphing.plain import Interruption
from .grouping import beside, joining
from .member import Member

CALL = scopes.CALL
_ALL = "parallel_state.graph_capture()"


@requirement("GRAPH-019")
@on_ranks(2, 4)
def test_stream_of_a_capture_is_current_within_it(member: Member, platform: Any, contract: Contract) -> None:
    streams = _streams(member, platform, contract)
    before = streams.current_stream()
    with scopes.entered(member.coordinator) as context:
        expect.equal(streams.current_stream(), context.stream, call=f"current stream within {CALL}")
    expect.that(context.stream != before, expected="a stream of its own", seen="the one from before", call=CALL)


@requirement("GRAPH-020")
@on_ranks(2, 4)
def test_capture_takes_the_stream_that_it_is_given(member: Member, platform: Any, contract: Contract) -> None:
    streams = _streams(member, platform, contract)
    mine = streams.Stream()
    call = f"{CALL} with a stream"
    for _ in range(2):
        with scopes.entered(member.coordinator, stream=mine) as context:
            expect.equal(context.stream, mine, call=f"{call}: its context's stream")
            expect.equal(streams.current_stream(), mine, call=f"{call}: current stream")


@requirement("GRAPH-021")
@on_ranks(2, 4)
def test_further_group_goes_on_in_the_same_capture(member: Member, platform: Any, contract: Contract) -> None:
    streams = _streams(member, platform, contract)
    call = f"{CALL} of a further group, with the context of the first"
    with (
        beside.added(member, {"further": beside.everyone(member.size)}) as made,
        scopes.entered(member.coordinator) as context,
    ):
        with scopes.entered(made["further"], context) as inner:
            expect.equal(inner.stream, context.stream, call=f"{call}: its stream")
            expect.equal(streams.current_stream(), context.stream, call=f"{call}: current stream")
        expect.equal(streams.current_stream(), context.stream, call=f"{call}: current stream after")


@requirement("GRAPH-022")
@on_ranks(2, 4)
def test_capture_restores_what_was_also_after_an_exception(member: Member, platform: Any, contract: Contract) -> None:
    _streams(member, platform, contract)
    before, raised = scopes.state(member), Interruption("raised in the capture")
    with Verdict() as verdict, beside.added(member, {"further": beside.everyone(member.size)}) as made:
        for number in range(3):
            with scopes.entered(member.coordinator):
                pass
            scopes.is_as_before(verdict, before, scopes.state(member), f"after {CALL}")
            caught: BaseException | None = None
            try:
                with scopes.entered(member.coordinator) as context, scopes.entered(made["further"], context):
                    raise raised
            except Exception as error:
                caught = error
            call = f"after {CALL} of two groups that an exception has left, for the {number + 1}. time"
            verdict.note(partial(plain.comes_out, caught, raised, call))
            scopes.is_as_before(verdict, before, scopes.state(member), call)


@requirement("GRAPH-023")
@on_ranks(2, 4)
def test_capture_waits_for_the_stream_from_before(member: Member, platform: Any, contract: Contract) -> None:
    import torch

    _streams(member, platform, contract)
    parts = Parts("sum", "float32", member.size, (64, 64), 1)
    given = tensors.made(parts.of(member.number), "float32", member.device)
    busy = torch.ones(256, 256, device=member.device)
    with Verdict() as verdict:
        for _ in range(5):
            late = tensors.poisoned(parts.shape, "float32", member.device)
            tensors.synchronise(member.device)
            for _ in range(20):
                busy = (busy @ busy).clamp(max=1.0)
            late.copy_(given)  # only once all that is done
            with scopes.entered(member.coordinator):
                seen = late + 0
            tensors.synchronise(member.device)
            call = f"a tensor written before {CALL}, read within it"
            verdict.holds(seen, parts.of(member.number), "float32", call)


@requirement("GRAPH-024")
@on_ranks(2, 4)
def test_custom_all_reduce_is_told_of_each_capture_once(member: Member, platform: Any, contract: Contract) -> None:
    _declared(platform, contract)
    engine = scopes.custom(member.coordinator)
    if engine is None:
        raise expect.Declined("the group has no custom all-reduce that is enabled")
    with Verdict() as verdict, scopes.spied(engine) as seen:
        for count in range(1, 4):
            with contextlib.suppress(Interruption), scopes.entered(member.coordinator):
                within = f"ca_comm.capture(): how often entered, and left, within the {count}. {CALL}"
                verdict.equal((seen.entered, seen.left), (count, count - 1), call=within)
                if count == 2:
                    raise Interruption
            after = f"ca_comm.capture(): how often entered, and left, after the {count}. {CALL}"
            verdict.equal((seen.entered, seen.left), (count, count), call=after)


@requirement("GRAPH-025")
@on_ranks(2, joined=False)
def test_capture_takes_in_every_group(member: Member, platform: Any, contract: Contract) -> None:
    _declared(platform, contract)
    with joining.joined(member, "a pipeline of all ranks", pp=member.size) as made:
        streams, engine = module.of(member.device), communicators.of(made["pp"])
        if engine is None:
            raise expect.Declined("the group of a pipeline has no engine that is enabled for captures alone")
        name = f"{communicators.OWNER}.disabled of the group pp"
        before, mine = streams.current_stream(), streams.Stream()
        with expect.attempt(_ALL, lambda: host_groups.state().graph_capture(stream=mine)).value as context:
            expect.equal(context.stream, mine, call=f"the stream of {_ALL}, which it was given")
            expect.equal(engine.disabled, False, call=f"{name} within {_ALL}")
        expect.equal(engine.disabled, True, call=f"{name} after {_ALL}")
        expect.equal(streams.current_stream(), before, call=f"current stream after {_ALL}")


def _declared(platform: Any, contract: Contract) -> None:
    if not declares_graphs(platform, contract):
        raise expect.Declined("the platform declares no graph capture")


def _streams(member: Member, platform: Any, contract: Contract) -> Any:
    """Torch's module of the device, which has streams. Declined where the platform declares no graphs."""
    _declared(platform, contract)
    return module.of(member.device)
