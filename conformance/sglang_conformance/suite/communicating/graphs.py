"""Graphs of the device, by the names that torch's device modules have for them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ...contract.model import Contract
from .. import expect
from ..aids.construction import declares_graphs
from ..collecting import tensors
from ..collecting.judging import attempt
from ..collecting.prepared import Held, Prepared
from ..graphing.module import maker
from ..member import Member
from . import communicators


def require(member: Member, platform: Any, contract: Contract) -> None:
    """Declined where the platform declares no graphs, or torch's module of the device has none to make."""
    if not declares_graphs(platform, contract):
        raise expect.Declined("the platform declares no graph capture")
    maker(member.device)


def captured(member: Member, call: str, work: Callable[[], Any]) -> Any:
    """A graph that has captured this work on every rank, as SGLang captures: in the group's scope, on its stream."""
    import torch

    module, make = torch.get_device_module(member.device), maker(member.device)
    found = communicators.group_s(member)
    attempt(f"{call}, before the capture", _enabled, found, work)  # whatever is lazy happens here
    tensors.synchronise(member.device)
    graph = make()
    scope = expect.attempt("GroupCoordinator.graph_capture()", member.coordinator.graph_capture).value
    with scope as context:
        # Before 0.5.23 the groups of an out-of-tree platform are on the CPU, and so is their stream.
        stream = context.stream if isinstance(context.stream, module.Stream) else module.Stream()
        with module.graph(graph, stream=stream):
            attempt(f"{call}, in a graph capture", work)
    tensors.synchronise(member.device)
    return graph


def refill(made: Prepared, again: Prepared) -> None:
    """Give the tensors of a collective the values of another one's: what it is given, and room for what it gives."""
    for old, new in zip((*made.inputs, *made.results), (*again.inputs, *again.results), strict=True):
        old.laid.tensor.copy_(new.laid.tensor)


def in_place_of(wanted: Sequence[Held], held: Sequence[Held]) -> tuple[Held, ...]:
    """The tensors of some, to be judged as others are."""
    return tuple(replace(old, judge=new.judge) for old, new in zip(held, wanted, strict=True))


def _enabled(communicator: Any, work: Callable[[], Any]) -> None:
    with communicators.enabled(communicator):
        work()
