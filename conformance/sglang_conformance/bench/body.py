"""What runs on every rank of a benchmark: the engines take turns on the same tensors, and every result is checked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from . import engines, values
from .jobs import ASKING, MAKING, PARTS
from .model import COPY, ITEM_BYTES

if TYPE_CHECKING:
    from ..ranks.rank import Rank
    from ..suite.execute import Stage
    from ..suite.member import Member

_AN_ITERATION = 1 << 20
_MOST_CALLS = 20
_ALIGNMENT = 256


def describe(rank: Rank) -> dict[str, str]:
    """What the ranks are: the device's name, the backend that SGLang chose for it, torch's version."""
    import torch

    member = _member(rank)
    name = ""
    if member.device.type != "cpu":
        ask = getattr(torch.get_device_module(member.device), "get_device_name", None)
        name = str(ask(member.device)) if ask is not None else ""
    return {"device": str(member.device), "name": name, "backend": str(member.backend), "torch": torch.__version__}


def measure(
    rank: Rank, size: int, dtype: str, warmup: int, iterations: int, wanted: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """What each engine took for ``size`` bytes: seconds of a call in each iteration, by this rank's clock.

    Also how many calls an iteration has, and the wrong elements of all results, those of the warm-up included.
    """
    stage: Stage = rank.state[0]
    member = _member(rank)
    rank.reach(MAKING)
    room = _Room.of(member, size, dtype)
    rank.reach(ASKING)
    offered, absent = engines.offered(wanted, member, stage, room.rows, room.targets)
    seconds: dict[str, list[float]] = {engine.name: [] for engine in offered}
    wrong = dict.fromkeys(seconds, 0)
    turn = 0
    for iteration in range(warmup + iterations):
        for engine in offered if iteration % 2 else offered[::-1]:
            rank.reach(PARTS.index(engine.name))
            turn += 1
            taken, results = room.timed(engine, turn)
            wrong[engine.name] += room.wrong(engine, turn, results, twice=iteration == warmup + iterations - 1)
            if iteration >= warmup:
                seconds[engine.name].append(taken)
    taken_by = {
        engine.name: {
            "seconds": seconds[engine.name],
            "wrong": wrong[engine.name],
            "calls": len(room.rows),
            "by": engine.by,
        }
        for engine in offered
    }
    return {"engines": taken_by, "absent": absent}


def _member(rank: Rank) -> Member:
    """The member, with a part of the store that is this call's own."""
    prepared: Member = rank.state[1]
    return replace(prepared, side=replace(prepared.side, check=rank.check))


@dataclass(frozen=True)
class _Room:
    """The tensors of one case: a row for each call of an iteration, and as many to copy into."""

    member: Member
    tiles: tuple[values.Tile, ...]
    rows: tuple[Any, ...]
    targets: tuple[Any, ...]

    @classmethod
    def of(cls, member: Member, size: int, dtype: str) -> _Room:
        import torch

        item = ITEM_BYTES[dtype]
        count, calls = size // item, max(1, min(_MOST_CALLS, _AN_ITERATION // size))
        stride = -(-size // _ALIGNMENT) * _ALIGNMENT // item  # every row begins where a tensor of its own would
        rows, targets = (
            torch.zeros(calls, stride, dtype=getattr(torch, dtype), device=member.device) for _ in range(2)
        )
        return cls(
            member,
            values.tiles(dtype, member.number, member.size, count, member.device),
            tuple(rows[call, :count] for call in range(calls)),
            tuple(targets[call, :count] for call in range(calls)),
        )

    def timed(self, engine: engines.Engine, turn: int) -> tuple[float, Sequence[Any]]:
        """Seconds of a call, from when all ranks were ready until this one's device was done; and the results."""
        for call, row in enumerate(self.rows):
            values.fill(row, self._tile(turn, call).given)
        with engine.scope():
            self._synchronise()
            self.member.coordinator.barrier()
            started = time.perf_counter()
            results = engine.run(self.rows)
            self._synchronise()
            taken = time.perf_counter() - started
        return taken / len(self.rows), results

    def wrong(self, engine: engines.Engine, turn: int, results: Sequence[Any], *, twice: bool) -> int:
        """Wrong elements of the results as the device sees them; ``twice``: as the host does, if those are more."""
        found = 0
        for call, result in enumerate(results):
            tile = self._tile(turn, call)
            on_device, on_host = (
                (tile.given, tile.given_on_host) if engine.name == COPY else (tile.total, tile.total_on_host)
            )
            count = values.wrong(result, on_device)
            found += max(count, values.wrong(result.cpu(), on_host)) if twice else count
        return found

    def _tile(self, turn: int, call: int) -> values.Tile:
        return self.tiles[(turn + call) % len(self.tiles)]

    def _synchronise(self) -> None:
        import torch

        if self.member.device.type != "cpu":
            torch.get_device_module(self.member.device).synchronize()
