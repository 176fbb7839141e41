"""What a process holds that groups and collectives may leave behind.

Things are counted, and must be as many as before. Memory is compared between two halves of a run: what an allocator
keeps, or fills up once, does not grow in both.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from ...hosts import groups
from . import joining

_SECONDS = 1.0  # sockets and threads of a backend may take a moment to go
_MEMORY = ("RssAnon:", "RssShmem:")


def grown(act: Callable[[int], None], times: int, least: int, device: Any, platform: Any) -> dict[str, str]:
    """Of what a process holds more after acting so many times, by name, in words: empty where it does not.

    ``act`` is given how often it was called before. Memory has grown where in both halves each time took ``least``
    bytes more.
    """
    before, memory = _settled(), [_memory(device, platform)]
    for half in range(2):
        for number in range(times // 2):
            act(half * (times // 2) + number)
        gc.collect()
        memory.append(_memory(device, platform))
    after = _settled(before)
    found = {name: f"{count}, and then {after[name]}" for name, count in before.items() if after[name] > count}
    for name in memory[0]:
        first, second, last = (each.get(name, 0) for each in memory)
        if min(second - first, last - second) > least * (times // 2):
            found[name] = f"{first >> 10} KiB, then {second >> 10} KiB, and then {last >> 10} KiB"
    return found


def _settled(before: Mapping[str, int] | None = None) -> dict[str, int]:
    """The counts, once they do not exceed those before; or as they are after a while."""
    gc.collect()
    until = time.monotonic() + _SECONDS
    while True:
        found = _counts()
        if before is None or all(found[name] <= count for name, count in before.items()) or time.monotonic() > until:
            return found
        time.sleep(0.01)


def _counts() -> dict[str, int]:
    return {
        "process groups": joining.open_groups(),
        "coordinators": len(groups.living()),
        "open files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "mappings of shared memory": _shared_mappings(),
    }


def _shared_mappings() -> int:
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        return sum("/dev/shm/" in line for line in file)
    return 0


def _memory(device: Any, platform: Any) -> dict[str, int]:
    """The bytes of memory that this process has for itself, on the host and as far as it is told on the device."""
    import torch

    found = {"memory of the process": _own_memory()}
    if device.type == "cpu":
        return found
    module = torch.get_device_module(device)
    answers: dict[str, Callable[[], Any]] = {
        "memory allocated on the device": lambda: module.memory_allocated(device),
        "memory in use on the device": lambda: _in_use(module, device),
        "memory in use, as the platform tells": lambda: platform.get_current_memory_usage(device),
    }
    for name, answer in answers.items():
        with contextlib.suppress(Exception):  # another requirement's, where the platform should have answered
            found[name] = int(answer())
    return found


def _in_use(module: Any, device: Any) -> int:
    free, total = module.mem_get_info(device)
    return int(total - free)


def _own_memory() -> int:
    """Without what the C library's allocator has free: what is kept could come from there, and would not show."""
    with contextlib.suppress(AttributeError):  # of glibc alone
        ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith(_MEMORY))
