"""What a server leaves behind once it has ended: processes, threads, shared memory.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import resource_tracker
from pathlib import Path

from ..probes.observe import Moment, changes, observe
from . import shared_memory

_POLL = 0.05


def look(
    before: Moment, grace: float, shared: Callable[[], frozenset[str]], spared: Sequence[str] = ()
) -> Mapping[str, list[str]]:
    """What is there now and was not before, as texts by its kind, after ``grace`` seconds at most.

    ``shared`` gives the server's files of shared memory that are there; those that some process still holds are
    another's too: whatever the server began has ended, or is told itself. Native threads whose names begin with one of
    ``spared`` are left out.
    """
    end = time.monotonic() + grace
    while True:
        found = {
            "processes": _processes(),
            "threads": _threads(before, tuple(spared)),
            "shared memory": sorted(name for name in shared() if not shared_memory.is_held(name)),
        }
        if not any(found.values()) or time.monotonic() >= end:
            return found
        time.sleep(_POLL)


def _threads(before: Moment, spared: tuple[str, ...]) -> list[str]:
    new = changes(before, observe()).threads
    return [name for name in new if not (spared and _named(name.rpartition("native thread ")[2]).startswith(spared))]


def _named(number: str) -> str:
    """The name that a thread of this process has for the system."""
    try:
        return Path(f"/proc/self/task/{number}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, ValueError):
        return ""


def _processes() -> list[str]:
    """The children of this process, by their command, less the tracker that Python itself starts."""
    tracker = getattr(resource_tracker._resource_tracker, "_pid", None)
    found = []
    for pid in _children():
        state, command = _told(pid)
        if pid != tracker and state != "Z":
            found.append(f"{pid}: {command}")
    return found


def _children() -> list[int]:
    try:
        text = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(pid) for pid in text.split()]


def _told(pid: int) -> tuple[str, str]:
    """A process's state, and its command."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return "Z", ""
    return state, command[:120]
