"""Which generation of custom all-reduce a group has, and why: one pure function of its topology.

Facts: SGLang 0.5.11 to 0.5.23, custom_all_reduce.py (``dispatch_custom_allreduce``, ``CustomAllreduce``),
custom_all_reduce_v2.py (``can_use_custom_all_reduce_v2``) and custom_all_reduce_utils.py. Where a release does not ask
before it takes the second generation (0.5.11, 0.5.12), or has no row for a size that it admits (0.5.17, 0.5.18), what
is decided here is what the later ones decide: the group has the next best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .._releases import within
from .thresholds import tuned
from .topology import CUDA, MUSA, ROCM, Topology

SECOND, FIRST, NONE = "second", "first", "none"

FIRST_SIZES = (2, 4, 6, 8)
_NAMES: Mapping[str, str] = {SECOND: "the second generation", FIRST: "the first generation"}


class PassedOver(NamedTuple):
    """A generation that was not taken, and why."""

    generation: str
    why: str


@dataclass(frozen=True)
class Rung:
    """One generation, and what speaks against it; empty where nothing does."""

    generation: str
    against: str


@dataclass(frozen=True)
class Verdict:
    """What a group has, best first; ``linked`` says whether lanes join every pair of it."""

    rungs: tuple[Rung, ...]
    linked: bool = False

    @property
    def generation(self) -> str:
        """The best one that nothing speaks against; ``none`` where there is none, and the group reduces otherwise."""
        return next((rung.generation for rung in self.rungs if not rung.against), NONE)

    @property
    def passed_over(self) -> tuple[PassedOver, ...]:
        """Those that are better, and why the group has not got them."""
        better = []
        for rung in self.rungs:
            if not rung.against:
                break
            better.append(PassedOver(*vars(rung).values()))
        return tuple(better)

    @property
    def reason(self) -> str:
        """Why the group has what it has, in a sentence."""
        why = "; ".join(f"{_NAMES[generation]}: {why}" for generation, why in self.passed_over)
        if self.generation == NONE:
            return f"no custom all-reduce ({why})"
        return _NAMES[self.generation] + (f" ({why})" if why else "")

    def without(self, generation: str, why: str) -> Verdict:
        """The verdict once more, with something against one generation, too: its step down goes to the next best."""
        rungs = (replace(r, against=r.against or why) if r.generation == generation else r for r in self.rungs)
        return replace(self, rungs=tuple(rungs))

    def as_plain(self) -> dict[str, Any]:
        """As plain data, from which :func:`verdict_of` makes it again."""
        return {"rungs": [[rung.generation, rung.against] for rung in self.rungs], "linked": self.linked}


Rule = Callable[[Topology, str], str]
"""What speaks against a generation in a topology and a release; empty where nothing does."""


def choose(topology: Topology, release: str) -> Verdict:
    """The verdict on a group, which depends on nothing else: all ranks that know the same facts come to the same."""
    rungs = (Rung(generation, _against(rules, topology, release)) for generation, rules in _RULES)
    return Verdict(tuple(rungs), topology.linked)


def verdict_of(plain: dict[str, Any]) -> Verdict:
    """The verdict of plain data."""
    return Verdict(tuple(Rung(*rung) for rung in plain["rungs"]), plain["linked"])


def none(why: str) -> Verdict:
    """The verdict on a group of which too little is known."""
    return Verdict(tuple(Rung(generation, why) for generation, _ in _RULES))


def second_sizes(release: str, capability: tuple[int, int]) -> tuple[int, ...]:
    """The sizes of group that the second generation serves on an architecture."""
    return tuple(sorted(tuned(release, capability)))


def _against(rules: tuple[Rule, ...], topology: Topology, release: str) -> str:
    return next((why for rule in rules if (why := rule(topology, release))), "")


def _all_are_known(topology: Topology, release: str) -> str:
    return next((f"rank {at}: {rank.missing}" for at, rank in enumerate(topology.ranks) if rank.missing), "")


def _more_than_one(topology: Topology, release: str) -> str:
    return "" if topology.size > 1 else "one rank has nothing to reduce"


def _is_enabled(topology: Topology, release: str) -> str:
    return _said_by(topology, lambda rank: not rank.settings.enabled, "custom all-reduce is switched off")


def _second_is_enabled(topology: Topology, release: str) -> str:
    default = within(release, "0.5.12")
    said = "it is switched off" if default else "it is not switched on, as 0.5.11 wants it"
    return _said_by(topology, lambda rank: not rank.settings.second, said)


def _on_cuda(topology: Topology, release: str) -> str:
    return "" if topology.kind == CUDA else f"it is for CUDA, and the devices are {_kinds(topology)}"


def _on_a_kind_that_has_it(topology: Topology, release: str) -> str:
    return "" if topology.kind in (CUDA, ROCM, MUSA) else f"it is not for devices of the kind {_kinds(topology)}"


def _second_serves_the_size(topology: Topology, release: str) -> str:
    if topology.capability is None:
        return "the ranks have devices of several architectures, whose thresholds differ"
    return _size(topology, second_sizes(release, topology.capability))


def _first_serves_the_size(topology: Topology, release: str) -> str:
    return _size(topology, FIRST_SIZES)


def _one_node(topology: Topology, release: str) -> str:
    return "" if topology.one_node else f"the ranks are on {_nodes(topology)} machines"


def _one_node_or_fabric(topology: Topology, release: str) -> str:
    if topology.one_node or not within(release, "0.5.17"):
        return _one_node(topology, release)
    if _unasked(topology, release):
        return ""
    if not topology.one_clique:
        return f"the ranks are on {_nodes(topology)} machines, and not in one fabric"
    return _said_by(
        topology,
        lambda rank: not rank.device.vmm,
        f"the ranks are on {_nodes(topology)} machines, and memory cannot be mapped across the fabric",
    )


def _every_pair_is_linked(topology: Topology, release: str) -> str:
    if not topology.one_node:
        return ""  # what joins machines is a fabric, of which no lanes are told
    for at, rank in enumerate(topology.ranks):
        if rank.unseen:
            return f"rank {at} does not know its links: {rank.unseen}"
    return _between("no lane of NVLink or XGMI joins", next(topology.unlinked(), None))


def _every_pair_is_linked_where_more_than_two(topology: Topology, release: str) -> str:
    # On ROCm the first generation takes no tensor at all without links, but for its deterministic kernels.
    two_do = topology.kind != ROCM or all(rank.settings.deterministic for rank in topology.ranks)
    return "" if topology.size == 2 and two_do else _every_pair_is_linked(topology, release)


def _every_pair_has_access(topology: Topology, release: str) -> str:
    if topology.kind == ROCM or not topology.one_node:
        return ""
    for at, rank in enumerate(topology.ranks):
        if rank.untried:
            return f"rank {at} has not tried its access to the others: {rank.untried}"
    return _between("no access to each other's memory for", next(topology.apart(), None))


def _memory_can_be_shared(topology: Topology, release: str) -> str:
    return _said_by(topology, lambda rank: not rank.device.ipc, "memory cannot be opened by other processes")


_RULES: tuple[tuple[str, tuple[Rule, ...]], ...] = (
    (
        SECOND,
        (
            _all_are_known,
            _more_than_one,
            _is_enabled,
            _second_is_enabled,
            _on_cuda,
            _second_serves_the_size,
            _one_node_or_fabric,
            _every_pair_is_linked,
            _every_pair_has_access,
            _memory_can_be_shared,
        ),
    ),
    (
        FIRST,
        (
            _all_are_known,
            _more_than_one,
            _is_enabled,
            _on_a_kind_that_has_it,
            _one_node,
            _first_serves_the_size,
            _every_pair_is_linked_where_more_than_two,
            _every_pair_has_access,
            _memory_can_be_shared,
        ),
    ),
)
"""The generations, the best first, each with what may speak against it; the first rule that does gives the reason."""


def _unasked(topology: Topology, release: str) -> bool:
    """0.5.17 and 0.5.18 could be told to take the second generation on several machines without looking."""
    told = all(rank.settings.unasked_across_nodes for rank in topology.ranks)
    return told and within(release, "0.5.17", "0.5.19") and 2 <= topology.size <= 8


def _size(topology: Topology, served: tuple[int, ...]) -> str:
    return "" if topology.size in served else f"{topology.size} ranks, and it serves {', '.join(map(str, served))}"


def _kinds(topology: Topology) -> str:
    return " and ".join(sorted({rank.device.kind for rank in topology.ranks}))


def _nodes(topology: Topology) -> int:
    return len({rank.device.node for rank in topology.ranks})


def _between(what: str, pair: tuple[int, int] | None) -> str:
    return "" if pair is None else f"{what} ranks {pair[0]} and {pair[1]}"


def _said_by(topology: Topology, says: Callable[[Any], bool], what: str) -> str:
    """``what``, and by which ranks it is said, where any says so."""
    ranks = [at for at, rank in enumerate(topology.ranks) if says(rank)]
    if not ranks:
        return ""
    if len(ranks) == topology.size:
        return what
    return f"{what} on rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))} of {topology.size}"
