"""What the two ranks of a side run: they make their groups once, then enact worlds together.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib
import os
import traceback
from typing import Any

from sglang_conformance.hosts import bare, groups
from sglang_conformance.probes.server import Probe

_TIMEOUT = 60
"""Seconds that a rank waits for the other, before both fail."""


def live(probe: Probe, rank: int, size: int, meeting: str) -> None:
    """Join the other rank by way of a file, and answer worlds until the other end closes."""
    assert probe.control is not None
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    bare.load()
    groups.join(rank=rank, size=size, local_rank=rank, method=f"file://{meeting}", backend="gloo", timeout=_TIMEOUT)
    groups.lay_out(tp=size)
    while (received := probe.control.receive()) is not None:
        request, _ = received
        probe.control.send(_answer(request))


def _answer(request: Any) -> Any:
    try:
        enact = importlib.import_module(request["subject"]).enact
        return {"stories": [enact(world) for world in request["worlds"]]}
    except BaseException:
        return {"broke": traceback.format_exc()}
