"""Imagined machines on which a choice of custom all-reduce is asked: drawn from a seed, and those of the history.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations

Pair = tuple[int, int]


@dataclass(frozen=True)
class World:
    """A group of ranks, each with a device of its own, and what users have set.

    ``nodes``: the machine of each rank. ``links``: the pairs (lower, higher) that NVLink or XGMI joins, by ``lanes``
    lanes each; every lane of a device is up, also one that ends elsewhere. ``closed``: pairs (from, to) without access
    to memory. ``cliques``: the fabric of each rank, empty for none. ``vmm``: memory can be mapped across a fabric.
    ``second``: what the switch of the second generation says; None where it is unset. ``visible``: what a process sees:
    all devices of its machine, all by their UUIDs, or only its own.
    """

    nodes: tuple[int, ...]
    links: frozenset[Pair] = frozenset()
    closed: frozenset[Pair] = frozenset()
    lanes: int = 18
    kind: str = "cuda"
    capability: Pair = (9, 0)
    cliques: tuple[str, ...] = ()
    vmm: bool = False
    second: bool | None = None
    visible: str = "all"

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return len(self.nodes)

    def place(self, rank: int) -> int:
        """The number of a rank's device on its machine."""
        return self.nodes[:rank].count(self.nodes[rank])

    def linked(self, one: int, other: int) -> bool:
        """Whether lanes join two ranks."""
        return (min(one, other), max(one, other)) in self.links

    def words(self) -> str:
        """The world, for people."""
        pairs = self.size * (self.size - 1) // 2
        links = f"{len(self.links)} of {pairs} pairs linked" if self.links else "no pair linked"
        if 0 < pairs - len(self.links) <= 2:
            missing = sorted(set(combinations(range(self.size), 2)) - self.links)
            links = f"all pairs linked but {', '.join(f'{one}-{other}' for one, other in missing)}"
        told = [
            f"{self.size} {self.kind} ranks",
            f"{len(set(self.nodes))} machines" if len(set(self.nodes)) > 1 else "",
        ]
        told += [f"capability {self.capability[0]}.{self.capability[1]}" if self.kind == "cuda" else "", links]
        told += [f"no access {one}->{other}" for one, other in sorted(self.closed)[:3]]
        told += [f"cliques {'/'.join(c or '-' for c in self.cliques)}" if any(self.cliques) else ""]
        told += ["VMM" if self.vmm else "", "" if self.second is None else f"second generation {self.second}"]
        told += ["" if self.visible == "all" else f"devices seen: {self.visible}"]
        return ", ".join(filter(None, told))


def every_pair(size: int) -> frozenset[Pair]:
    """All pairs of so many ranks."""
    return frozenset(combinations(range(size), 2))


def linked(size: int, **fields: object) -> World:
    """Ranks of one machine, all of them linked."""
    return World((0,) * size, every_pair(size), **fields)  # type: ignore[arg-type]


def unlinked(size: int, **fields: object) -> World:
    """Ranks of one machine, joined by PCIe alone."""
    return World((0,) * size, **fields)  # type: ignore[arg-type]


HISTORY: tuple[tuple[str, World], ...] = (
    ("two ranks off NVLink, where the second generation was taken unasked and crashed", unlinked(2)),
    ("four ranks off NVLink, where a warning was given and it stayed enabled", unlinked(4)),
    ("eight ranks off NVLink", unlinked(8)),
    ("three ranks off NVLink", unlinked(3)),
    ("two ranks off NVLink, told to take the second generation", unlinked(2, second=True)),
    ("eight ranks, of which one pair lacks its link", replace(linked(8), links=every_pair(8) - {(2, 5)})),
    (
        "four ranks in pairs, each device with all its lanes up",
        replace(unlinked(4), links=frozenset({(0, 1), (2, 3)})),
    ),
    ("four ranks, one lane of each pair left", linked(4, lanes=1)),
    ("two ranks with links", linked(2)),
    ("eight ranks with links", linked(8)),
    ("eight ranks with links, the second generation switched off", linked(8, second=False)),
    ("three ranks with links, the second generation switched off", linked(3, second=False)),
    ("eight ranks on two machines", replace(linked(8), nodes=(0, 0, 0, 0, 1, 1, 1, 1))),
    ("one rank", linked(1)),
)
"""Worlds in which releases of SGLang, or plugins, chose wrongly, and their counterparts."""


def drawn(seed: int, count: int) -> Iterator[World]:
    """So many worlds, the same for the same seed."""
    rng = random.Random(seed)
    return (_world(rng) for _ in range(count))


