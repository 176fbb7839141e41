"""What a benchmark measures, as plain data: the cases, what each engine took in them, and the figures of that."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

GROUP = "group"
CUSTOM = "custom"
PYNCCL = "pynccl"
GRAPH = "graph"
BACKEND = "backend"
COPY = "copy"

ENGINES: Mapping[str, str] = {
    GROUP: "the group's all_reduce, as SGLang calls it",
    CUSTOM: "the group's custom all-reduce",
    PYNCCL: "the group's PyNCCL communicator",
    GRAPH: "the group's all_reduce, replayed from a device graph",
    BACKEND: "torch.distributed.all_reduce on the platform's own backend",
    COPY: "a plain copy of the same bytes, by all ranks at once",
}
"""Everything that takes its turn, in the order of the table."""

YARDSTICKS = (BACKEND, COPY)
"""What the others are measured by, and which is therefore always there."""

ITEM_BYTES: Mapping[str, int] = {"float32": 4, "float16": 2, "bfloat16": 2}
"""The types that SGLang reduces over its groups, by torch's names, and the bytes of one element."""

LEAST_RANKS, MOST_RANKS = 2, 32


@dataclass(frozen=True)
class Case:
    """One message: ``bytes`` that each rank brings, of a type, on a group of so many ranks."""

    ranks: int
    dtype: str
    bytes: int

    @property
    def count(self) -> int:
        """How many elements that is."""
        return self.bytes // ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Taken:
    """What one engine took in one case: ``seconds`` of one call in each iteration, by the slowest rank.

    ``calls`` an iteration; ``wrong`` elements of all results of all ranks; ``by`` is the engine that the group's own
    all_reduce chose, where the host can tell.
    """

    engine: str
    calls: int
    seconds: tuple[float, ...]
    wrong: int = 0
    by: str = ""

    @property
    def time(self) -> float:
        """Seconds of a call: the median of the iterations."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between which half of the iterations lie."""
        if len(self.seconds) < 2:
            return self.time, self.time
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high


@dataclass(frozen=True)
class Measured:
    """One case as all engines did it; ``absent`` says why one of them has no figures."""

    case: Case
    taken: tuple[Taken, ...]
    absent: Mapping[str, str] = field(default_factory=dict)

    def time_of(self, engine: str) -> float | None:
        """Seconds of a call of that engine; None where it has no figures."""
        return next((each.time for each in self.taken if each.engine == engine), None)

    @property
    def wrong(self) -> int:
        """Wrong elements of all engines."""
        return sum(each.wrong for each in self.taken)


@dataclass(frozen=True)
class Figures:
    """What a line of the table says. Bandwidths in GB/s, of 10^9 bytes; None where a figure means nothing.

    ``vs_backend``: how many times as fast as the platform's backend. ``vs_copy``: how many times as long as a copy.
    """

    microseconds: float
    algorithm: float
    bus: float | None
    vs_backend: float | None
    vs_copy: float | None


def figures(measured: Measured, taken: Taken) -> Figures:
    """The figures of one engine in one case."""
    case, seconds = measured.case, taken.time
    algorithm = algorithm_bandwidth(case.bytes, seconds)
    bus = None if taken.engine == COPY else bus_bandwidth(algorithm, case.ranks)
    backend, copy = measured.time_of(BACKEND), measured.time_of(COPY)
    return Figures(
        microseconds=1e6 * seconds,
        algorithm=algorithm,
        bus=bus,
        vs_backend=None if backend is None or taken.engine == COPY else backend / seconds,
        vs_copy=None if copy is None else seconds / copy,
    )


def algorithm_bandwidth(size: int, seconds: float) -> float:
    """GB/s: the bytes that a rank brings, by the time (nccl-tests, doc/PERFORMANCE.md)."""
    return size / seconds / 1e9


def bus_bandwidth(algorithm: float, ranks: int) -> float:
    """GB/s of an all-reduce that can be held against the hardware's, however many ranks there are.

    Each element must come out of and go into every rank's memory so often: 2(n-1)/n times the algorithm's bandwidth
    (nccl-tests, doc/PERFORMANCE.md).
    """
    return algorithm * 2 * (ranks - 1) / ranks


def slowest(ranks: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The longest time of each iteration, from every rank's times."""
    return tuple(max(each) for each in zip(*ranks, strict=True))
