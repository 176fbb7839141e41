"""The command's side of a benchmark: ranks of the platform are made ready, and what they measure is collected."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import Config
from ..grounds import Ground
from ..hosts.choose import Host
from ..probes import client
from ..probes.client import Warm
from ..probes.result import ZygoteError
from ..ranked_result import cause
from ..ranks.group import GroupError, Setup
from ..ranks.pool import Pool
from ..ranks.report import GroupReport
from ..resolved import NotResolved, resolved, told, why
from ..stages import Stages
from ..subject import Subject
from ..suite import jobs
from .jobs import BODY, DESCRIBE, MEASURE, PARTS
from .model import Case, Measured, Taken, slowest

USUAL_RANKS = (2, 4)
_START = 30.0


class BenchError(RuntimeError):
    """The platform could not be measured; its text is one line that says why, with the vendor's line."""


@dataclass(frozen=True)
class Plan:
    """What is to be measured: on which platform, in which host, with which messages, how often.

    ``world_sizes`` None: as the devices allow. ``engines``: those wanted, the yardsticks among them. ``deadline``:
    seconds for each message.
    """

    subject: Subject
    host: Host
    world_sizes: tuple[int, ...] | None
    dtypes: tuple[str, ...]
    sizes: tuple[int, ...]
    engines: tuple[str, ...]
    warmup: int
    iterations: int
    deadline: float

    @property
    def patience(self) -> float:
        """Seconds that each step of coming to life has: it may be slow where a message is not."""
        return max(self.deadline, _START)

    @property
    def config(self) -> Config:
        """The run of which the platform and its ranks are made ready: one that certifies nothing."""
        return Config(self.subject, self.host, (), None, Path(), examples=0, deadline=self.patience)


@contextlib.contextmanager
def bench(plan: Plan) -> Iterator[Bench]:
    """Resolve the platform and find its devices; every process that came of it ends with the scope.

    Raises BenchError.
    """
    zygote = client.start(_preloaded(plan.subject))
    try:
        with _told():
            yield _opened(plan, client.connect(zygote.address))
    finally:
        zygote.close()


class Bench:
    """A platform that is resolved, and the groups of ranks that measure it. Made by :func:`bench`, which ends it.

    ``facts`` is what the platform says of itself; ``platform`` the process that resolved it, with which its forks end.
    """

    def __init__(self, plan: Plan, ground: Ground, platform: Warm, facts: Mapping[str, Any]) -> None:
        self._plan = plan
        self._ground = ground
        self._platform = platform
        self.facts = facts
        self._store = ground.keeper()
        self._pool: Pool | None = None

    @property
    def devices(self) -> int | None:
        """How many there are for ranks; None where these share the CPU."""
        return self._ground.devices

    @property
    def world_sizes(self) -> tuple[int, ...]:
        """Of the groups: those asked for, or 2 and 4 as far as there are devices, or cores, for all ranks."""
        if self._plan.world_sizes is not None:
            return self._plan.world_sizes
        devices = self._ground.devices
        room = max(2, len(os.sched_getaffinity(0))) if devices is None else devices
        found = tuple(size for size in USUAL_RANKS if size <= room)
        if not found:
            raise BenchError(
                f"an all-reduce needs {USUAL_RANKS[0]} ranks, and the platform has {devices} device here; "
                f"where its backend lets ranks share one, say --world-size={USUAL_RANKS[0]}"
            )
        return found

    def describe(self, ranks: int) -> Mapping[str, str]:
        """What the first of so many ranks says of its device and its backend."""
        report = self._run(ranks, DESCRIBE, {}, f"on {ranks} ranks")
        said: Mapping[str, str] = report.values[0]
        return said

    def measure(self, case: Case) -> Measured:
        """Every engine in one case."""
        plan = self._plan
        given = {
            "size": case.bytes,
            "dtype": case.dtype,
            "warmup": plan.warmup,
            "iterations": plan.iterations,
            "wanted": plan.engines,
        }
        where = f"{case.bytes} bytes of {case.dtype} on {case.ranks} ranks"
        report = self._run(case.ranks, MEASURE, given, where)
        engines = [value["engines"] for value in report.values]
        taken = tuple(
            Taken(
                name,
                first["calls"],
                slowest([rank[name]["seconds"] for rank in engines]),
                sum(rank[name]["wrong"] for rank in engines),
                first["by"],
            )
            for name, first in engines[0].items()
        )
        in_order = sorted(taken, key=lambda each: plan.engines.index(each.engine))
        return Measured(case, tuple(in_order), report.values[0]["absent"])

    def _run(self, ranks: int, job: str, given: Mapping[str, Any], where: str) -> GroupReport:
        pool = self._ready()
        pool.keep((ranks,))  # idle ranks of another group would take time from these
        report = pool.run(job, given, size=ranks, seconds=self._plan.deadline)
        if report.failures:
            raise BenchError(_line(report, where))
        return report

    def _ready(self) -> Pool:
        if self._pool is None:
            seconds = self._plan.patience
            entering = self._ground.entering
            arguments = {
                "address": self._store.address,
                "joined": True,
                "seconds": seconds,
                "entering": entering,
            }
            patience = seconds if entering is None else 3 * seconds
            # The board on which ranks agree before each collective would be timed with them.
            self._pool = self._ground.pool(Setup(jobs.PREPARE_RANK, arguments, watched=False, seconds=patience))
        return self._pool


def _preloaded(subject: Subject) -> tuple[str, ...]:
    """What the first process imports: nothing of the host's or the vendor's. Tensors may be of a Python subclass, for
    which torch imports much at the first operation.
    """
    common = ("torch", "numpy", jobs.PREPARE_RANK.partition(":")[0], BODY)
    return common if subject.in_tree else (*common, "torch.distributed.tensor")


def _opened(plan: Plan, zygote: Warm) -> Bench:
    stages = Stages(zygote, plan.config, plan.subject.world(), workers=1, cluster=None)
    platform, facts = resolved(plan.subject, stages, "measured")
    if stages.devices.failure is not None:
        raise BenchError(f"the platform's devices could not be counted: {why(stages.devices)}")
    return Bench(plan, stages.ground(), platform, facts)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Let what can go wrong with processes be told in one line."""
    try:
        yield
    except GroupError as error:
        raise BenchError(f"the ranks did not come to life: {_line(error.report, '')}") from error
    except (NotResolved, ZygoteError) as error:
        raise BenchError(str(error)) from error


def _line(report: GroupReport, where: str) -> str:
    """What the first rank to fail did, at what, and where in the vendor's code."""
    rank = cause(report)
    at = f"{PARTS[rank.part]}: " if where and rank.part < len(PARTS) else ""
    which = f"rank {rank.rank} of {len(report.ranks)}"
    return f"{where}{', ' if where else ''}{at}{which}: {told(rank.failure, rank.output)}"


def cases(world_sizes: Sequence[int], dtypes: Sequence[str], sizes: Sequence[int]) -> Iterator[Case]:
    """Every case, in the order in which they are measured; sizes in whole elements of the type."""
    from .model import ITEM_BYTES

    for ranks in world_sizes:
        for dtype in dtypes:
            for size in dict.fromkeys(size // ITEM_BYTES[dtype] * ITEM_BYTES[dtype] for size in sizes):
                yield Case(ranks, dtype, size)
