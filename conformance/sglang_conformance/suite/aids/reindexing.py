"""``reindex_device_id``: what it gives, and whether the environment is as before when it is left.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...hosts.enter import resolve_afresh
from .. import expect, isolate
from . import uuids, worker


@dataclass(frozen=True)
class Child:
    """How a process that starts afresh gets at the platform: the host, its contract, and the seconds it has."""

    host: str
    contract: Mapping[str, Any]
    deadline: float


def given(platform: Any, index: int, child: Child) -> tuple[int, isolate.Outcome | None]:
    """What the context manager gives for a device, and what a child that is started inside it finds at that index.

    None for the child where nothing differs inside: the same index, and the same environment.
    """
    before = dict(os.environ)
    with platform.reindex_device_id(index) as logical:
        if not isinstance(logical, int) or (logical == index and os.environ == before):
            return logical, None
        found = isolate.spawned(found_at, child.host, child.contract, logical, deadline=child.deadline)
    return logical, found


def names(found: isolate.Outcome, uuid: str | None, *, call: str) -> None:
    """A violation unless the child found one device at the index: that of the uuid, where both are told."""
    seen = found.settled(call)
    expect.that(seen, expected="a device that there is", seen="none of that index", call=call)
    if uuid is not None and seen != [None]:
        expect.equal(seen, [uuid], call=f"{call}; its uuid")


def found_at(kind: str, table: Mapping[str, Any], index: int) -> list[str | None]:
    """In a worker that was spawned: the uuid of the device of that index; None where the platform tells none.

    Nothing where there is no such device.
    """
    platform = resolve_afresh(kind, table)
    there = [device for device in worker.devices(platform) if worker.index_of(device) == index]
    return [uuid_of(platform, device) for device in there]


def uuid_of(platform: Any, device: Any) -> str | None:
    """The uuid of a device; None where the platform tells none."""
    try:
        return str(uuids.asked(platform, device).value)
    except (expect.Declined, expect.Violation):
        return None  # which is judged by itself


def puts_back(platform: Any, *, raising: bool) -> None:
    """Enter and leave it, in order or by an error; a violation where an environment variable is not as before."""
    worker.start(platform)
    call = "with platform.reindex_device_id(0)" + (": raise" if raising else "")
    before = dict(os.environ)
    expect.attempt(call, lambda: _enter_and_leave(platform, raising))
    names = sorted(set(before) | set(os.environ))
    left = {name: os.environ.get(name) for name in names if before.get(name) != os.environ.get(name)}
    where = expect.place_of(platform, "reindex_device_id")
    expect.equal(left, {}, call=f"{call}; environment variables that differ afterwards", where=where)


def _enter_and_leave(platform: Any, raising: bool) -> None:
    try:
        with platform.reindex_device_id(0):
            if raising:
                raise KeyError("a child that does not start")
    except KeyError:
        pass
