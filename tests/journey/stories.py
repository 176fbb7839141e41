"""Traces and journeys made by hand: what the core of a release does with a platform that keeps the contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sglang_conformance.journey.story import Journey, Served
from sglang_conformance.journey.trace import (
    ARGUMENTS,
    ATTENTION,
    DEVICE,
    END,
    GRAPHS,
    GROUPS,
    HOOKS,
    MODEL,
    PLUGINS,
    POOLS,
    RESOLVED,
    TOKEN,
    Event,
    Kind,
    Place,
    Role,
    Trace,
)

# A step: name, by whom, and what happens inside it.
Step = tuple[str, str, tuple["Step", ...]]
HOOK = "AFTER acme.hooks.watch"
TARGET = "sglang.srt.model_executor.model_runner.ModelRunner.load_model"
_RUNNER = "srt/model_executor/model_runner.py"
_STATE = "srt/distributed/parallel_state.py"
_CONFIGURATOR = "srt/mem_cache/kv_cache_configurator.py"


def moment(name: str, *inside: Step) -> Step:
    return f"moment {name}", "srt/managers/scheduler.py", inside


def call(name: str, by: str = _RUNNER, *inside: Step) -> Step:
    return f"call {name}", by, inside


def applied(target: str = TARGET) -> Step:
    return f"applied {target}", "srt/plugins/hook_registry.py", ()


def ran(target: str = TARGET) -> Step:
    return f"hook {target}", _RUNNER, ()


LOADED = moment(PLUGINS, moment(HOOKS, applied()))


def launcher(*steps: Step) -> Trace:
    """The process that launches, with a release's settling of arguments in the middle."""
    usual = (
        moment(RESOLVED),
        LOADED,
        moment(ARGUMENTS, call("apply_server_args_defaults", "srt/arg_groups/platform_hook.py")),
        *steps,
        moment(TOKEN),
        moment(END),
    )
    return made(Role("launcher"), usual)


def worker(rank: int = 0, *, newer: bool = True, steps: Sequence[Step] | None = None) -> Trace:
    """A worker of 0.5.23, or of 0.5.11 where it is not ``newer``; ``steps`` in place of all after its plugins."""
    device = moment(DEVICE, *BACKEND[newer], moment(GROUPS))
    init = call("init_backend")
    usual = (
        *((device, init) if newer else (init, device)),
        call("get_device_total_memory", "srt/utils/common.py", call("get_device", "acme/platform.py")),
        call("get_current_memory_usage", "srt/utils/common.py"),
        moment(MODEL, *((call("post_load_model"),) if newer else ()), ran()),
        moment(POOLS, call("get_kv_pool_cls" if newer else "get_mha_kv_pool_cls", POOL_FILES[newer])),
        moment(ATTENTION),
        moment(GRAPHS, call("get_graph_runner_cls", GRAPH_FILES[newer])),
        moment(TOKEN),
        moment(END),
    )
    return made(Role("worker", rank), (moment(RESOLVED), LOADED, *(usual if steps is None else steps)), 0.7 + rank / 50)


BACKEND: dict[bool, tuple[Step, ...]] = {True: (call("get_torch_distributed_backend_str", _STATE),), False: ()}
POOL_FILES = {True: _CONFIGURATOR, False: "srt/model_executor/model_runner_kv_cache_mixin.py"}
GRAPH_FILES = {True: "srt/model_executor/model_runner_components/cuda_graph_setup.py", False: _RUNNER}


def made(role: Role, steps: Sequence[Step], began: float = 0.0) -> Trace:
    """A trace of steps, each of a hundredth of a second and what is inside it."""
    events: list[Event] = []
    _run(steps, None, 0.25, events)
    return Trace(role, 100 + (role.rank or 0), began, "acme.platform.Platform", events=tuple(events))


def _run(steps: Sequence[Step], inside: int | None, at: float, events: list[Event]) -> float:
    for name, by, within in steps:
        kind, _, name = name.partition(" ")
        number = len(events)
        place = Place(by, 10 + number, "core" if by.startswith(("srt/", "kernels/")) else "vendor")
        begun = Event(number, _KINDS[kind], name, at, place, inside=inside)
        if kind == "applied":
            begun = replace(begun, arguments=(HOOK,))
        if kind == "hook":
            begun = replace(begun, detail=HOOK)
        events.append(begun)
        end = _run(within, number, at + 0.01, events)
        events[number] = replace(begun, seconds=end - at)
        at = end + 0.005
    return at


_KINDS: dict[str, Kind] = {"moment": "moment", "call": "call", "applied": "applied", "hook": "hook"}


def edited(trace: Trace, name: str, **changes: Any) -> Trace:
    """The trace with the first event of that name changed, and with those around it where it did not end or failed."""
    events = list(trace.events)
    index = next(i for i, event in enumerate(events) if event.name == name)
    events[index] = replace(events[index], **changes)
    return replace(trace, events=tuple(events))


def stopped(trace: Trace, name: str, *, error: str = "") -> Trace:
    """The trace of a process that ended in the first event of that name: with that error, or without a word."""
    last = next(event for event in trace.events if event.name == name)
    around = {event.number for event in (last, *trace.around(last))}
    kept = [event for event in trace.events if event.number <= last.number]
    ended: dict[str, Any] = {"error": error} if error else {"seconds": None}
    return replace(trace, events=tuple(replace(e, **ended) if e.number in around else e for e in kept))


def without(trace: Trace, *names: str) -> Trace:
    """The trace without the events of these names."""
    return replace(trace, events=tuple(event for event in trace.events if event.name not in names))


def journey(*legs: Served) -> Journey:
    return Journey(
        platform="acme",
        distribution="acme-sglang",
        version="1.2",
        platform_class="acme.platform.Platform",
        host="reference",
        release="0.5.23",
        device="Acme One, 2 of them",
        machine="a processor (x86_64), 2 cores, Linux 6.1, Python 3.11.7, torch 2.13",
        kit="0.1.0",
        date="2026-11-22T15:00:00Z",
        legs=legs,
    )


def served(name: str = "llama, TP 2, graphs, float32", **facts: Any) -> Served:
    usual: dict[str, Any] = {
        "requests": 4,
        "tokens": 64,
        "right": 64,
        "sample": (17, 3, 250, 9, 9, 31, 2, 77, 5),
        "margin": 0.031,
        "seconds": 0.31,
        "first_token": 0.042,
        "traces": (launcher(), worker(0), worker(1)),
    }
    return Served(name, **{**usual, **facts})