def _world(rng: random.Random) -> World:
    size = rng.choice((1, *range(2, 17), 2, 2, 4, 4, 8, 8, 6))
    kind = rng.choices(("cuda", "musa", "rocm"), (8, 1, 1))[0]
    nodes = (0,) * size if rng.random() < 0.75 else _parted(rng, size)
    return World(
        nodes,
        _links(rng, nodes),
        _closed(rng, size),
        rng.choice((1, 4, 18)),
        kind,
        rng.choice(((8, 0), (8, 9), (9, 0), (9, 0), (10, 0), (10, 3), (10, 7), (12, 0))),
        rng.choice(((), ("a",) * size, ("a",) * (size - 1) + ("b",), ("a",) * (size - 1) + ("",))),
        rng.random() < 0.5,
        rng.choice((None, None, True, False)),
    )


def _parted(rng: random.Random, size: int) -> tuple[int, ...]:
    """Ranks on several machines, in runs."""
    machines = rng.randint(2, 4)
    return tuple(rank * machines // size for rank in range(size))


def _links(rng: random.Random, nodes: tuple[int, ...]) -> frozenset[Pair]:
    """All linked, none, all but a few pairs, cliques of some size, or a ring."""
    pairs = sorted(every_pair(len(nodes)))
    form = rng.randrange(6)
    if form <= 1:
        found: Iterable[Pair] = pairs
    elif form == 2:
        found = ()
    elif form == 3:
        found = set(pairs) - set(rng.sample(pairs, min(len(pairs), rng.randint(1, 2))))
    elif form == 4:
        width = rng.choice((2, 4))
        found = (pair for pair in pairs if pair[0] // width == pair[1] // width)
    else:
        found = (pair for pair in pairs if pair[1] - pair[0] in (1, len(nodes) - 1))
    return frozenset(pair for pair in found if nodes[pair[0]] == nodes[pair[1]])


def _closed(rng: random.Random, size: int) -> frozenset[Pair]:
    """Usually none; a pair in both directions, or everything."""
    pairs = sorted(every_pair(size))
    shut = rng.choice(([], [], [], [], rng.sample(pairs, min(1, len(pairs))), pairs))
    return frozenset(way for one, other in shut for way in ((one, other), (other, one)))


def even(world: World) -> World:
    """The world with access for all or for none: where only some have it, not every rank can tell alone."""
    if not world.closed:
        return world
    shut = ((one, other) for one in range(world.size) for other in range(world.size) if one != other)
    return replace(world, closed=frozenset(shut))


def less_than_linked() -> Iterator[World]:
    """Two to eight ranks, of which some pairs or all lack their link, while every lane of each device is up."""
    for size in range(2, 9):
        whole = every_pair(size)
        neighbours = frozenset(pair for pair in whole if pair[1] - pair[0] == 1)
        halves = frozenset(pair for pair in whole if (pair[0] < size // 2) == (pair[1] < size // 2))
        for links in (frozenset(), whole - {(0, size - 1)}, neighbours if size > 2 else frozenset(), halves):
            for second in (None, True):
                yield World((0,) * size, frozenset(links), second=second)


def one_step_down() -> Iterator[World]:
    """Groups that cannot have the second generation, and can have the first."""
    yield unlinked(2)
    yield unlinked(2, second=True)
    for size in (2, 4, 6, 8):
        yield linked(size, second=False)
        yield linked(size, kind="musa")
        yield linked(size, kind="rocm")
    yield unlinked(2, kind="musa")
    yield unlinked(2, second=False)


def one_sided() -> Iterator[World]:
    """Groups in which ranks see different things: access in one direction, or to some alone."""
    for size in (2, 3, 4, 8):
        for way in ((0, 1), (1, 0), (0, size - 1), (size - 1, 0)):
            yield replace(linked(size), closed=frozenset({way}))
    yield replace(unlinked(2), closed=frozenset({(1, 0)}))


def across() -> Iterator[World]:
    """Groups on several machines: in one fabric, in several, in none, with memory that can be mapped and without."""
    for size in (2, 4, 8, 16):
        nodes = tuple(rank * 2 // size for rank in range(size))
        links = frozenset(pair for pair in every_pair(size) if nodes[pair[0]] == nodes[pair[1]])
        for cliques in ((), ("a",) * size, ("a",) * (size // 2) + ("b",) * (size // 2), ("a",) * (size - 1) + ("",)):
            for vmm in (False, True):
                yield World(nodes, links, capability=(10, 0), cliques=cliques, vmm=vmm)
