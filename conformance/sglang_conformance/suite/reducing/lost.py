"""A rank whose peer is killed: in forks of a probe, since an engine may rightly end a process that waits in vain.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...hosts import groups
from .. import expect, isolate
from ..aids import worker
from ..collecting import drawn
from . import engines, left

_NONE, _ONE_DEVICE = "none", "two ranks need two devices, and there is one"
_JOINED, _KILLED, _HELD = "joined", "killed", "held"
_SIZE = 2
_COUNTS = (256, 4096, 64)


@dataclass(frozen=True)
class _Pair:
    """Two ranks that meet in a folder, and the seconds that all may take; ``reducing``: also after one is killed."""

    platform: Any
    folder: Path
    within: float
    reducing: bool

    def say(self, word: str) -> None:
        (self.folder / word).touch()

    def list(self, names: set[str]) -> None:
        with open(self.folder / _HELD, "a") as file:
            file.writelines(f"{name}\n" for name in sorted(names))

    def wait_for(self, word: str) -> None:
        until = time.monotonic() + self.within
        while not (self.folder / word).exists() and time.monotonic() < until:
            time.sleep(0.001)


def require(platform: Any, declared: bool) -> None:
    """Declined where there is nothing to see, or this process cannot be forked."""
    if not declared:
        raise expect.Declined("the platform declares no custom all-reduce")
    groups.load()  # imported here, for both
    if not isolate.can_fork(platform):
        raise expect.Declined(isolate.CANNOT_FORK)


def waiting(platform: Any, deadline: float, *, reducing: bool) -> tuple[isolate.Outcome, list[str]]:
    """What comes of rank 0 of two, which has reduced with the other before that was killed; and what is left of the
    files of shared memory that the two had.

    Raises Declined where their group has no custom all-reduce, NotCovered where there are no two devices, NotReached
    where they did not come so far.
    """
    with tempfile.TemporaryDirectory() as folder:
        pair = _Pair(platform, Path(folder), 0.7 * deadline, reducing)
        outcome = isolate.in_forks([partial(_stay, pair), partial(_be_killed, pair)], pair.within)[0]
        reached = (pair.folder / _KILLED).exists()
        names = set((pair.folder / _HELD).read_text().splitlines()) if reached else set()
    if outcome.value == _NONE:
        raise expect.Declined(
            "the groups of two ranks have no custom all-reduce that accepts what models are served in"
        )
    if outcome.value == _ONE_DEVICE:
        raise expect.NotCovered(_ONE_DEVICE)
    if not reached:
        raise expect.NotReached(f"two ranks did not come to reduce: {outcome}")
    return outcome, sorted(name for name in names if os.path.exists(name))


def _stay(pair: _Pair) -> str:
    joined = _join(pair, 0)
    if isinstance(joined, str):
        return joined
    engine, tensor = joined
    pair.say(_JOINED)
    pair.wait_for(_KILLED)
    if pair.reducing:
        engine.custom_all_reduce(tensor).cpu()
    engines.close(engine)
    return "went on"


def _be_killed(pair: _Pair) -> None:
    if not isinstance(_join(pair, 1), str):
        pair.wait_for(_JOINED)
        pair.say(_KILLED)
        os.kill(os.getpid(), signal.SIGKILL)


def _join(pair: _Pair, number: int) -> tuple[Any, Any] | str:
    """The engine of a further group, and a tensor that it has reduced; or why there is none.

    What files it has are told: other things of the host's own groups have such too (0.5.23, a queue between processes).
    """
    import torch

    found = worker.devices(pair.platform)
    if len(found) < _SIZE and found[0].type != "cpu":
        return _ONE_DEVICE
    device = found[number % len(found)]
    worker.make_current(pair.platform, device)
    backend = groups.state().get_default_distributed_backend(device.type)
    where, timeout = f"file://{pair.folder}/meeting", max(1, int(pair.within))
    groups.join(rank=number, size=_SIZE, local_rank=number, method=where, backend=backend, timeout=timeout)
    groups.lay_out(tp=_SIZE)
    before = left.files_held()
    engine = engines.of(groups.add([list(range(_SIZE))], "again", backend))
    pair.list(left.files_held() - before)
    for dtype in drawn.FLOATS:
        for count in _COUNTS:
            tensor = torch.ones(count, dtype=getattr(torch, dtype), device=device)
            if engine is not None and engine.should_custom_ar(tensor):
                engine.custom_all_reduce(tensor).cpu()
                return engine, tensor
    return _NONE
