"""The two sides of one release: warm processes of the reference and of the real SGLang, given the same worlds."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sglang_conformance.contract import tables
from sglang_conformance.probes import client
from sglang_conformance.probes.client import Child, Warm, Zygote
from sglang_conformance.probes.world import World

from . import releases
from .subjects import SHARES

_TESTS = str(Path(__file__).parents[1])
_START = 120.0
_ONE_BATCH = 120.0


class SideError(RuntimeError):
    """A side could not be made, or a world was not enacted whole: no parity can be told."""


@dataclass(frozen=True)
class Pair:
    """The sides of one release, each a process that forks for every batch of worlds."""

    release: str
    real: Child
    reference: Child

    def enact(self, subject: str, worlds: Sequence[Any]) -> list[tuple[Any, Any]]:
        """The stories of the real SGLang and of the reference of each world; both tell them at the same time.

        Raises SideError where one of them was not told.
        """
        request = {"subject": f"parity.{subject}", "worlds": [dataclasses.asdict(world) for world in worlds]}
        sides = {"real": self.real, "reference": self.reference}
        for side in sides.values():
            side.control.send(request)
        real, reference = (self._stories(name, side) for name, side in sides.items())
        return list(zip(real, reference, strict=True))

    def _stories(self, name: str, side: Child) -> Any:
        received = side.control.receive(timeout=_ONE_BATCH)
        if received is None:
            raise SideError(f"the process of the {name} SGLang {self.release} is gone")
        told = received[0]
        if "stories" not in told:
            raise SideError(f"the {name} SGLang {self.release} did not enact the world: {told.get('broke') or told}")
        return told["stories"]


def start() -> Zygote:
    """The process that both sides of all releases come from; it has imported torch."""
    subjects = [f"parity.{subject}" for subject in SHARES]
    path = os.pathsep.join(filter(None, (_TESTS, os.environ.get("PYTHONPATH"))))
    return client.start(["torch", "numpy", "parity.rooms", *subjects], {"PYTHONPATH": path})


@contextmanager
def pair(zygote: Zygote, release: str) -> Iterator[Pair]:
    """The sides of a release, ended at the end. Raises SideError where the real one is not here, or does not import."""
    with ExitStack() as stack:
        real, reference = warm(zygote, release, stack)
        yield Pair(release, _room(real, stack), _room(reference, stack))


def warm(zygote: Zygote, release: str, stack: ExitStack) -> tuple[Warm, Warm]:
    """The warm processes of the two sides, which the stack closes."""
    folder = releases.folder(release)
    if folder is None:
        raise SideError(releases.advice(release))
    root = client.connect(zygote.address)
    stack.callback(root.close)
    # The real SGLang chooses its platform while it is imported: here the CPU's, whatever plugins are installed.
    neutral = {"SGLANG_PLATFORM": None, "SGLANG_PLUGINS": None, "SGLANG_USE_CPU_ENGINE": "1"}
    here = World(neutral, (), _providers())
    there = World(neutral, (str(folder),), here.hidden)
    made = [
        root.warm("parity.rooms:enter_real", world=there, deadline=_START),
        root.warm(
            "parity.rooms:enter_reference", {"table": tables.load(release).to_json()}, world=here, deadline=_START
        ),
    ]
    for side, result in made:
        if side is not None:
            stack.callback(side.close)
        if result.failure is not None:
            raise SideError(f"SGLang {release} cannot be entered: {result.failure.message}\n{result.failure.traceback}")
    (real, told), (reference, _) = made
    assert real is not None
    assert reference is not None
    if told.value != release:
        raise SideError(f"{folder} holds SGLang {told.value}, not {release}")
    return real, reference


def _room(side: Warm, stack: ExitStack) -> Child:
    child = side.start("parity.rooms:live").child()
    stack.callback(side.end, child)
    return child


def _providers() -> tuple[str, ...]:
    """The distributions here that are plugins of SGLang."""
    return tuple(
        {
            distribution.name
            for distribution in importlib.metadata.distributions()
            if any(point.group.startswith("sglang.") for point in distribution.entry_points)
        }
    )
