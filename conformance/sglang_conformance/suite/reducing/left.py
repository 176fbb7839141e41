"""What is left of memory that processes share.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_ROOM = "/dev/shm/"


def files_held() -> set[str]:
    """The files of shared memory that this process has open or mapped, as far as they have a name."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        found = {line[line.index(_ROOM) :].rstrip("\n") for line in file if _ROOM in line}
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the folder itself is gone
            found.add(os.readlink(descriptor))
    return {name for name in found if name.startswith(_ROOM) and os.path.exists(name)}


def shared_mappings() -> int:
    """How many pieces of its memory this process shares with others."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        return sum(line.split(maxsplit=2)[1].endswith("s") for line in file)
