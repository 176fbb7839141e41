"""Many drawn worlds in lock-step: what differs is tried again alone, and made as small as it gets."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from .comparing import Difference, differences
from .differences import KNOWN, explained
from .sides import Pair

_BATCH = 50
_SHRINKING = 120.0


@dataclass(frozen=True)
class Disagreement:
    """A world that the two tell of differently, as small as it was found, and what nothing explains of it."""

    world: Any
    found: tuple[Difference, ...]

    def __str__(self) -> str:
        return "\n".join([f"  {self.world}", *(f"    {difference}" for difference in self.found[:10])])


@dataclass(frozen=True)
class Tally:
    """What came of a subject's worlds in one release.

    ``known``: how many worlds showed each listed difference. ``fleeting``: how many differed in their batch, and not
    when they were tried again alone: something of a world before them was left, or chance has a hand in it.
    """

    release: str
    subject: str
    worlds: int
    seconds: float
    known: Counter[str]
    fleeting: int
    disagreements: tuple[Disagreement, ...]


def drawn(subject: str, count: int, number: int) -> list[Any]:
    """So many different worlds of a subject; the same for the same number."""
    worlds: dict[str, Any] = {}

    def take(world: Any) -> None:
        worlds.setdefault(repr(world), world)

    _drawing(subject, count, number, (Phase.generate,), take)
    return list(worlds.values())


def compare(pair: Pair, subject: str, worlds: Sequence[Any], count: int, number: int) -> Tally:
    """Have both sides tell of all worlds, which :func:`drawn` has drawn by this count and number."""
    began = time.monotonic()
    known: Counter[str] = Counter()
    wrong: list[Any] = []
    fleeting = 0
    for start in range(0, len(worlds), _BATCH):
        batch = worlds[start : start + _BATCH]
        for world, (real, reference) in zip(batch, pair.enact(subject, batch), strict=True):
            used, rest = explained(differences(real, reference), subject, pair.release)
            known.update(each.name for each in used)
            if rest and unexplained(pair, subject, world):
                wrong.append(world)
            elif rest:
                fleeting += 1
    smallest = [_smallest(pair, subject, worlds, wrong, count, number)] if wrong else []
    found = tuple(Disagreement(world, tuple(unexplained(pair, subject, world))) for world in [*smallest, *wrong[:4]])
    return Tally(pair.release, subject, len(worlds), time.monotonic() - began, known, fleeting, found)


def misplaced(pair: Pair, subjects: Collection[str]) -> list[str]:
    """What is wrong with the list of known differences in this release: a sentence for each."""
    complaints = []
    for known in (each for each in KNOWN if each.subject in subjects):
        ((real, reference),) = pair.enact(known.subject, [known.world])
        found = differences(real, reference)
        seen = known.is_shown_by(found)
        if seen and not known.holds(pair.release):
            complaints.append(f"{known.name} is found, though it is not listed for this release")
        if known.holds(pair.release):
            rest = explained(found, known.subject, pair.release)[1]
            complaints += [] if seen else [f"{known.name} is listed, and is not found any more"]
            complaints += [f"the world of {known.name} shows more than that: {each}" for each in rest]
    return complaints


def unexplained(pair: Pair, subject: str, world: Any) -> list[Difference]:
    """What of a world's stories differs, nobody knows why; the world is enacted in processes of its own."""
    ((real, reference),) = pair.enact(subject, [world])
    return explained(differences(real, reference), subject, pair.release)[1]


def _smallest(pair: Pair, subject: str, worlds: Sequence[Any], wrong: Sequence[Any], count: int, number: int) -> Any:
    """The smallest world like one of those that are wrong: drawn again the same way, and shrunk, for a while."""
    verdicts = {repr(world): False for world in worlds} | {repr(world): True for world in wrong}
    until = time.monotonic() + _SHRINKING
    least = [wrong[0]]

    def check(world: Any) -> None:
        key = repr(world)
        if key not in verdicts:
            verdicts[key] = time.monotonic() < until and bool(unexplained(pair, subject, world))
        if verdicts[key]:
            least[0] = world
            raise _Differs

    try:
        _drawing(subject, count, number, (Phase.generate, Phase.shrink), check)
    except _Differs:
        return least[0]
    return wrong[0]


class _Differs(Exception):
    pass


def _drawing(subject: str, count: int, number: int, phases: tuple[Phase, ...], take: Callable[[Any], None]) -> None:
    strategy = importlib.import_module(f"parity.worlds.{subject}").WORLDS

    @seed(number)
    @settings(
        max_examples=count,
        phases=phases,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(strategy)
    def draw(world: Any) -> None:
        take(world)

    draw()
