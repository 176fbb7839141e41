"""Making a custom all-reduce as SGLang's groups do, in a group of its own, with ranks to which something is lacking.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import os
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

from .. import expect
from ..grouping import beside
from ..member import Member
from . import engines

Result = TypeVar("Result")

_FACTORIES = ("empty", "zeros", "full", "tensor", "ones", "empty_like", "zeros_like")


@contextlib.contextmanager
def group(member: Member, seconds: float | None = None) -> Iterator[Any]:
    """A group of all ranks for host tensors, connected; waits in it end after so many seconds, where they are given."""
    import torch.distributed as dist

    made = beside.on_host(list(range(member.size)))
    expect.attempt("barrier", lambda: dist.barrier(group=made))
    if seconds is not None:
        dist.distributed_c10d._set_pg_timeout(timedelta(seconds=seconds), made)
    yield made
    member.side.meet()
    beside.destroy(made)


def tried(make: Callable[..., Any], group: Any, *device: Any) -> Any:
    """What is made for a group; None where that raises, as SGLang's groups take it."""
    try:
        return make(group, *device)
    except Exception as error:
        expect.pass_on_uncovered(error)
        return None


def takes(make: Callable[..., Any], name: str) -> bool:
    """Whether what makes it has a parameter of that name."""
    try:
        return name in inspect.signature(make).parameters
    except (TypeError, ValueError):
        return False


def together(call: str, action: Callable[[], Result]) -> Result:
    """What ranks tell each other after ``call``; a violation where another rank has not come out of it in time."""
    try:
        return action()
    except RuntimeError as error:
        expect.fail(expected="that every rank comes out of it", seen=str(error), call=call)


def enabled(engine: Any) -> bool:
    """Whether a group would use it."""
    return engines.of(holding(engine)) is not None


def holding(engine: Any) -> Any:
    """What stands for a group with that engine."""
    return SimpleNamespace(**{engines.OWNER: engine})


nothing_lacks = contextlib.nullcontext


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """A scope in which this process can open no file, socket or piece of memory."""
    free = os.dup(0)
    os.close(free)
    with _limited(resource.RLIMIT_NOFILE, free):
        yield


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """A scope in which no file, nor a piece of memory that is one, can have any length."""
    with _limited(resource.RLIMIT_FSIZE, 0):
        yield


LACKS: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    "no descriptor left": no_descriptors,
    "no room for files or shared memory": no_room,
}


@contextlib.contextmanager
def no_tensor_from(turn: int) -> Iterator[None]:
    """A scope in which this process is refused the tensor that it makes in this turn, as if there were no memory."""
    import torch

    turns = itertools.count(1)

    def refusing(function: Callable[..., Any]) -> Callable[..., Any]:
        def make(*given: Any, **named: Any) -> Any:
            if next(turns) == turn:
                raise RuntimeError("out of memory: a tensor was refused")
            return function(*given, **named)

        return make

    with contextlib.ExitStack() as stack:
        for name in _FACTORIES:
            stack.enter_context(mock.patch.object(torch, name, refusing(getattr(torch, name))))
        yield


@contextlib.contextmanager
def _limited(what: int, most: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))
