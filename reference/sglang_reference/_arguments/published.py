"""The arguments of this process: those that its entry has published."""

from __future__ import annotations

from typing import Any

_published: list[Any] = []


def publish(arguments: Any) -> None:
    """Make these the arguments of this process, in place of others."""
    _published[:] = [arguments]


def published() -> Any:
    """The arguments of this process; None where there are none yet."""
    return _published[0] if _published else None
