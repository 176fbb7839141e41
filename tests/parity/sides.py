"""The two sides of one release: warm processes of the reference and of the real SGLang, given the same worlds."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sglang_conformance.contract import tables
from sglang_conformance.probes import client
from sglang_conformance.probes.channel import ChannelError
from sglang_conformance.probes.client import Child, Warm, Zygote
from sglang_conformance.probes.world import World

from . import releases
from .collectives import RANKS
from .subjects import SHARES

_TESTS = str(Path(__file__).parents[1])
_START = 120.0
_ONE_BATCH = 120.0
_LAST_WORDS = 5.0
RANKED = ("collectives",)
"""The subjects whose worlds are enacted by several ranks."""


class SideError(RuntimeError):
    """A side could not be made, or a world was not enacted whole: no parity can be told."""


Sides = tuple[tuple[Child, ...], tuple[Child, ...]]
"""The processes of the real SGLang and of the reference, which enact a world together."""


@dataclass(frozen=True)
class Pair:
    """The sides of one release: a process each that forks for every batch of worlds, and ranks that live on."""

    release: str
    alone: Sides
    together: Sides

    def enact(self, subject: str, worlds: Sequence[Any]) -> list[tuple[Any, Any]]:
        """The stories of the real SGLang and of the reference of each world; both tell them at the same time.

        Raises SideError where one of them was not told.
        """
        sides = self.together if subject in RANKED else self.alone
        request = {"subject": f"parity.{subject}", "worlds": [dataclasses.asdict(world) for world in worlds]}
        for side in sides:
            for child in side:
                child.control.send(request)
        real, reference = (
            [self._stories(name, child) for child in side]
            for name, side in zip(("real", "reference"), sides, strict=True)
        )
        return list(zip(_by_world(real), _by_world(reference), strict=True))

    def _stories(self, name: str, child: Child) -> list[Any]:
        try:
            received = child.control.receive(timeout=_ONE_BATCH)
        except ChannelError as error:
            raise SideError(f"a process of the {name} SGLang {self.release} does not answer: {error}") from error
        if received is None:
            raise SideError(f"a process of the {name} SGLang {self.release} is gone: {_last_words(child)}")
        told = received[0]
        if "stories" not in told:
            raise SideError(f"the {name} SGLang {self.release} did not enact the worlds: {told.get('broke') or told}")
        return list(told["stories"])


def _last_words(child: Child) -> str:
    with contextlib.suppress(OSError):
        told = child.results.receive(timeout=_LAST_WORDS)
        if told is not None and "failure" in told[0]:
            return str(told[0]["failure"]["traceback"])
    return "it said nothing of why"


def _by_world(stories: Sequence[list[Any]]) -> list[Any]:
    """Of every process's stories, each world's: the one process's own, or those of all ranks by their numbers."""
    if len(stories) == 1:
        return stories[0]
    return [{str(rank): story for rank, story in enumerate(ranks)} for ranks in zip(*stories, strict=True)]


def start() -> Zygote:
    """The process that both sides of all releases come from; it has imported torch."""
    subjects = [f"parity.{subject}" for subject in SHARES]
    path = os.pathsep.join(filter(None, (_TESTS, os.environ.get("PYTHONPATH"))))
    return client.start(["torch", "numpy", "parity.rooms", "parity.ranks", *subjects], {"PYTHONPATH": path})


@contextmanager
def pair(zygote: Zygote, release: str) -> Iterator[Pair]:
    """The sides of a release, ended at the end. Raises SideError where the real one is not here, or does not import."""
    with ExitStack() as stack:
        both = warm(zygote, release, stack)
        real, reference = ((_started(side, stack, "parity.rooms:live"),) for side in both)
        meetings = stack.enter_context(tempfile.TemporaryDirectory(prefix="sglang-conformance-parity-"))
        ranked = [_ranks(side, stack, f"{meetings}/{number}") for number, side in enumerate(both)]
        yield Pair(release, (real, reference), (ranked[0], ranked[1]))


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


def _ranks(side: Warm, stack: ExitStack, meeting: str) -> tuple[Child, ...]:
    return tuple(
        _started(side, stack, "parity.ranks:live", rank=rank, size=RANKS, meeting=meeting) for rank in range(RANKS)
    )


def _started(side: Warm, stack: ExitStack, job: str, **arguments: Any) -> Child:
    child = side.start(job, arguments).child()
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
