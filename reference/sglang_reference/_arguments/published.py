"""The arguments of this process: those that its entry has published."""

from __future__ import annotations

from typing import Any

_published: list[Any] = []
_devices: list[int | None] = []


def publish(arguments: Any, gpu_id: int | None = None) -> None:
    """Make these the arguments of this process, in place of others, and note the index of its device."""
    _published[:] = [arguments]
    _devices[:] = [gpu_id]


def published() -> Any:
    """The arguments of this process; None where there are none yet."""
    return _published[0] if _published else None


def gpu_id() -> int:
    """The index of this process's device. ValueError where it was not published with one."""
    index = _devices[0] if _devices else None
    if index is None:
        raise ValueError("no device is published for this process: publish(..., ranks=SpawnRanks(..., gpu_id=...))")
    return index
