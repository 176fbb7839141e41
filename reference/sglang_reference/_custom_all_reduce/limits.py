"""What an engine of a generation takes: how many bytes, of which types, and by which algorithm.

Facts: SGLang 0.5.11 to 0.5.23, custom_all_reduce.py (``should_custom_ar``), custom_all_reduce_v2.py (``__init__``,
``_pick_config``; before 0.5.16 ``override_shot``, ``_determine_algo``), and sgl-kernel's custom_all_reduce.cuh, whose
two thresholds are exclusive.
"""

from __future__ import annotations

from dataclasses import dataclass

from .._releases import within
from .generations import FIRST, SECOND, Verdict
from .thresholds import Row, Tuned, tuned
from .topology import CUDA, MUSA, ROCM, Settings, Topology

ONE_SHOT_PUSH, TWO_SHOT_PUSH = "one-shot push", "two-shot push"
ONE_SHOT_PULL, TWO_SHOT_PULL = "one-shot pull", "two-shot pull"
TWO_SHOT_MULTICAST = "two-shot pull by multicast"
ONE_STAGE, TWO_STAGE = "one-stage", "two-stage"

PACK = 16
"""Bytes that are moved at a time: a tensor is a whole number of packs."""
DTYPES = ("float32", "float16", "bfloat16")

_KIB = 1024
_MIB = 1024 * _KIB
_ALIGNMENT = 1024
FIRST_MAX = {CUDA: 8 * _MIB, ROCM: 16 * _MIB, MUSA: 16 * 8196 * _KIB}  # so in SGLang: 8196, not 8192
_UNBOUNDED = 1 << 62


@dataclass(frozen=True)
class Span:
    """An algorithm for sizes above the previous span's, or from ``least`` on, up to ``most`` bytes."""

    algorithm: str
    most: int
    least: int = 0


@dataclass(frozen=True)
class Limits:
    """What one engine takes. The spans are in the order in which they are tried, for what is launched at once and for
    inputs that a graph holds. ``push_bytes`` and ``pull_bytes`` are its buffers, a slot of each; 0 where it has none.
    """

    eager: tuple[Span, ...]
    graph: tuple[Span, ...]
    push_bytes: int = 0
    pull_bytes: int = 0
    dtypes: tuple[str, ...] = DTYPES

    def algorithm(self, nbytes: int, *, graph: bool = False, multicast: bool = False) -> str:
        """The algorithm for so many bytes; empty where the engine does not take them.

        ``graph``: a graph is being captured that holds the input; ``multicast``: the devices have it.
        """
        for span in self.graph if graph else self.eager:
            if span.least <= nbytes <= span.most and (multicast or span.algorithm != TWO_SHOT_MULTICAST):
                return span.algorithm
        return ""

    def most(self, *, graph: bool = False, multicast: bool = False) -> int:
        """The most bytes that it takes."""
        spans = self.graph if graph else self.eager
        return max((s.most for s in spans if multicast or s.algorithm != TWO_SHOT_MULTICAST), default=0)


def limits(verdict: Verdict, topology: Topology, release: str) -> Limits | None:
    """The limits of the engine that a group has by a verdict; None where it has none."""
    if verdict.generation == FIRST:
        return first_limits(topology)
    if verdict.generation == SECOND:
        return second_limits(topology, release)
    return None


def first_limits(topology: Topology) -> Limits:
    """Those of the first generation."""
    most = FIRST_MAX[topology.kind]
    deterministic = topology.kind == ROCM and all(rank.settings.deterministic for rank in topology.ranks)
    spans = first_spans(topology.size, most, deterministic=deterministic)
    return Limits(spans, spans, pull_bytes=most)


def first_spans(size: int, most: int, *, deterministic: bool = False) -> tuple[Span, ...]:
    """The first generation's algorithms for so many ranks: of all sizes one stage, where it must be deterministic."""
    if deterministic:
        return (Span(ONE_STAGE, _UNBOUNDED),)
    if size == 2:
        return (Span(ONE_STAGE, most),)
    small = 512 * _KIB if size <= 4 else 256 * _KIB
    return (Span(ONE_STAGE, min(small - 1, most)), Span(TWO_STAGE, most))


def second_limits(topology: Topology, release: str) -> Limits:
    """Those of the second generation, whose buffers and thresholds are clipped to one another."""
    settings, size = topology.ranks[0].settings, topology.size
    rows = tuned(release, topology.capability or (0, 0))[size]
    if not within(release, "0.5.16"):
        return _early_limits(rows.eager)
    push, pull = _buffers(rows, settings, size)
    graph, eager = (_spans(_forced(row, settings), push, pull, size) for row in (rows.graph, rows.eager))
    holds_inputs = settings.graphs and topology.one_node
    return Limits(eager, graph if holds_inputs else eager, push, pull)


def _early_limits(row: Row) -> Limits:
    """Before 0.5.16 the two-shot pull took all that the buffers hold."""
    push, pull = int(row.push * _KIB), 16 * _MIB
    spans = (
        Span(ONE_SHOT_PUSH, push),
        Span(ONE_SHOT_PULL, int(min(row.pull * _KIB, pull))),
        Span(TWO_SHOT_PULL, max(push, pull)),
    )
    return Limits(spans, spans, push, pull)


def _buffers(rows: Tuned, settings: Settings, size: int) -> tuple[int, int]:
    """The bytes of a push slot and of the pull buffer: what the rows want, bounded by what is configured."""
    bound = settings.max_kib * _KIB
    push = int(
        max(max(row.push * _KIB, _slot(int(row.two_shot_push * _KIB), size)) for row in (rows.graph, rows.eager))
    )
    pull = int(
        max(max(row.pull, row.two_shot, (row.multicast or (0, 0))[1]) for row in (rows.graph, rows.eager)) * _KIB
    )
    push, pull = min(push, bound), min(pull, bound)
    if settings.forced_push_kib is not None:
        push = settings.forced_push_kib * _KIB
    if settings.forced_pull_kib is not None:
        pull = settings.forced_pull_kib * _KIB
    return _aligned(push), _aligned(pull) if pull > 0 else 0


def _forced(row: Row, settings: Settings) -> Row:
    """A buffer whose size is forced is used to its end."""
    push = row.push if settings.forced_push_kib is None else settings.forced_push_kib
    two_shot = row.two_shot if settings.forced_pull_kib is None else settings.forced_pull_kib
    return Row(push, row.pull, two_shot, row.multicast, row.two_shot_push)


def _spans(row: Row, push: int, pull: int, size: int) -> tuple[Span, ...]:
    spans = [
        Span(ONE_SHOT_PUSH, min(int(row.push * _KIB), push)),
        Span(TWO_SHOT_PUSH, min(int(row.two_shot_push * _KIB), size * PACK * (push // (2 * PACK)))),
        Span(ONE_SHOT_PULL, min(int(row.pull * _KIB), pull)),
    ]
    if row.multicast is not None and pull:
        least, most = (min(int(kib * _KIB), pull) for kib in row.multicast)
        spans.append(Span(TWO_SHOT_MULTICAST, most, least))
    spans.append(Span(TWO_SHOT_PULL, min(int(row.two_shot * _KIB), pull)))
    return tuple(span for span in spans if span.most > 0)


def _slot(nbytes: int, size: int) -> int:
    """The bytes of a slot for a two-shot push: a part and its sum, in packs."""
    return 2 * PACK * -(-nbytes // (PACK * size))


def _aligned(nbytes: int) -> int:
    return -(-max(nbytes, _ALIGNMENT) // _ALIGNMENT) * _ALIGNMENT
