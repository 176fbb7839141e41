"""The rows of a leg's story: what its processes did, in one sequence, with what repeats told once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from .trace import Event, Kind, Trace

QUESTIONS = "is_"
"""Members that ask what the platform is; they are counted, not told."""


@dataclass(frozen=True)
class Row:
    """One line of the story. ``who`` are the processes, ``depth`` how deep it is nested, ``times`` how often it was.

    ``at`` is in seconds since the first process began; ``seconds`` is None where it did not end. Of several processes
    both are the slowest one's. ``told``: whether its error is told here, not in what happened inside.
    """

    at: float
    who: str
    depth: int
    kind: Kind
    text: str
    asked: str
    seconds: float | None
    result: str
    error: str
    told: bool = True
    times: int = 1


def rows(traces: Sequence[Trace]) -> list[Row]:
    """All rows in the order in which they began; processes share theirs as long as they do the same."""
    start = min((trace.began for trace in traces), default=0.0)
    kinds = dict.fromkeys(trace.role.kind for trace in traces)
    alike = [[trace for trace in traces if trace.role.kind == kind] for kind in kinds]
    found = [row for group in alike for run in _runs(group, start) for row in _folded(run)]
    return sorted(found, key=lambda row: row.at)


def named(traces: Sequence[Trace]) -> str:
    """The processes of a group as ``workers 0-3``, or ``worker 1``."""
    if len(traces) == 1:
        return str(traces[0].role)
    ranks = sorted(trace.role.rank for trace in traces if trace.role.rank is not None)
    if len(ranks) != len(traces):
        return f"{len(traces)} {traces[0].role.kind}s"
    run = ranks == list(range(ranks[0], ranks[-1] + 1)) and len(ranks) > 2
    return f"{traces[0].role.kind}s " + (f"{ranks[0]}-{ranks[-1]}" if run else ", ".join(map(str, ranks)))


def questions(traces: Sequence[Trace]) -> dict[str, int]:
    """How often each of the members was called that ask what the platform is."""
    found: dict[str, int] = {}
    for trace in traces:
        for event in trace.of("call"):
            if event.name.startswith(QUESTIONS):
                found[event.name] = found.get(event.name, 0) + 1
        for tally in trace.tallies:
            if tally.kind == "call" and tally.name.startswith(QUESTIONS):
                found[tally.name] = found.get(tally.name, 0) + tally.times
    return found


def _worth_telling(trace: Trace) -> Iterator[Event]:
    """Without questions that were answered, and hooks that ran well, which are told apart."""
    for event in trace.events:
        routine = event.kind == "hook" or (event.kind == "call" and event.name.startswith(QUESTIONS))
        if not (routine and event.ended and not event.error):
            yield event


def _runs(group: Sequence[Trace], start: float) -> Iterator[list[Row]]:
    """The rows of processes of one kind: those that all did, and then those of each part that did something else."""
    waiting = [[(trace, list(_worth_telling(trace))) for trace in group]]
    while waiting:
        alike, run = waiting.pop(), []
        for index in range(max(len(events) for _, events in alike)):
            parts: dict[object, list[tuple[Trace, list[Event]]]] = {}
            for trace, events in alike:
                parts.setdefault(_did(events[index]) if index < len(events) else None, []).append((trace, events))
            if len(parts) > 1:
                waiting += [[(trace, events[index:]) for trace, events in part] for part in parts.values()]
                break
            run.append(_row([trace for trace, _ in alike], [events[index] for _, events in alike], start))
        yield run


def _did(event: Event) -> tuple[object, ...]:
    return event.kind, str(event), event.error, event.ended


def _row(traces: Sequence[Trace], events: Sequence[Event], start: float) -> Row:
    trace, event = traces[0], events[0]
    shown = event.kind == "call" or event.by.origin == "vendor"
    return Row(
        at=max(trace.began - start + each.at for trace, each in zip(traces, events, strict=True)),
        who=named(traces),
        depth=sum(1 for _ in trace.around(event)),
        kind=event.kind,
        text=_text(event),
        asked=str(event.by) if shown and event.by.line else "",
        seconds=None if not event.ended else max(each.seconds or 0.0 for each in events),
        result=_result(events),
        error=event.error,
        told=not (event.error and _raised_inside(trace, event)),
    )


def _raised_inside(trace: Trace, event: Event) -> bool:
    return any(event in trace.around(each) for each in trace.events if each.error == event.error)


def _text(event: Event) -> str:
    if event.kind == "applied":
        kinds = ", ".join(f"{hook.partition(' ')[0]}" for hook in event.arguments)
        return f"{kinds} hook on {short(event.name)}"
    if event.kind == "hook":
        return f"{event.detail} on {short(event.name)}"
    words = f"{event.name}, {event.detail}" if event.detail else event.name
    return str(event) if event.kind == "call" else words


def short(target: str) -> str:
    """A hook's target without its module: ``ModelRunner.load_model``."""
    owner, _, name = target.rpartition(".")
    owner = owner.rpartition(".")[2]
    return f"{owner}.{name}" if owner[:1].isupper() else name


def _result(events: Sequence[Event]) -> str:
    """What came of it, where it says something; ``…`` where the processes had different answers."""
    results = list(dict.fromkeys(event.result for event in events))
    if len(results) > 1:
        return "…"
    return "" if results[0] in ("None", "") or events[0].kind != "call" else results[0]


def _folded(found: Iterable[Row]) -> Iterator[Row]:
    """What repeats itself at once, told once: with its number, and the time of all."""
    last: Row | None = None
    for row in found:
        same = last is not None and _key(last) == _key(row) and row.seconds is not None and last.seconds is not None
        if same and last is not None:
            last = replace(last, times=last.times + 1, seconds=(last.seconds or 0.0) + (row.seconds or 0.0))
            continue
        if last is not None:
            yield last
        last = row
    if last is not None:
        yield last


def _key(row: Row) -> tuple[object, ...]:
    return row.depth, row.kind, row.text, row.asked, row.result, row.error
