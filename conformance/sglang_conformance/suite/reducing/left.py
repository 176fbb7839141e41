"""What is left of memory that processes share.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

_ROOM = Path("/dev/shm")
_SECONDS = 1.0  # another process's file may just have been made


def shared_memory() -> set[str]:
    """The files of shared memory on this machine."""
    with contextlib.suppress(OSError):
        return {entry.name for entry in os.scandir(_ROOM)}
    return set()


def unheld(before: set[str]) -> list[str]:
    """The files of shared memory that are new, and that no process has mapped or open; none where it cannot be told."""
    until = time.monotonic() + _SECONDS
    while True:
        found = {name for name in shared_memory() - before if (_ROOM / name).exists()}
        left = sorted(found - _held(found)) if found else []
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.05)


def shared_mappings() -> int:
    """How many pieces of its memory this process shares with others."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        return sum(line.split(maxsplit=2)[1].endswith("s") for line in file)


def _held(names: set[str]) -> set[str]:
    """Those of the files that a process has mapped."""
    held = set()
    for process in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            text = process.read_text(errors="replace")
            held |= {name for name in names if f"{_ROOM}/{name}" in text}
    return held
