"""One verdict for a whole group, on which every rank acts: nobody decides alone, and nobody waits for ever.

Ranks meet on a board (:mod:`.board`). Each leaves its facts there; each reads those of all, until its deadline; each
works out a verdict by the one pure function, and proposes it. The first proposal is the group's, and to settle it is
one step of the board's: so ranks that gave up on a late one, and those that saw it come, still act alike. Then the
engines are made, and in the same way the group hears whether all have made theirs; if not, all give theirs back and go
one step down together.

Whatever may hang runs in a thread with a deadline (:mod:`.in_time`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from .board import Board, texts
from .generations import NONE, Verdict, choose, none, verdict_of
from .in_time import in_time
from .topology import Device, Rank, Settings, Topology, View

T = TypeVar("T")


class Provider(Protocol):
    """The facts of one rank, each gathered when asked; whatever a method raises is why its fact is not known."""

    def device(self) -> Device:
        """What this rank is."""

    def lanes(self, peer: Device) -> int:
        """How many lanes of NVLink or XGMI are up that end at a peer on the same machine."""

    def access(self, peer: Device) -> bool:
        """Whether this rank reaches the memory of a peer on the same machine."""


@dataclass(frozen=True)
class Deadlines:
    """How many seconds one probe, or the making of one engine, may take; and how long others are waited for besides."""

    work: float = 30.0
    others: float = 30.0


@dataclass(frozen=True)
class Seat:
    """A rank's place at the board."""

    board: Board
    rank: int
    size: int
    deadlines: Deadlines = Deadlines()


class Agreed(NamedTuple):
    """What a group has agreed on. ``topology`` is None where too little was known of it; then there is no engine."""

    verdict: Verdict
    topology: Topology | None = None


@dataclass(frozen=True)
class Established(Generic[T]):
    """The engine, which all ranks have made or none has (None), and the verdict after all steps down."""

    engine: T | None
    verdict: Verdict


def agree(seat: Seat, provider: Provider, settings: Settings, release: str) -> Agreed:
    """The group's verdict, the same on all ranks, within four times the work's deadline and twice the others'.

    Raises nothing: a board that is gone is a reason for having no engine.
    """
    try:
        return _agree(seat, provider, settings, release)
    except (OSError, RuntimeError) as error:
        return Agreed(none(_alone(seat, error)))


def establish(
    seat: Seat, verdict: Verdict, makers: Mapping[str, Callable[[], T]], close: Callable[[T], object]
) -> Established[T]:
    """Make the engine that the group has by an agreed verdict: in the end all ranks have it, or all the next best.

    ``makers`` by generation (``second``, ``first``); each runs in a thread, whose current device it sets itself, and
    may raise. ``close`` gives an engine back. Raises nothing of theirs.
    """
    while (generation := verdict.generation) != NONE:
        maker: Callable[[], T | None] = makers.get(generation, _nothing)
        made = in_time(maker, seat.deadlines.work, lambda late: None if late is None else close(late))
        trouble = made.trouble or ("" if made.value is not None else "there is nothing here to make it of")
        try:
            against = _against(seat, generation, trouble) or trouble
        except (OSError, RuntimeError) as error:
            against = _alone(seat, error)
        if made.value is not None:
            if not against:
                return Established(made.value, verdict)
            in_time(_closing(close, made.value), seat.deadlines.work)
        verdict = verdict.without(generation, against)
    return Established(None, verdict)


def _nothing() -> None:
    return None


def _agree(seat: Seat, provider: Provider, settings: Settings, release: str) -> Agreed:
    own = in_time(provider.device, seat.deadlines.work)
    _leave(seat, "device", {"device": asdict(own.value) if own.value else None, "missing": own.trouble})
    topology = None
    devices, missing = _devices(seat, seat.deadlines.work + seat.deadlines.others)
    if devices:
        _leave(seat, "facts", _facts(seat, provider, settings, devices))
        topology, missing = _topology(seat, devices, 2 * seat.deadlines.work + seat.deadlines.others)
    proposed = choose(topology, release) if topology else none(missing)
    settled = verdict_of(json.loads(seat.board.settle("verdict", json.dumps(proposed.as_plain()))))
    if topology is None and settled.generation != NONE:
        # Another rank has seen what this one had given up on: so it is there now.
        topology, _ = _topology(seat, _devices(seat, 0.0)[0], 0.0)
    return Agreed(settled, topology)


