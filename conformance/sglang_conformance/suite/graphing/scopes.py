"""A group's graph_capture(): its stream, the states of its engines, and captures within it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .. import expect
from ..collecting import tensors
from ..collecting.judging import Verdict
from ..communicating import communicators
from ..member import Member
from . import module
from .ways import Way

CALL = "GroupCoordinator.graph_capture()"
CUSTOM = "ca_comm"


@dataclass(frozen=True)
class State:
    """What a capture changes for its time: the current stream of the device, and whether engines are disabled."""

    stream: Any
    disabled: dict[str, bool]


def state(member: Member) -> State:
    """The state at this moment."""
    return State(module.of(member.device).current_stream(), disabled(member.coordinator))


def disabled(coordinator: Any) -> dict[str, bool]:
    """Of each engine that a capture enables or opens whether it is disabled, by the coordinator's name for it."""
    engines = {communicators.OWNER: communicators.of(coordinator), CUSTOM: custom(coordinator)}
    return {name: bool(engine.disabled) for name, engine in engines.items() if engine is not None}


def custom(coordinator: Any) -> Any:
    """A group's custom all-reduce; None where it has none, or SGLang left it disabled."""
    found = getattr(coordinator, CUSTOM, None)
    return None if found is None or getattr(found, "disabled", True) else found


def is_as_before(verdict: Verdict, before: State, after: State, call: str) -> None:
    """Say where a capture has left something changed."""
    verdict.equal(after.stream, before.stream, call=f"current stream {call}")
    for name, was in before.disabled.items():
        verdict.equal(after.disabled.get(name), was, call=f"{name}.disabled {call}")


@contextlib.contextmanager
def entered(coordinator: Any, *given: Any, **options: Any) -> Iterator[Any]:
    """The scope of a group's graph_capture(); gives its context."""
    with expect.attempt(CALL, lambda: coordinator.graph_capture(*given, **options)).value as context:
        yield context


@contextlib.contextmanager
def capturing(member: Member, way: Way, *others: Any) -> Iterator[None]:
    """A scope in which graphs are captured: that of the group of all ranks and of these further groups, as SGLang's
    graph_capture() opens them, and within it a session of the way.
    """
    tensors.synchronise(member.device)
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(entered(member.coordinator))
        for other in others:
            stack.enter_context(entered(other, context))
        stack.enter_context(way.session(stream_of(member, context)))
        yield
    tensors.synchronise(member.device)


def stream_of(member: Member, context: Any) -> Any:
    """A capture's stream on the device: that of its context, or a new one.

    Before 0.5.23 the groups of an out-of-tree platform are on the CPU, and so is their stream.
    """
    streams = module.of(member.device)
    return context.stream if isinstance(context.stream, streams.Stream) else streams.Stream()


@dataclass
class Seen:
    """How often a scope was entered and left."""

    entered: int = 0
    left: int = 0


@contextlib.contextmanager
def spied(engine: Any) -> Iterator[Seen]:
    """Count the scopes of a custom all-reduce's capture(). Declined where nothing can be put in its place."""
    original, seen = engine.capture, Seen()

    @contextlib.contextmanager
    def capture(*given: Any, **options: Any) -> Iterator[Any]:
        seen.entered += 1
        try:
            with original(*given, **options) as value:
                yield value
        finally:
            seen.left += 1

    try:
        engine.capture = capture
    except AttributeError as error:
        raise expect.Declined(f"the {communicators.kind(engine)} lets nobody count its captures: {error}") from error
    try:
        yield seen
    finally:
        del engine.capture
