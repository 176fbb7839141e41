"""A server that was started as SGLang starts it, as a record: what each of its processes did, and what it served.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..blame import stack_in, vendor_line
from ..contract.model import Contract
from ..probes.result import Failure as Ended
from ..probes.result import Result
from . import expected, trace
from .expected import Finding
from .story import Failure, first_failure
from .trace import FAILED, Trace

if TYPE_CHECKING:
    from .leg import Leg

NEW = 8
"""Tokens for each prompt."""


@dataclass(frozen=True)
class Start:
    """One start of the server. Times are in seconds: until all ranks were ready, until the first token of the first
    request, until the last token of all requests, and until all processes had ended; None where it did not come so far.

    ``asked`` is what the user asked for, ``arguments`` what it was settled to; ``pids`` are the processes that it
    started, ``exits`` how they ended, None for one that was there until it was killed. ``unsendable`` are the arguments
    that kept it from being started: they cannot be pickled.
    """

    tokens: tuple[tuple[int, ...], ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    ready: float | None = None
    first_token: float | None = None
    seconds: float | None = None
    ended: float | None = None
    pids: tuple[int, ...] = ()
    exits: tuple[int | None, ...] = ()
    unsendable: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether it served, and was ended."""
        return bool(self.tokens) and self.ended is not None


@dataclass(frozen=True)
class Launched:
    """Starts of one leg's server in one launching process.

    ``workers`` are the arguments of each scheduler's process as it ended, or was ready where it was killed, by its
    number; ``stacks`` where each stood, if it was there for long; ``left`` what was there after all starts and not
    before, by its kind; ``devices`` are those that the launching process started. ``error`` is what the launching
    process raised, ``ended`` how it ended where it did not answer; ``obstacle`` says why nothing was started, empty
    where it was.
    """

    leg: Leg
    out_of_tree: bool = True
    device: str = ""
    installed: bool = False
    starts: tuple[Start, ...] = ()
    traces: tuple[Trace, ...] = ()
    workers: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    stacks: Mapping[int, str] = field(default_factory=dict)
    left: Mapping[str, Sequence[str]] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    error: str = ""
    ended: Ended | None = None
    output: str = ""
    obstacle: str = ""

    def of_start(self, number: int) -> tuple[Trace, ...]:
        """The traces of the launching process and of the scheduler's processes of one start."""
        pids = self.starts[number].pids if number < len(self.starts) else ()
        return tuple(trace for trace in self.traces if trace.role.kind == "launcher" or trace.pid in pids)

    @cached_property
    def failure(self) -> Failure | None:
        """Where it failed first; None where every start served.

        A worker's failure comes before that of the launching process, which only hears of it.
        """
        if not self.error and self.ended is None:
            return None
        kept = [name for start in self.starts for name in start.unsendable]
        if kept:
            what = f"server_args.{kept[0]} cannot be sent to a worker: {self.error}"
            return Failure(what, member="apply_server_args_defaults", role="launcher", fault="platform")
        over = {pid for start in self.starts if start.good for pid in start.pids}  # which the real SGLang kills
        workers = [trace for trace in self.traces if trace.role.kind != "launcher" and trace.pid not in over]
        found = first_failure(workers)
        if found is not None:
            began = [min(trace.began for trace in traces) for traces in (workers, self.traces)]
            at = None if found.at is None else found.at + began[0] - began[1]
            return replace(found, at=at, cause=found.cause or self._stood(found.role))
        what = self.error or (self.ended.message if self.ended is not None else "")
        return first_failure(self.traces) or Failure(what.splitlines()[0] if what else "it failed")

    def _stood(self, role: str) -> str:
        """The vendor's line in which a process stood that did not say why it ended, as far as it was seen."""
        pids = [trace.pid for trace in self.traces if str(trace.role) == role and not trace.ended]
        lines = [vendor_line(stack_in(self.stacks.get(pid, "").rpartition("Timeout (")[2])) for pid in pids]
        return next(filter(None, lines), "")

    @property
    def uncovered(self) -> str:
        """What the host does not hold, where that is why it failed; empty otherwise."""
        return self._for_want("NotCovered")

    @property
    def unserved(self) -> str:
        """What the installed SGLang lacks here, where that is why it failed; empty otherwise."""
        return self._for_want("NotServed")

    def _for_want(self, name: str) -> str:
        if self.ended is not None and self.ended.type == name:
            return self.ended.message
        told = [event.error for trace in self.traces for event in trace.of("moment", FAILED)]
        return next((error.partition(": ")[2] for error in (*told, self.error) if error.startswith(name)), "")

    def findings(self, contract: Contract) -> tuple[Finding, ...]:
        """All in which its processes were not as the contract says."""
        return expected.findings(self.traces, contract, out_of_tree=self.out_of_tree, device=self.device)


def read(
    leg: Leg, folder: Path, result: Result, *, out_of_tree: bool, device: str, installed: bool = False
) -> Launched:
    """The record of a launching process, also of one that hung or was killed. Raises OSError."""
    from .attended import facts_of, stack_of

    traces = trace.read(folder)
    value = result.value or {}
    facts = {each.pid: _text(facts_of(folder, each.pid)) for each in traces}
    return Launched(
        leg,
        out_of_tree,
        device,
        installed,
        starts=tuple(_start(json.loads(text)) for text in result.progress),
        traces=traces,
        workers={pid: json.loads(text)["arguments"] for pid, text in facts.items() if text},
        stacks={each.pid: _text(stack_of(folder, each.pid)) for each in traces},
        left=value.get("left", {}),
        devices=tuple(value.get("devices", ())),
        error=value.get("error", ""),
        ended=result.failure,
        output=result.output,
    )


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


def _start(told: Mapping[str, Any]) -> Start:
    tokens = tuple(tuple(each) for each in told.get("tokens", ()))
    lists = {name: tuple(told.get(name, ())) for name in ("pids", "exits", "unsendable")}
    return Start(**{**told, **lists, "tokens": tokens})


def likeliest(leg: Leg, count: int) -> tuple[tuple[int, ...], ...]:
    """For each prompt of the model, the tokens that float64 says."""
    found = leg.decoder.continued(leg.checkpoint.prompts, count)
    return tuple(each.tokens for each in found)
