"""What a group's all-reduce is asked to be: its generation, what it takes, and how large its memory is. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .._custom_all_reduce import limits as names
from .._custom_all_reduce.generations import FIRST, SECOND
from .._custom_all_reduce.limits import Limits, Span, first_spans, second_limits
from .._custom_all_reduce.topology import Device, Rank, Settings, Topology
from .layout import PACK, Algorithm, Layout

_KIB = 1024
_ALIGNMENT = 1024
_PULLS = (names.ONE_SHOT_PULL, names.TWO_SHOT_PULL, names.TWO_SHOT_MULTICAST)


@dataclass(frozen=True)
class Wanted:
    """What a group wants: the generation and what it takes, and whether graphs' inputs are registered.

    ``linked``: NVLink joins every pair of different devices.
    """

    generation: str
    limits: Limits
    register: bool = True
    linked: bool = True


@dataclass(frozen=True)
class Sizes:
    """What the second generation's constructor is given, in bytes: see SGLang's for what comes before what.

    ``most`` bounds both buffers; ``pull`` and ``push`` are exact sizes, and a pull of 0 leaves only pushes.
    """

    most: int | None = None
    pull: int | None = None
    push: int | None = None


def first(size: int, most: int, settings: Settings, *, linked: bool) -> Wanted:
    """The first generation for so many ranks, with inputs of up to ``most`` bytes."""
    spans = first_spans(size, most)
    limits = Limits(spans, spans, pull_bytes=max(0, most) // PACK * PACK)
    return Wanted(FIRST, limits, settings.graphs, linked)


def second(size: int, release: str, capability: tuple[int, int], settings: Settings, sizes: Sizes) -> Wanted:
    """The second generation for so many ranks of an architecture."""
    unbound = replace(settings, max_kib=1 << 40)
    rank = Rank(Device("", "", capability=capability), (), unbound)
    tuned = second_limits(Topology((rank,) * size), release)
    most = settings.max_kib * _KIB if sizes.most is None else sizes.most
    push, pull = sizes.push, sizes.pull
    if settings.forced_push_kib is not None or push is None:
        push = tuned.push_bytes if settings.forced_push_kib is not None else min(tuned.push_bytes, most)
    if settings.forced_pull_kib is not None or pull is None:
        pull = tuned.pull_bytes if settings.forced_pull_kib is not None else min(tuned.pull_bytes, most)
    push, pull = aligned(push), aligned(pull) if pull > 0 else 0
    layout = Layout(size, 1, push, pull)
    eager, graph = (_clipped(spans, layout) for spans in (tuned.eager, tuned.graph))
    return Wanted(SECOND, Limits(eager, graph, push, pull), settings.graphs)


def uncapped(limits: Limits) -> Limits:
    """The same limits where the two-shot pull takes all that its buffer holds."""
    return _each(limits, {names.TWO_SHOT_PULL: limits.pull_bytes})


def shot(limits: Limits, shots: int) -> Limits:
    """The same limits where pulls take one shot, or two, whatever the size."""
    return _each(limits, {names.ONE_SHOT_PULL: limits.pull_bytes if shots == 1 else 0})


def all_by(algorithm: Algorithm, name: str, layout: Layout, limits: Limits) -> Limits:
    """The limits where one algorithm takes all that its memory holds."""
    spans = (Span(name, layout.capacity(algorithm)),)
    return replace(limits, eager=spans, graph=spans)


def _each(limits: Limits, most: dict[str, int]) -> Limits:
    eager, graph = (
        tuple(replace(span, most=most.get(span.algorithm, span.most)) for span in spans)
        for spans in (limits.eager, limits.graph)
    )
    return replace(limits, eager=eager, graph=graph)


def _clipped(spans: tuple[Span, ...], layout: Layout) -> tuple[Span, ...]:
    """The spans as far as the memory goes."""
    room = {
        names.ONE_SHOT_PUSH: layout.capacity(Algorithm.ONE_SHOT_PUSH),
        names.TWO_SHOT_PUSH: layout.capacity(Algorithm.TWO_SHOT_PUSH),
        **dict.fromkeys(_PULLS, layout.pull_bytes),
    }
    clipped = (replace(span, most=min(span.most, room[span.algorithm])) for span in spans)
    return tuple(span for span in clipped if span.most > 0)


def aligned(nbytes: int) -> int:
    """As many bytes, or a few more, as SGLang's second generation makes room for."""
    return -(-max(nbytes, _ALIGNMENT) // _ALIGNMENT) * _ALIGNMENT
