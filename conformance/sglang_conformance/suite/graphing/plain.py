"""Captures without a group: simple work of one device, of which every number is known.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import expect
from ..aids import worker
from ..collecting import tensors
from . import module, ways


class Interruption(Exception):
    """What a check raises in a capture."""


@contextlib.contextmanager
def capturing(way: ways.Way, device: Any) -> Iterator[Any]:
    """A scope in which graphs are captured on a stream of its own, as in a group's: it gives that stream."""
    streams = module.of(device)
    tensors.synchronise(device)
    side = streams.Stream()
    side.wait_stream(streams.current_stream())
    with streams.stream(side), way.session(side):
        yield side
    tensors.synchronise(device)


@dataclass(frozen=True)
class Line:
    """Work on a tensor: ``factor * x + 1``, element by element."""

    x: Any
    factor: int = 2

    def work(self) -> Any:
        """What is captured."""
        return self.x * self.factor + 1

    def of(self, numbers: Sequence[float]) -> list[float]:
        """What it gives for these."""
        return [self.factor * number + 1 for number in numbers]

    def gives(self, graph: ways.Graph, numbers: Sequence[float], call: str) -> None:
        """Replay the graph of this work with other numbers: a violation unless it works on these."""
        fill(self.x, numbers)
        got = expect.attempt(f"{call}: a replay", graph.replay).value
        expect.equal(worker.values(got), self.of(numbers), call=f"{call}: what a replay gives for {list(numbers)}")


def line(device: Any, count: int = 4, factor: int = 2) -> Line:
    """Such work on a new tensor of so many elements, all of them 0."""
    import torch

    return Line(torch.zeros(count, device=device), factor)


def fill(tensor: Any, numbers: Sequence[float]) -> None:
    """Give a tensor other numbers."""
    import torch

    tensor.copy_(torch.tensor(numbers, dtype=tensor.dtype))


def captured(way: ways.Way, each: Line) -> ways.Graph:
    """The graph of some work, in a capture of its own."""
    call = f"{each.factor} * x + 1, captured by {way.words}"
    with capturing(way, each.x.device):
        graph: ways.Graph = expect.attempt(call, lambda: way.capture(each.work, len(each.x))).value
    return graph


def comes_out(error: BaseException | None, raised: BaseException, call: str) -> None:
    """A violation unless the error that came out is the one that was raised within, or names it as its cause."""
    seen = error
    while seen is not None and seen is not raised:
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    expect.that(
        seen is raised,
        expected=f"{type(raised).__name__}, raised within, or an error that it is the cause of",
        seen="no error" if error is None else f"{type(error).__name__}: {error}",
        call=call,
    )


def held() -> dict[str, int]:
    """What this process holds: open descriptors and threads. Empty where it cannot be seen."""
    with contextlib.suppress(OSError):
        return {"descriptors": len(os.listdir("/proc/self/fd")), "threads": threading.active_count()}
    return {}


def takes_less(
    before: Mapping[str, int], now: Mapping[str, int], allowed: Mapping[str, int], *, after: str, call: str
) -> None:
    """A violation where what is held has grown by as much as is allowed, or more."""
    for name, most in allowed.items():
        more = now.get(name, 0) - before.get(name, 0)
        expected = f"fewer than {most} {name} more after {after}"
        expect.that(more < most, expected=expected, seen=f"{more} more", call=call)
