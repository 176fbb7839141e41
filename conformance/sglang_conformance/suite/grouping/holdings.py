"""What a process holds that groups may leave behind, counted.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Mapping

from ...hosts import groups
from . import joining

_MEMORY = "MiB of memory"
_SECONDS = 1.0  # sockets and threads of a backend may take a moment to go
SPARE: Mapping[str, int] = {_MEMORY: 24}
"""How much more of something is no sign of a leak: an allocator keeps what was given back."""


def settled(before: Mapping[str, int] | None = None) -> dict[str, int]:
    """The counts, once they do not exceed those before; or as they are after a while."""
    gc.collect()
    until = time.monotonic() + _SECONDS
    while True:
        found = _counts()
        enough = before is None or all(found[name] <= count + SPARE.get(name, 0) for name, count in before.items())
        if enough or time.monotonic() > until:
            return found
        time.sleep(0.01)


def _counts() -> dict[str, int]:
    return {
        "process groups": joining.open_groups(),
        "coordinators": len(groups.living()),
        "open files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "mappings of shared memory": _shared_mappings(),
        _MEMORY: _resident(),
    }


def _shared_mappings() -> int:
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        return sum("/dev/shm/" in line for line in file)
    return 0


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
