"""The facts that custom all-reduce is decided by: what each rank of a group is, and what it sees of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

CUDA, ROCM, MUSA, OTHER = "cuda", "rocm", "musa", "other"


@dataclass(frozen=True)
class Device:
    """What one rank says of itself.

    ``node`` names the machine whose memory it shares, ``device`` the device itself: its UUID, never the number that a
    process has for it. ``kind`` is cuda, rocm, musa or other. ``clique`` names the fabric (NVL72, MNNVL) that the
    device has joined; empty for none. ``vmm``: torch's allocator hands out virtual memory that may be mapped across a
    fabric (expandable segments). ``ipc``: memory can be opened by other processes.
    """

    node: str
    device: str
    kind: str = CUDA
    capability: tuple[int, int] = (9, 0)
    clique: str = ""
    vmm: bool = False
    ipc: bool = True


@dataclass(frozen=True)
class View:
    """What one rank sees of one other.

    ``lanes``: how many lanes of NVLink or XGMI are up and end at *this* peer, directly or through switches; with none
    of them the way is PCIe. ``access``: memory of the peer has been read and written.
    """

    lanes: int = 0
    access: bool = True


@dataclass(frozen=True)
class Settings:
    """What users have configured, as one rank read it.

    ``enabled``: custom all-reduce is not switched off. ``second``: nor is its second generation; before 0.5.12 that
    must be switched on. ``unasked_across_nodes``: the second generation is taken on several machines whatever connects
    them, which 0.5.17 and 0.5.18 had. ``deterministic``: ROCm's one-stage kernels for all sizes. ``graphs``: graphs may
    register their inputs (not so under the memory saver). The sizes are in KiB; None leaves one unforced.
    """

    enabled: bool = True
    second: bool = True
    unasked_across_nodes: bool = False
    deterministic: bool = False
    graphs: bool = True
    max_kib: int = 16 * 1024
    forced_pull_kib: int | None = None
    forced_push_kib: int | None = None


@dataclass(frozen=True)
class Rank:
    """One rank: what it is, what it sees of each rank in order (of itself, nothing that matters), what it is told.

    ``missing`` says why nothing is known of it: it could not say what it is, or never came; ``unseen`` why its links
    are not known, as where looking for them failed or hung, and ``untried`` the same of access: then it has none.
    """

    device: Device
    views: tuple[View, ...]
    settings: Settings = Settings()
    missing: str = ""
    unseen: str = ""
    untried: str = ""


@dataclass(frozen=True)
class Topology:
    """All ranks of a group. A link is one that both ends see: who sees one that the other does not, sees none."""

    ranks: tuple[Rank, ...]

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return len(self.ranks)

    @property
    def one_node(self) -> bool:
        """Whether all ranks share the memory of one machine."""
        return len({rank.device.node for rank in self.ranks}) <= 1

    @property
    def one_clique(self) -> bool:
        """Whether all devices have joined the same fabric."""
        cliques = {rank.device.clique for rank in self.ranks}
        return len(cliques) == 1 and "" not in cliques

    @property
    def kind(self) -> str:
        """The kind of all devices; ``other`` where they differ."""
        kinds = {rank.device.kind for rank in self.ranks}
        return kinds.pop() if len(kinds) == 1 else OTHER

    @property
    def capability(self) -> tuple[int, int] | None:
        """The compute capability of all devices; None where they differ."""
        found = {rank.device.capability for rank in self.ranks}
        return found.pop() if len(found) == 1 else None

    def lanes(self, one: int, other: int) -> int:
        """How many lanes join two ranks, by what both see."""
        return min(self.ranks[one].views[other].lanes, self.ranks[other].views[one].lanes)

    def access(self, one: int, other: int) -> bool:
        """Whether both ranks can reach the other's memory."""
        return self.ranks[one].views[other].access and self.ranks[other].views[one].access

    @property
    def linked(self) -> bool:
        """Whether lanes join every pair."""
        return next(self.unlinked(), None) is None

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Every pair of ranks, once."""
        return combinations(range(self.size), 2)

    def unlinked(self) -> Iterator[tuple[int, int]]:
        """The pairs that no lane joins."""
        return (pair for pair in self.pairs() if self.lanes(*pair) < 1)

    def apart(self) -> Iterator[tuple[int, int]]:
        """The pairs that cannot reach each other's memory."""
        return (pair for pair in self.pairs() if not self.access(*pair))
