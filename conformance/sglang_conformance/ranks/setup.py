"""How the ranks of a group are made ready, and what each of them is told.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..probes.server import Probe
from ..probes.world import World

READY = "sglang_conformance.ranks.setup:threads"
"""The job that tells that a warm process stands ready."""

JOB = "sglang_conformance.ranks.rank:live"
"""The job of every rank's process."""


@dataclass(frozen=True)
class Setup:
    """How ranks are made ready: a function named ``package.module:function``, its plain arguments, and their world.

    ``watched`` ranks say on the board what they are about to call. ``seconds`` is how long it may take.
    """

    function: str = ""
    arguments: Mapping[str, Any] | None = None
    world: World | None = None
    watched: bool = True
    seconds: float = 60.0

    def told(self, number: int, size: int, meeting: str, *, local: int, alone: bool) -> dict[str, Any]:
        """The arguments of one rank's job, plain data; ``local`` and ``alone`` as :func:`.rank.live` takes them."""
        return {
            "number": number,
            "size": size,
            "meeting": meeting,
            "local": local,
            "watched": self.watched,
            "alone": alone,
            "setup": self.function,
            "arguments": dict(self.arguments or {}),
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Job:
    """One step to a warm process, as :meth:`..probes.client.Warm.warm` takes it; it has so many ``seconds``."""

    job: str
    arguments: Mapping[str, Any] | None = None
    world: World | None = None
    seconds: float = 60.0

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a message."""
        world = (self.world or World()).to_json()
        return {"job": self.job, "arguments": dict(self.arguments or {}), "world": world, "seconds": self.seconds}


def threads(probe: Probe) -> int:
    """How many threads this process has: more than one in what ranks are forked from make that unsafe."""
    return len(os.listdir("/proc/self/task"))
