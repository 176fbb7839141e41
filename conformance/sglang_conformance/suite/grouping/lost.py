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
_CANNOT = "two ranks need two devices, and there is one"
_READY, _JOINED, _LOST, _DONE = "ready", "joined", "lost", "done"
_SIZE = 2
_TIMEOUTS = (1, 3, 9, 27, 81)  # the least that SGLang takes; it may be short for joining


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

    def heard(self, word: str) -> bool:
        """Whether the other has let know."""
        return (self.folder / word).exists()

    def wait_for(self, word: str) -> None:
        """Wait for what the other lets know, but not beyond the time."""
        until = time.monotonic() + self.within
        while not self.heard(word) and time.monotonic() < until:
            time.sleep(0.001)


def waiting(platform: Any, way: str, deadline: float, *, aborting: bool = False) -> isolate.Outcome:
    """What comes of rank 0 of two, whose peer has joined and then ``stays away`` or ``dies``.

    It reduces with the peer, or (``aborting``) drops its groups. Raises Declined where this process cannot be forked,
    NotCovered where there are no two devices, and NotReached where the ranks did not join within any timeout for which
    there is time.
    """
    until = time.monotonic() + 0.8 * deadline
    groups.load()  # imported here, for both, and not while they join
    if not isolate.can_fork(platform):
        raise expect.Declined(isolate.CANNOT_FORK)
    outcome = isolate.Outcome(error="Hung", message="there was no time")
    for timeout in _TIMEOUTS:
        if timeout > until - time.monotonic():
            break
        with tempfile.TemporaryDirectory() as folder:
            pair = _Pair(platform, Path(folder), timeout, until - time.monotonic())
            outcome = isolate.in_forks([partial(_lose, pair, aborting), partial(_be_lost, pair, way)], pair.within)[0]
            if pair.heard(_JOINED):
                return outcome
        if "NotCovered" in outcome.bases:
            raise expect.NotCovered(outcome.message)
        if outcome.value == _CANNOT:
            raise expect.NotCovered(_CANNOT)
    raise expect.NotReached(f"two ranks did not join with any timeout for which there is time: {outcome}")


def _lose(pair: _Pair, aborting: bool) -> str:
    joined = _join(pair, 0)
    if joined is None:
        return _CANNOT
    group, tensor = joined
    pair.say(_JOINED)
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
