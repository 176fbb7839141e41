"""What a rank can reduce with: the engines that its group has for a tensor, and why it has not the others.

Facts: SGLang 0.5.11 to 0.5.23, srt/distributed/parallel_state.py (``GroupCoordinator.all_reduce``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .model import BACKEND, COPY, CUSTOM, GRAPH, GROUP, PYNCCL

if TYPE_CHECKING:
    from ..suite.execute import Stage
    from ..suite.member import Member

_NAMES: Mapping[str, str] = {"ca": CUSTOM, "torch.distributed": BACKEND}


@dataclass(frozen=True)
class Engine:
    """One way to reduce: ``run`` takes every row and gives the results, ``scope`` is entered for that, untimed."""

    name: str
    run: Callable[[Sequence[Any]], Sequence[Any]]
    scope: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    by: str = ""


class Absent(Exception):
    """A group has not this engine for a tensor; the text says why."""


class Uneven(RuntimeError):
    """The ranks of one group do not have the same engines for the same tensor: SGLang would hang."""


def offered(
    wanted: Sequence[str], member: Member, stage: Stage, rows: Sequence[Any], targets: Sequence[Any]
) -> tuple[list[Engine], dict[str, str]]:
    """The engines that take tensors such as these rows, of those that are wanted, and why the others do not.

    Raises Uneven where the ranks differ.
    """
    found: dict[str, Engine] = {}
    absent: dict[str, str] = {}
    for name in wanted:
        if name == COPY:
            found[name] = Engine(
                COPY, lambda given: [into.copy_(row) for into, row in zip(targets, given, strict=True)]
            )
            continue
        try:
            found[name] = _MAKERS[name](member, stage, rows)
        except Absent as why:
            absent[name] = str(why)
        said = member.side.to_all(absent.get(name, ""))  # before any rank goes on to what the others may not have
        if len({not why for why in said}) > 1:
            raise Uneven(f"the ranks do not agree on {name}: {_told(said)}")
    return list(found.values()), absent


def _told(said: Sequence[str]) -> str:
    return ", ".join(
        f"rank {rank} has it not ({why})" if why else f"rank {rank} has it" for rank, why in enumerate(said)
    )


def _each(call: Callable[[Any], Any]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    return lambda rows: [call(row) for row in rows]


def _group(member: Member, stage: Stage, rows: Sequence[Any]) -> Engine:
    coordinator = member.coordinator
    explain = getattr(coordinator, "explain_all_reduce", None)  # of the reference alone
    by = str(getattr(explain(rows[0]), "engine", "")) if explain is not None else ""
    return Engine(GROUP, _each(coordinator.all_reduce), by=_NAMES.get(by, by))


def _custom(member: Member, stage: Stage, rows: Sequence[Any]) -> Engine:
    engine = getattr(member.coordinator, "ca_comm", None)
    if engine is None:
        raise Absent("the group has none")
    if getattr(engine, "disabled", True):
        raise Absent("the group's is disabled")
    if not engine.should_custom_ar(rows[0]):
        raise Absent("it does not accept the tensor")
    return Engine(CUSTOM, _each(engine.custom_all_reduce))


def _pynccl(member: Member, stage: Stage, rows: Sequence[Any]) -> Engine:
    engine = getattr(member.coordinator, "pynccl_comm", None)
    if engine is None:
        raise Absent("the group has none")
    if not getattr(engine, "available", False):
        raise Absent("the group's is not available")
    with engine.change_state(enable=True):
        if engine.disabled:
            raise Absent("the group's cannot be enabled")

    def reduce(row: Any) -> Any:
        engine.all_reduce(row)
        return row

    return Engine(PYNCCL, _each(reduce), scope=lambda: engine.change_state(enable=True))


def _backend(member: Member, stage: Stage, rows: Sequence[Any]) -> Engine:
    import torch.distributed

    group = member.group

    def reduce(row: Any) -> Any:
        torch.distributed.all_reduce(row, group=group)
        return row

    return Engine(BACKEND, _each(reduce))


def _graph(member: Member, stage: Stage, rows: Sequence[Any]) -> Engine:
    """Captured as SGLang does it: in the group's scope, after a call there, on its stream."""
    import torch

    from ..suite.aids.construction import declares_graphs

    if not declares_graphs(stage.platform, stage.contract):
        raise Absent("the platform declares no graphs")
    module, kind = torch.get_device_module(member.device), member.device.type
    names = (f"{kind.upper()}Graph", "CUDAGraph", "Graph")
    make = next((getattr(module, name) for name in names if hasattr(module, name)), None)
    if kind == "cpu" or make is None or not hasattr(module, "graph"):
        raise Absent(f"torch.{kind} has no graphs")
    reduce, graph = _each(member.coordinator.all_reduce), make()
    with member.coordinator.graph_capture() as context:
        # Before 0.5.23 the groups of an out-of-tree platform are on the CPU, and so is their stream.
        stream = context.stream if isinstance(context.stream, module.Stream) else module.Stream()
        reduce(rows)
        module.synchronize()
        with module.graph(graph, stream=stream):
            results = reduce(rows)
    module.synchronize()

    def replay(_: Sequence[Any]) -> Sequence[Any]:
        graph.replay()
        return results

    return Engine(GRAPH, replay)


_MAKERS: Mapping[str, Callable[[Member, Stage, Sequence[Any]], Engine]] = {
    GROUP: _group,
    CUSTOM: _custom,
    PYNCCL: _pynccl,
    GRAPH: _graph,
    BACKEND: _backend,
}
