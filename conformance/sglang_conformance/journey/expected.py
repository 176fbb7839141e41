"""What the contract says of a journey: who calls which member, in which process, how often, and after what.

Pure functions over the traces of one start: all its processes, each in its role. What a release's core calls, and from
which files, is in its contract table; what must come before what is in the tables here, read from the releases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..contract.model import Contract
from .order import COUNTS, ORDERS, Count, Fault, What, holds
from .trace import IMPORTED, PLUGINS, RESOLVED, Event, Trace

Rule = Literal["early", "launcher", "count", "order", "caller", "unfinished", "hooks"]

STARTS = frozenset({"init_backend", "set_device"})
"""What starts a device: never in the launching process, whatever the release calls."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as the contract says.

    ``member`` may also be a moment or a hook's target, ``caller`` is a line of code or empty. ``what`` is what was
    seen, ``why`` the fact it contradicts, with release and file.
    """

    rule: Rule
    member: str
    role: str
    caller: str
    what: str
    why: str
    fault: Fault

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return dict(vars(self))


_NOT_THE_LAUNCHER = (
    "kernels/", "srt/compilation/", "srt/distributed/", "srt/managers/scheduler", "srt/mem_cache/",
    "srt/model_executor/", "srt/model_loader/", "srt/models/", "srt/speculative/", "srt/weight_cache/",
)  # fmt: skip
_QUESTIONS = "is_"
"""Members that ask what the platform is start with this; anybody may ask at any time."""


def findings(traces: Sequence[Trace], contract: Contract, *, out_of_tree: bool, device: str) -> tuple[Finding, ...]:
    """All that is not as the contract says, in the order of rules, roles and time.

    Give the traces of one start, of all its processes: ``hooks`` compares them. ``device`` is the platform's
    ``device_type``.
    """
    own_device = out_of_tree and device not in {*contract.backends.table, "mps"}
    found: list[Finding] = []
    for trace in traces:
        found += [*early(trace), *in_launcher(trace, contract), *orders(trace, contract.release)]
        found += [*counts(trace, contract, out_of_tree, own_device), *callers(trace, contract), *unfinished(trace)]
    return (*found, *hooks(traces))


def early(trace: Trace) -> Iterator[Finding]:
    """The vendor's code uses the platform before the plugins are loaded: hooks are not in place yet.

    A plugin may ask for it when it is run, to register its hooks for its own platform only.
    """
    loaded = trace.first("moment", PLUGINS)
    why = "0.5.11 to 0.5.23, srt/plugins/__init__.py: hooks are applied when all plugins are loaded, not before"
    for event in trace.events:
        used = event.kind == "call" and not event.name.startswith(_QUESTIONS) and not trace.nested(event)
        asked = event.kind == "moment" and event.name == RESOLVED
        if not (used or asked) or event.by.origin != "vendor":
            continue
        during = used or event.detail == IMPORTED
        if loaded is None or event.at < (loaded.until if during else loaded.at):
            what = f"{event} was called" if used else f"the platform was asked for {event.detail}".rstrip()
            yield _finding("early", trace, event, f"{what} before the plugins were loaded", why, "platform")


def in_launcher(trace: Trace, contract: Contract) -> Iterator[Finding]:
    """The launching process starts a device, or is asked what only workers are."""
    if trace.role.kind != "launcher":
        return
    only = STARTS | not_for_the_launcher(contract)
    for event in trace.of("call"):
        if event.name in only:
            where = _paths(contract, event.name)
            by = (
                f"the core calls it in {', '.join(where)}, where only workers come"
                if where
                else "the core never calls it"
            )
            why = f"{contract.release}: {by}; the launching process spawns them, and has no device of its own"
            fault: Fault = "host" if event.by.origin == "core" and not trace.nested(event) else "platform"
            target = _imported_for(trace, event)
            how = f", while {target} was imported to be hooked" if target else ""
            yield _finding("launcher", trace, event, f"{event} was called in the launching process{how}", why, fault)


def not_for_the_launcher(contract: Contract) -> frozenset[str]:
    """The members that the core calls in modules of workers only."""
    return frozenset(
        member.name
        for member in contract.called()
        if not member.name.startswith(_QUESTIONS)
        and member.kind != "attribute"
        and all(site.path.startswith(_NOT_THE_LAUNCHER) for site in member.calls)
    )


def orders(trace: Trace, release: str) -> Iterator[Finding]:
    """What came too early in a worker, or without what must precede it.

    A hook on a method of the model runner imports it when the plugins are loaded, and so has the backend made then:
    that is how SGLang does it, and nobody's mistake.
    """
    if trace.role.kind != "worker":
        return
    for order in ORDERS:
        then = _first(trace, order.then)
        if then is None or not holds(release, order.since, order.until):
            continue
        first = _first(trace, order.first)
        if first is None or _imported_for(trace, first) or _imported_for(trace, then):
            continue  # how often it must be is another rule
        if (first.until if order.ended else first.at) > then.at:
            what = f"{_named(order.then)} came before {_named(order.first)}{' was done' if order.ended else ''}"
            yield _finding("order", trace, then, what, order.why, order.fault)


def counts(trace: Trace, contract: Contract, out_of_tree: bool, own_device: bool) -> Iterator[Finding]:
    """What the core called too seldom or too often; why it did may be a hook that stands in its way."""
    for count in COUNTS:
        members = [name for name in count.members if contract.has(name)]
        there = (out_of_tree or not count.out_of_tree) and (own_device or not count.own_device)
        if not (members and there and trace.role.kind == count.role and _came_to(trace, count.reached)):
            continue
        if not holds(contract.release, count.since, count.until):
            continue
        calls = list(trace.from_core(*members))
        times = len(calls) + sum(t.times for t in trace.tallies if t.kind == "call" and t.name in members)
        least, most = _bounds(trace, count)
        if times < least or (most is not None and times > most):
            wanted = str(least) if least == most else f"{least} or more" if most is None else f"{least} to {most}"
            what = f"the core called {' or '.join(members)} {_times(times)}, not {wanted}"
            caller = str(calls[-1].by) if calls else ""
            yield Finding("count", members[0], str(trace.role), caller, what, count.why, "unknown")


def _came_to(trace: Trace, moment: str) -> bool:
    return any(event.ended and not event.error for event in trace.of("moment", moment))


def _bounds(trace: Trace, count: Count) -> tuple[int, int | None]:
    if not count.once_for:
        return count.least, count.most
    often = sum(1 for moment in trace.of("moment", count.once_for) if moment.ended and not moment.error)
    return often, often


def callers(trace: Trace, contract: Contract) -> Iterator[Finding]:
    """Calls of the core from a file in which the release has none: the host is not as the release is.

    Which file asks what the platform is, says nothing.
    """
    seen = set()
    for event in trace.from_core():
        known = _paths(contract, event.name)
        # A private module of the reference holds what several of SGLang's bring out.
        private = any(part.startswith("_") for part in event.by.path.split("/"))
        if private or event.by.path in known or (event.name, event.by.path) in seen:
            continue
        if event.name.startswith(_QUESTIONS):
            continue
        if event.by.path.startswith("srt/platforms/") or _passed_on(contract, event.name):
            continue
        seen.add((event.name, event.by.path))
        why = f"{contract.release}: the core calls it in {', '.join(known) or 'no file'}"
        yield _finding("caller", trace, event, f"{event.name} was called by {event.by.path}", why, "host")


def unfinished(trace: Trace) -> Iterator[Finding]:
    """The innermost call that never came back, of each thread that stands in one."""
    open_ = [event for event in trace.of("call") if not event.ended]
    for event in open_:
        if not any(event in trace.around(other) for other in open_):
            what = f"{event} was called {event.at:.2f} s after the process began and did not return"
            yield _finding("unfinished", trace, event, what, "the process waits for it", "platform")


def hooks(traces: Sequence[Trace]) -> Iterator[Finding]:
    """Hooks that could not be applied, and those that are not in every role: each process loads the plugins anew."""
    why = "0.5.11 to 0.5.23, srt/managers/scheduler.py: each process that is spawned loads the plugins for itself"
    loading = [trace for trace in traces if trace.first("moment", PLUGINS) is not None]
    everywhere = dict.fromkeys(event.name for trace in loading for event in trace.of("applied"))
    for trace in loading:
        applied = {event.name: event for event in trace.of("applied")}
        for event in applied.values():
            if event.error:
                what = f"the hooks on {event.name} could not be applied: {event.error}"
                yield _finding("hooks", trace, event, what, why, "platform")
        for target in everywhere:
            if target not in applied:
                what = f"no hook was put on {target} here, though in another process"
                yield Finding("hooks", target, str(trace.role), "", what, why, "platform")


@dataclass(frozen=True)
class Alive:
    """A hook: where it was applied, and where it ran, by role; ``times`` in all, ``first`` seconds after the start."""

    target: str
    hook: str
    applied: tuple[str, ...]
    ran: tuple[str, ...]
    times: int
    first: float | None


def alive(traces: Sequence[Trace]) -> tuple[Alive, ...]:
    """Of each hook that was applied: whether and when it ran, and in which role."""
    start = min((trace.began for trace in traces), default=0.0)
    pairs = dict.fromkeys((e.name, hook) for trace in traces for e in trace.of("applied") for hook in e.arguments)
    return tuple(_alive(traces, start, target, hook) for target, hook in pairs)


def _alive(traces: Sequence[Trace], start: float, target: str, hook: str) -> Alive:
    applied, ran, times, first = [], [], 0, None
    for trace in traces:
        if any(hook in event.arguments and not event.error for event in trace.of("applied", target)):
            applied.append(str(trace.role))
        runs = [event for event in trace.of("hook", target) if event.detail == hook]
        if runs:
            ran.append(str(trace.role))
            times += len(runs)
            at = trace.began - start + runs[0].at
            first = at if first is None else min(first, at)
    return Alive(target, hook, tuple(applied), tuple(ran), times, first)


def _finding(rule: Rule, trace: Trace, event: Event, what: str, why: str, fault: Fault) -> Finding:
    return Finding(rule, event.name, str(trace.role), str(event.by) if event.by.line else "", what, why, fault)


def _imported_for(trace: Trace, event: Event) -> str:
    """The hook's target whose module was imported when the core did this; empty for all else."""
    return next((outer.name for outer in trace.around(event) if outer.kind == "applied"), "")


def _first(trace: Trace, wanted: What) -> Event | None:
    kind, name = wanted
    return next(trace.from_core(name), None) if kind == "call" else trace.first(kind, name)


def _named(wanted: What) -> str:
    kind, name = wanted
    return f"{name}()" if kind == "call" else f'"{name}"'


def _passed_on(contract: Contract, name: str) -> bool:
    """Whether the core hands the method itself on somewhere, so that other lines call it (0.5.23, platform_hook.py)."""
    member = contract.member(name)
    return member is not None and any(site.call is None for site in member.calls)


def _paths(contract: Contract, name: str) -> tuple[str, ...]:
    member = contract.member(name)
    return tuple(dict.fromkeys(site.path for site in member.calls)) if member is not None else ()


def _times(count: int) -> str:
    names: dict[int, str] = {0: "never", 1: "once", 2: "twice"}
    return names.get(count, f"{count} times")
