"""Processes in which SGLang loads the vendor's hooks: what came to be there.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...hosts.enter import resolve, resolve_afresh
from ...subject import Subject
from ..isolate import in_fork
from .plugin import registrations, rehearse


def hooked(subject: Subject) -> list[str]:
    """The targets where a hook of the vendor's was applied in this process, which has loaded the plugins."""
    from sglang.srt.plugins.hook_registry import HookRegistry

    registered = registrations(subject) or rehearse(subject)  # the latter tells what SGLang swallowed
    return sorted({r.target for r in registered} & HookRegistry._patched)


def hooked_in_fork(subject: Subject) -> Any:
    """The same in a fork of this process, which has not loaded them yet."""

    def body() -> list[str]:
        resolve()
        return hooked(subject)

    return in_fork(body).settled("load_plugins() in a process of its own")


def hooked_afresh(kind: str, table: Mapping[str, Any], subject: Mapping[str, Any]) -> list[str]:
    """The same in a process that has just begun."""
    resolve_afresh(kind, table)
    return hooked(Subject.from_json(subject))
