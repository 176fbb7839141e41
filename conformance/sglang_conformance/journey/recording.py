"""The recorder of one process: events as they begin and end, each written to the process's file at once.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .shown import raised, shown
from .trace import END, FAILED, NOWHERE, Event, Kind, Place, Role, Tally, Trace, of_lines
from .whose import born, caller

KEEP = 200
"""So many events of one kind and name from one place are kept; of more only the number and the time, and the errors."""

_PASS_ON: dict[Kind, tuple[str, ...]] = {"call": (), "hook": ("sglang.srt.plugins.hook_registry",)}


class Recorder:
    """Writes down what happens in this process, from its beginning on; safe to use from any thread.

    ``folder``: where its file goes, named after the process; None keeps the lines in memory only. What a fork of the
    process does is not written: it must make a recorder of its own.
    """

    def __init__(self, role: Role, folder: Path | None = None) -> None:
        self._head = Trace(role, os.getpid(), _began())
        self._lines: list[str] = []
        self._file = None if folder is None else _opened(folder / f"{os.getpid()}-{time.monotonic_ns()}.trace")
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._counts: Counter[tuple[Kind, str, Place]] = Counter()
        self._tallies: dict[tuple[Kind, str, Place], Tally] = {}
        self._uncounted: set[int] = set()
        self._within = threading.local()
        self._say_who()

    @property
    def role(self) -> Role:
        """What this process is for."""
        return self._head.role

    def becomes(self, role: Role) -> None:
        """What this process is for, known better than at its start."""
        self._head = replace(self._head, role=role)
        self._say_who()

    def meets(self, platform: str, blind: str = "") -> None:
        """The class of the platform, and why its calls cannot be seen."""
        self._head = replace(self._head, platform=platform, blind=blind)
        self._say_who()

    def begin(
        self, kind: Kind, name: str, by: Place = NOWHERE, arguments: Sequence[str] = (), detail: str = ""
    ) -> Event:
        """Something begins; give what this returns to :meth:`end`."""
        event = Event(
            number=next(self._numbers),
            kind=kind,
            name=name,
            at=self._now(),
            by=by,
            arguments=tuple(arguments),
            detail=detail,
            inside=self._stack[-1] if self._stack else None,
        )
        self._stack.append(event.number)
        if not self._is_one_too_many(event):
            self._write({"begins": asdict(event)})
        return event

    def end(self, event: Event, result: str = "", error: str = "") -> None:
        """It ended, well or with an error."""
        seconds = self._now() - event.at
        if event.number in self._stack:
            del self._stack[self._stack.index(event.number) :]
        if self._counted(event, seconds):
            if not error:
                return
            self._write({"begins": asdict(event)})
        self._write({"ends": {"seconds": seconds, "result": result, "error": error}, "number": event.number})

    def mark(self, name: str, detail: str = "") -> None:
        """A moment of the process's life; ``END`` is the last."""
        if name == END:
            self._settle()
        self.end(self.begin("moment", name, caller(), detail=detail))

    def failed(self, error: BaseException) -> None:
        """What ends this process: ``by`` is the innermost line of the vendor's code that it came through, else any."""
        self.end(self.begin("moment", FAILED, born(error)), error=raised(error))

    @contextlib.contextmanager
    def moment(self, name: str, detail: str = "") -> Iterator[None]:
        """A stretch of the process's life."""
        with self.recorded("moment", name, caller(), detail=detail):
            yield

    @contextlib.contextmanager
    def recorded(
        self, kind: Kind, name: str, by: Place, arguments: Sequence[str] = (), detail: str = ""
    ) -> Iterator[None]:
        """Record what happens inside as one event without a result."""
        event = self.begin(kind, name, by, arguments, detail)
        try:
            yield
        except BaseException as error:
            self.end(event, error=raised(error))
            raise
        self.end(event)

    def call(
        self, kind: Kind, name: str, detail: str, function: Callable[..., Any], args: Any, kwargs: Any, skip: int = 0
    ) -> Any:
        """Call a function and record it; ``skip``: so many of ``args`` are not told (a method's self)."""
        told = [*map(shown, args[skip:]), *(f"{key}={shown(value)}" for key, value in kwargs.items())]
        event = self.begin(kind, name, caller(*_PASS_ON[kind]), told, detail)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self.end(event, error=raised(error))
            raise
        self.end(event, shown(result))
        return result

    def trace(self) -> Trace:
        """All so far."""
        self._settle()
        with self._lock:
            return of_lines(self._lines)

    @property
    def _stack(self) -> list[int]:
        stack: list[int] | None = getattr(self._within, "stack", None)
        if stack is None:
            stack = self._within.stack = []
        return stack

    def _now(self) -> float:
        return time.monotonic() - self._head.began

    def _say_who(self) -> None:
        head = self._head
        names = {"role": str(head.role), "pid": head.pid, "began": head.began}
        self._write({"process": {**names, "platform": head.platform, "blind": head.blind}})

    def _is_one_too_many(self, event: Event) -> bool:
        key = event.kind, event.name, event.by
        with self._lock:
            self._counts[key] += 1
            if self._counts[key] <= KEEP:
                return False
            self._uncounted.add(event.number)
            self._tallies.setdefault(key, Tally(event.kind, event.name, event.by, 0, 0.0))
        return True

    def _counted(self, event: Event, seconds: float) -> bool:
        """Whether the event was only counted; how many these are is written at each power of two, and at the end."""
        with self._lock:
            if event.number not in self._uncounted:
                return False
            self._uncounted.discard(event.number)
            key = event.kind, event.name, event.by
            known = self._tallies[key]
            tally = replace(known, times=known.times + 1, seconds=known.seconds + seconds)
            self._tallies[key] = tally
        if tally.times & (tally.times - 1) == 0:
            self._write({"tally": asdict(tally)})
        return True

    def _settle(self) -> None:
        for tally in list(self._tallies.values()):
            self._write({"tally": asdict(tally)})

    def _write(self, data: dict[str, Any]) -> None:
        if os.getpid() != self._head.pid:
            return
        line = json.dumps(data)
        with self._lock:
            self._lines.append(line)
            if self._file is not None:
                with contextlib.suppress(OSError):  # a full disk is no reason to disturb the platform
                    os.write(self._file, f"{line}\n".encode())


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def _began() -> float:
    """When this process began, on the monotonic clock; now where the system does not tell."""
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic()
    return time.monotonic() - max(age, 0.0)