def _facts(seat: Seat, provider: Provider, settings: Settings, devices: Sequence[Device]) -> dict[str, Any]:
    """What this rank sees of the others on its machine. One that is on the same device has its memory, and no lanes."""
    own = devices[seat.rank]
    peers = [peer for peer in devices if peer.node == own.node and peer.device != own.device]
    lanes = in_time(lambda: {peer.device: int(provider.lanes(peer)) for peer in peers}, seat.deadlines.work)
    access = in_time(lambda: {peer.device: bool(provider.access(peer)) for peer in peers}, seat.deadlines.work)
    reached = {own.device: True, **(access.value or {})}
    views = [[(lanes.value or {}).get(peer.device, 0), reached.get(peer.device, False)] for peer in devices]
    return {"views": views, "settings": asdict(settings), "unseen": lanes.trouble, "untried": access.trouble}


def _devices(seat: Seat, seconds: float) -> tuple[list[Device], str]:
    """All devices, or why one is not known."""
    return _of_all(seat, "device", seconds, _device)


def _topology(seat: Seat, devices: Sequence[Device], seconds: float) -> tuple[Topology | None, str]:
    """The topology, or why it is not known."""
    sights, missing = _of_all(seat, "facts", seconds, partial(_sight, len(devices)))
    if missing or not devices:
        return None, missing
    return Topology(tuple(replace(sight, device=device) for device, sight in zip(devices, sights, strict=True))), ""


def _device(said: Mapping[str, Any]) -> Device:
    return Device(**{**said["device"], "capability": tuple(said["device"]["capability"])})


def _sight(size: int, said: Mapping[str, Any]) -> Rank:
    """All but the device of a rank."""
    views = tuple(View(int(lanes), bool(access)) for lanes, access in said["views"])
    if len(views) != size:
        raise ValueError(f"{len(views)} views of {size} ranks")
    settings = Settings(**said["settings"])
    return Rank(Device("", ""), views, settings, unseen=str(said["unseen"]), untried=str(said["untried"]))


def _of_all(seat: Seat, what: str, seconds: float, parse: Callable[[Any], T]) -> tuple[list[T], str]:
    """What all ranks have left; or nothing, and why: one cannot tell, tells something else, or not in time."""
    keys = [f"{what}/{rank}" for rank in range(seat.size)]
    found = []
    for rank, text in enumerate(texts(seat.board, keys, seconds, lambda: seat.board.read("verdict") is not None)):
        if text is None:
            return [], f"rank {rank} has not told its {what} in time"
        try:
            said = json.loads(text)
            if said.get("missing"):
                return [], f"rank {rank} cannot tell its {what}: {said['missing']}"
            found.append(parse(said))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return [], f"rank {rank} has told something else than its {what}: {error}"
    return found, ""


def _against(seat: Seat, generation: str, trouble: str) -> str:
    """What the group has against a generation that this rank has made, or had this trouble with; empty: it stands."""
    _leave(seat, f"made/{generation}", {"trouble": trouble})
    keys = [f"made/{generation}/{rank}" for rank in range(seat.size)]
    outcome, seconds = f"outcome/{generation}", seat.deadlines.work + seat.deadlines.others
    found = texts(seat.board, keys, seconds, lambda: seat.board.read(outcome) is not None)
    said = [_trouble(text) if text is not None else "it has not told in time" for text in found]
    against = next((f"rank {rank} has not made it: {each}" for rank, each in enumerate(said) if each), "")
    settled = json.loads(seat.board.settle(outcome, json.dumps({"against": against})))
    return str(settled["against"])


def _trouble(text: str) -> str:
    try:
        return str(json.loads(text)["trouble"])
    except (KeyError, TypeError, ValueError):
        return "it has told something else"


def _leave(seat: Seat, what: str, facts: Mapping[str, Any]) -> None:
    seat.board.settle(f"{what}/{seat.rank}", json.dumps(facts))


def _closing(close: Callable[[T], object], engine: T) -> Callable[[], object]:
    return lambda: close(engine)


def _alone(seat: Seat, error: BaseException) -> str:
    return f"rank {seat.rank} cannot reach the others any more: {error}"
