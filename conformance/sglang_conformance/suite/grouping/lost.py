"""A rank whose peer is lost to it: in forks of a probe, since a backend may rightly end a process that waits in vain.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...hosts import groups
from .. import expect, isolate
from ..aids import worker
from . import numbers

STAYS_AWAY, DIES = "stays away", "dies"
_CANNOT = "there are not two devices"
_READY, _LOST, _DONE = "ready", "lost", "done"
_SIZE = 2
_TIMEOUTS = (1, 3, 9)  # the least that SGLang takes; on a busy machine it may be short for joining


@dataclass(frozen=True)
class _Pair:
    """Two ranks that meet in a folder, with the timeout of their groups and the time that all may take, in seconds."""

    platform: Any
    folder: Path
    timeout: int
    within: float

    def say(self, word: str) -> None:
        """Let the other know."""
        (self.folder / word).touch()

    def wait_for(self, word: str) -> None:
        """Wait for what the other lets know, but not beyond the time."""
        until = time.monotonic() + self.within
        while not (self.folder / word).exists() and time.monotonic() < until:
            time.sleep(0.001)


def waiting(platform: Any, way: str, deadline: float, *, aborting: bool = False) -> isolate.Outcome | None:
    """What comes of rank 0 of two, whose peer has joined and then ``stays away`` or ``dies``.

    It reduces with the peer, or (``aborting``) drops its groups. None where there cannot be two ranks here.
    """
    groups.state()  # imported here, for both
    if not isolate.can_fork(platform):
        return None
    until = time.monotonic() + 0.8 * deadline
    for timeout in _TIMEOUTS:
        with tempfile.TemporaryDirectory() as folder:
            pair = _Pair(platform, Path(folder), timeout, until - time.monotonic())
            outcome = isolate.in_forks([partial(_lose, pair, aborting), partial(_be_lost, pair, way)], pair.within)[0]
        if "NotCovered" in outcome.bases:
            raise expect.NotCovered(outcome.message)
        if "Violation" not in outcome.bases:
            break
    return None if outcome.value == _CANNOT else outcome


def _lose(pair: _Pair, aborting: bool) -> str:
    joined = _join(pair, 0)
    if joined is None:
        return _CANNOT
    group, tensor = joined
    try:
        pair.wait_for(_LOST)
        if aborting:
            groups.state().abort_distributed_environment()
            return "dropped"
        _reduce(group, tensor)
        return "went on"
    finally:
        pair.say(_DONE)


def _be_lost(pair: _Pair, way: str) -> None:
    if _join(pair, 1) is not None:
        pair.say(_LOST)
        if way == DIES:
            os._exit(1)
        pair.wait_for(_DONE)


def _join(pair: _Pair, number: int) -> tuple[Any, Any] | None:
    """The group of both ranks on the platform's backend, and what it has carried; None where there cannot be one."""
    found = worker.devices(pair.platform)
    if len(found) < _SIZE and found[0].type != "cpu":
        return None  # two ranks on one accelerator: vendors' backends rightly refuse
    device = found[number % len(found)]
    worker.make_current(pair.platform, device)
    pair.say(f"{_READY}{number}")  # the timeout is not for what either of them imports
    pair.wait_for(f"{_READY}{1 - number}")

    def join() -> tuple[Any, Any]:
        where = f"file://{pair.folder}/meeting"
        backend = groups.state().get_default_distributed_backend(device.type)
        groups.join(rank=number, size=_SIZE, local_rank=number, method=where, backend=backend, timeout=pair.timeout)
        groups.lay_out(tp=_SIZE)
        group, tensor = groups.group("tp").device_group, numbers.tensor(number, device)
        _reduce(group, tensor)
        return group, tensor

    made: tuple[Any, Any] = expect.attempt(f"joining with a timeout of {pair.timeout} s", join).value
    return made


def _reduce(group: Any, tensor: Any) -> None:
    """By the group's own method: torch's function would be watched, and wait for the peer before it is called."""
    group.allreduce([tensor]).wait()
    tensor.cpu()
