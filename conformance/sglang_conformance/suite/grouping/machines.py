"""Whose memory ranks share.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os

_SHARED_MEMORY = "/dev/shm"


def memory() -> str:
    """Names the shared memory of this process: the machine since it was started, and what is mounted there."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return f"{file.read().strip()} {os.stat(_SHARED_MEMORY).st_dev}"
