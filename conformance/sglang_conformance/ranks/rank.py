"""A rank's own side: one process of a group, which makes itself ready and then runs the checks that it is sent.

A check is named, ``package.module:function``, and called as ``function(rank, **arguments)`` on every rank of the group.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..probes.server import Probe, describe
from . import calls
from .board import Board


@dataclass
class Rank:
    """What a check is given: which rank of how many this is, and the state that it stands on.

    ``state`` is the warm process's, until the set-up makes its own of it.

    ``local`` is its number among those of its machine, and so the device that is meant for it; of a group on one
    machine it is ``number``. ``meeting`` is a name that the ranks of this group, and no others, share. ``seconds`` is
    the time that the present check has, ``check`` its number, from 1, which is the set-up. ``counts`` are the
    collective calls made so far, by group; ``generation`` tells the groups of one name apart, which torch gives again
    once all groups were destroyed. ``reach`` is called with the number of the part that the check has come to, where it
    has several: a failure then tells which. ``calling``: it is inside of a collective call, or its calls are not
    watched.
    """

    number: int
    size: int
    meeting: str = ""
    state: Any = None
    seconds: float = 0.0
    local: int = 0
    check: int = 1
    generation: int = 0
    reach: Callable[[int], None] = lambda part: None
    counts: dict[str, int] = field(default_factory=dict)
    calling: bool = False

    @contextlib.contextmanager
    def unwatched(self) -> Iterator[None]:
        """For a while collective calls are not said, and wait for nobody; all ranks must leave them out alike."""
        self.calling = True
        try:
            yield
        finally:
            self.calling = False


def live(
    probe: Probe,
    number: int,
    size: int,
    meeting: str,
    local: int,
    watched: bool,
    alone: bool,
    setup: str,
    arguments: Mapping[str, Any],
    seconds: float,
) -> None:
    """The job of a rank's process: set up, say so, then run what it is sent until its controller goes away.

    ``watched``: it says on the board what it is about to call, and waits there for its peers; but for nobody where it
    is ``alone`` on its board, because its peers may be on other machines.
    """
    control = probe.control
    if control is None:
        raise ValueError("a rank needs a channel to its controller")
    board = Board(probe.descriptors[0], size, number)
    rank = Rank(number, size, meeting, probe.state, local=local, reach=board.reach)
    if watched:
        calls.watch(board, rank, alone=alone)
    board.begin(1)  # the set-up is the first
    rank.seconds = seconds
    if setup:
        rank.state = _named(setup)(rank, **arguments)
    board.finish()
    probe.progress("ready")
    before = _surroundings()
    while (received := control.receive()) is not None:
        request, _ = received
        rank.check, rank.seconds = request["id"], request["seconds"]
        board.begin(request["id"])
        _seed()
        answer = _run(rank, request["check"], request["arguments"])
        after = _surroundings()
        answer |= {"id": request["id"], "counts": rank.counts if watched else None, "changed": _changed(before, after)}
        before = after
        _flush()
        control.send(answer)
        board.finish()  # after its answer is sent: a peer that fails for it must not be heard first


def _run(rank: Rank, check: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"value": _plain(_named(check)(rank, **arguments))}
    except BaseException as error:
        return {"failure": describe(error)}


def _plain(value: Any) -> Any:
    """The value, once it is known to be plain data: TypeError or ValueError where it cannot be sent."""
    json.dumps(value)
    return value


def _named(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _seed() -> None:
    """Begin each check with the same random numbers, whatever ran before it."""
    random.seed(0)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.default_generator.manual_seed(0)


def _surroundings() -> dict[str, Any]:
    """What a check must leave as it found it."""
    seen: dict[str, Any] = {"environment": dict(os.environ), "folder": _folder(), "import path": list(sys.path)}
    torch = sys.modules.get("torch")
    if torch is not None:
        seen["default dtype"] = str(torch.get_default_dtype())
        seen["gradients"] = bool(torch.is_grad_enabled())
    distributed = sys.modules.get("torch.distributed.distributed_c10d")
    if distributed is not None:
        seen["process groups"] = len(distributed._world.pg_map)
    return seen


def _folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "<removed>"


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [name for name in after if before.get(name) != after[name]]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
