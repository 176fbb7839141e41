"""What happened to a platform in one process: frozen records, read from the lines that the process wrote as it went.

Every event is written when it begins and again when it ends, so that the trace of a process which hung, was killed or
left by ``os._exit`` says what it was in. Times are seconds since the process began; ``began`` is on the system's
monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

RoleKind = Literal["launcher", "scheduler", "worker", "other"]
Kind = Literal["call", "moment", "applied", "hook"]
Origin = Literal["core", "vendor", "kit", "unknown"]

RESOLVED = "platform resolved"
PLUGINS, HOOKS = "plugins loaded", "hooks applied"
ARGUMENTS = "arguments settled"
DEVICE, GROUPS, MEMORY = "device started", "groups made", "memory measured"
MODEL, POOLS, ATTENTION, GRAPHS = "model loaded", "pools made", "attention made", "graphs captured"
TOKEN, END, FAILED = "first token", "end", "failed"
BEFORE = "before the trace began"
IMPORTED = "while a module is imported"


@dataclass(frozen=True)
class Role:
    """What a process is for: ``worker 0`` is the one of rank 0, which holds its scheduler too, as in SGLang."""

    kind: RoleKind
    rank: int | None = None

    def __str__(self) -> str:
        return self.kind if self.rank is None else f"{self.kind} {self.rank}"

    @classmethod
    def parse(cls, text: str) -> Role:
        """Read back what ``str`` writes; raises ValueError for anything else."""
        kind, _, rank = text.partition(" ")
        if kind not in ("launcher", "scheduler", "worker", "other"):
            raise ValueError(f"{text!r} is no role")
        return cls(cast("RoleKind", kind), int(rank) if rank else None)


@dataclass(frozen=True)
class Place:
    """A line of code: ``path`` as the contract's call sites have it, ``srt/utils/common.py`` or ``vendor/platform.py``.

    ``origin``: SGLang's core, the kit, or any other package, which is the vendor's or his dependency.
    """

    path: str
    line: int
    origin: Origin

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else self.path


NOWHERE = Place("unknown", 0, "unknown")


@dataclass(frozen=True)
class Event:
    """One thing that happened. What ``name``, ``detail`` and ``arguments`` are depends on the kind:

    ``call``: a member of the platform, called with ``arguments``. ``moment``: of the process's life, with ``detail`` as
    words. ``applied``: the hook target that hooks were put on, the hooks as ``arguments``. ``hook``: the target of a
    hook that ran, with ``detail`` as the hook, as ``AFTER vendor.hooks.watch``.

    ``seconds`` is None where it had not ended when the process did; ``result`` is what came of it, shown short,
    ``error`` what was raised. ``inside`` is the number of the event in which this one began, in the same thread.
    """

    number: int
    kind: Kind
    name: str
    at: float
    by: Place = NOWHERE
    arguments: tuple[str, ...] = ()
    detail: str = ""
    inside: int | None = None
    seconds: float | None = None
    result: str = ""
    error: str = ""

    @property
    def ended(self) -> bool:
        """Whether it came to an end, well or not."""
        return self.seconds is not None

    @property
    def until(self) -> float:
        """When it ended; endless where it did not."""
        return float("inf") if self.seconds is None else self.at + self.seconds

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.arguments)})" if self.kind == "call" else self.name


@dataclass(frozen=True)
class Tally:
    """Further events of one kind and name from one place, counted only: there were ``times``, of ``seconds`` in all."""

    kind: Kind
    name: str
    by: Place
    times: int
    seconds: float


@dataclass(frozen=True)
class Trace:
    """One process's events in the order in which they began.

    ``platform`` is the class of the platform, empty where none was resolved; ``blind`` says why its calls could not be
    seen, empty where they could.
    """

    role: Role
    pid: int = 0
    began: float = 0.0
    platform: str = ""
    blind: str = ""
    events: tuple[Event, ...] = ()
    tallies: tuple[Tally, ...] = ()
    _by_number: dict[int, Event] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._by_number.update({event.number: event for event in self.events})

    def of(self, kind: Kind, *names: str) -> Iterator[Event]:
        """The events of a kind, of these names where some are given."""
        return (event for event in self.events if event.kind == kind and (not names or event.name in names))

    def first(self, kind: Kind, name: str) -> Event | None:
        """The first event of that kind and name."""
        return next(self.of(kind, name), None)

    def around(self, event: Event) -> Iterator[Event]:
        """The events in which it happened, innermost first."""
        while event.inside is not None and event.inside in self._by_number:
            event = self._by_number[event.inside]
            yield event

    def nested(self, event: Event) -> bool:
        """Whether a call was made within another of the platform's: by the vendor's own code, or SGLang's default."""
        return any(outer.kind == "call" for outer in self.around(event))

    def from_core(self, *names: str) -> Iterator[Event]:
        """The calls that SGLang's core made, not those within another call."""
        return (e for e in self.of("call", *names) if e.by.origin == "core" and not self.nested(e))

    @property
    def ended(self) -> bool:
        """Whether the process came to its end in order."""
        return self.first("moment", END) is not None

    def to_json(self) -> dict[str, Any]:
        """The trace as plain data; :meth:`from_json` reads it back unchanged."""
        return {
            "role": str(self.role),
            "pid": self.pid,
            "began": self.began,
            "platform": self.platform,
            "blind": self.blind,
            "events": [asdict(event) for event in self.events],
            "tallies": [asdict(tally) for tally in self.tallies],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trace:
        """Read a trace; raises KeyError, TypeError or ValueError where the data is not one."""
        return cls(
            role=Role.parse(data["role"]),
            pid=int(data["pid"]),
            began=float(data["began"]),
            platform=data["platform"],
            blind=data["blind"],
            events=tuple(event_from_json(event) for event in data["events"]),
            tallies=tuple(_tally(tally) for tally in data["tallies"]),
        )


def event_from_json(data: Mapping[str, Any]) -> Event:
    """Read an event; raises KeyError or TypeError where the data is not one."""
    return Event(**{**data, "by": Place(**data["by"]), "arguments": tuple(data["arguments"])})


def _tally(data: Mapping[str, Any]) -> Tally:
    return Tally(**{**data, "by": Place(**data["by"])})


def of_lines(lines: Iterable[str]) -> Trace:
    """The trace that a process wrote, line by line; a last line that was cut short is left out.

    Raises ValueError where the first line is not the head of a trace.
    """
    trace: Trace | None = None
    events: dict[int, Event] = {}
    tallies: dict[tuple[str, str, Place], Tally] = {}
    for line in lines:
        try:
            data = json.loads(line)
        except ValueError:
            continue
        if "process" in data:
            known = trace or Trace(Role("other"))
            trace = replace(known, **{**data["process"], "role": Role.parse(data["process"]["role"])})
        elif "begins" in data:
            event = event_from_json(data["begins"])
            events[event.number] = event
        elif "ends" in data:
            events[data["number"]] = replace(events[data["number"]], **data["ends"])
        elif "tally" in data:
            tally = _tally(data["tally"])
            tallies[tally.kind, tally.name, tally.by] = tally
    if trace is None:
        raise ValueError("no line says what process this is; a trace begins with one")
    in_order = sorted(events.values(), key=lambda event: event.number)
    return replace(trace, events=tuple(in_order), tallies=tuple(tallies.values()))


def read(folder: Path) -> tuple[Trace, ...]:
    """The traces that processes wrote into a folder, in the order in which they began.

    A process that ended before it could say what it is leaves no trace. Raises OSError.
    """
    found = []
    for file in folder.glob("*.trace"):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        if lines:
            found.append(of_lines(lines))
    return tuple(sorted(found, key=lambda trace: (trace.began, str(trace.role))))
