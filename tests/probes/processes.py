"""Looking for processes, so that a test can say that none is left."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

MARK = "CONFORMANCE_TEST_MARK"
"""A variable whose value all descendants of a process inherit, whatever becomes of their parents."""


def is_running(pid: int) -> bool:
    """Whether that process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def marked(mark: str) -> list[int]:
    """The running processes that were started, at any remove, with the mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return sorted(pid for pid in found if pid != os.getpid() and is_running(pid))


def comes_true(condition: Callable[[], object], seconds: float = 5.0) -> bool:
    """Whether the condition holds within so many seconds."""
    moment = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > moment:
            return False
        time.sleep(0.02)
    return True
