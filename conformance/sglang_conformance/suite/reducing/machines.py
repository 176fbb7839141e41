"""An imagined machine in the place of what the host asks of a real one: NVML, torch.cuda, torch.distributed.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from .worlds import World


class Waits(BaseException):
    """A rank waits for what others have not said yet."""


class Refused(Exception):
    """What the management library raises."""


class Stand:
    """One rank of a world at a time, and what all have told each other so far: for each exchange, by rank."""

    def __init__(self) -> None:
        self.enter(World((0,)))

    def enter(self, world: World) -> None:
        """Another world, in which nothing has been said."""
        self.world = world
        self.rank = 0
        self.said: list[dict[int, Any]] = []
        self._next = 0
        self._numbers = [world.place(rank) for rank in range(world.size)]
        self._rank_at = {
            (node, number): rank for rank, (node, number) in enumerate(zip(world.nodes, self._numbers, strict=True))
        }
        self._access: dict[int, dict[str, bool]] = {}

    def sit(self, rank: int) -> None:
        """Be that rank, from the beginning."""
        self.rank = rank
        self._next = 0

    def told_by_all(self, value: Any) -> list[Any]:
        """What every rank says in this exchange. Raises Waits where one has not said it yet."""
        turn, self._next = self._next, self._next + 1
        if turn == len(self.said):
            self.said.append({})
        self.said[turn][self.rank] = value
        if len(self.said[turn]) < self.world.size:
            raise Waits
        return [self.said[turn][rank] for rank in range(self.world.size)]

    @property
    def heard(self) -> int:
        """How much has been said."""
        return sum(map(len, self.said))

    @property
    def number(self) -> int:
        """The machine's number of this rank's device."""
        return self._numbers[self.rank]

    @property
    def index(self) -> int:
        """The number that the process has for it."""
        return 0 if self.world.visible == "own" else self.number

    @property
    def count(self) -> int:
        """How many devices this process sees."""
        world = self.world
        return 1 if world.visible == "own" else world.nodes.count(world.nodes[self.rank])

    def rank_at(self, number: int) -> int:
        """The rank whose device has that number on this rank's machine. Raises Refused where there is none."""
        rank = self._rank_at.get((self.world.nodes[self.rank], number))
        if rank is None:
            raise Refused(f"no device {number}")
        return rank

    def reaches(self, one: int, other: int) -> bool:
        """Whether a device of this machine reaches the memory of another, both by number."""
        return one == other or (self.rank_at(one), self.rank_at(other)) not in self.world.closed

    def access(self) -> dict[str, bool]:
        """What was tested: for each two devices that this process sees, by its numbers."""
        if self.world.visible == "own":
            return {"0->0": True}
        node = self.world.nodes[self.rank]
        if node not in self._access:
            self._access[node] = dict(_all_have_access(self.count))
            if self.world.closed:
                numbers = range(self.count)
                found = {f"{one}->{other}": self.reaches(one, other) for one in numbers for other in numbers}
                self._access[node] = found
        return self._access[node]


@functools.cache
def _all_have_access(count: int) -> dict[str, bool]:
    return {f"{one}->{other}": True for one in range(count) for other in range(count)}


def uuid(number: int) -> str:
    """The UUID of the machine's device of that number."""
    return f"GPU-{number:08d}-0000-0000-0000-000000000000"


class Library:
    """The management library: pynvml's names, of which SGLang asks, and those that a wrong plugin would ask."""

    NVMLError = Refused
    NVML_P2P_STATUS_OK = 0
    NVML_P2P_CAPS_INDEX_READ, NVML_P2P_CAPS_INDEX_WRITE, NVML_P2P_CAPS_INDEX_NVLINK = 0, 1, 2
    NVML_NVLINK_MAX_LINKS = 18

    def __init__(self, stand: Stand) -> None:
        self._stand = stand

    def nvmlInit(self) -> None:  # noqa: N802
        """Nothing to be done."""

    nvmlShutdown = nvmlInit  # noqa: N815

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:  # noqa: N802
        """The device of that number on this machine."""
        self._stand.rank_at(number)
        return number

    def nvmlDeviceGetHandleByUUID(self, text: str | bytes) -> int:  # noqa: N802
        """The device of that UUID."""
        wanted = text.decode() if isinstance(text, bytes) else text
        for number in range(self._stand.world.size):
            if uuid(number) == wanted:
                return self.nvmlDeviceGetHandleByIndex(number)
        raise Refused(f"no device {wanted}")

    def nvmlDeviceGetIndex(self, handle: int) -> int:  # noqa: N802
        """The number of a device."""
        return handle

    def nvmlDeviceGetP2PStatus(self, one: int, other: int, index: int) -> int:  # noqa: N802
        """0 where the two are joined in that way."""
        if one == other:
            raise Refused("a device is no peer of its own")
        stand = self._stand
        if index == self.NVML_P2P_CAPS_INDEX_NVLINK:
            return 0 if stand.world.linked(stand.rank_at(one), stand.rank_at(other)) else 5
        return 0 if stand.reaches(one, other) else 5

    def nvmlDeviceGetNvLinkState(self, handle: int, lane: int) -> int:  # noqa: N802
        """1: every lane of a device is up, whoever is at its other end."""
        return 1


def distributed(stand: Stand, real: Any) -> SimpleNamespace:
    """What the choice takes of torch.distributed."""

    def all_gather(into: list[Any], tensor: Any, group: Any = None) -> None:
        for target, value in zip(into, stand.told_by_all(tensor.tolist()), strict=True):
            target.copy_(target.new_tensor(value))

    def all_gather_object(into: list[Any], value: Any, group: Any = None) -> None:
        into[:] = stand.told_by_all(value)

    return SimpleNamespace(
        Backend=real.Backend,
        ProcessGroup=real.ProcessGroup,
        is_initialized=lambda: False,
        get_rank=lambda group=None: stand.rank,
        get_world_size=lambda group=None: stand.world.size,
        get_backend=lambda group=None: "gloo",
        get_process_group_ranks=lambda group=None: list(range(stand.world.size)),
        barrier=lambda group=None, **_: stand.told_by_all(None),
        all_gather=all_gather,
        all_gather_object=all_gather_object,
    )


def same_node(stand: Stand) -> Callable[..., list[bool]]:
    """In the place of in_the_same_node_as."""
    return lambda pg, source_rank=0: [node == stand.world.nodes[source_rank] for node in stand.world.nodes]


def clique(stand: Stand) -> Callable[[Any], tuple[bytes, int] | None]:
    """In the place of _gpu_fabric_clique."""

    def of(device: Any) -> tuple[bytes, int] | None:
        name = stand.world.cliques[stand.rank] if stand.world.cliques else ""
        return (b"cluster", ord(name)) if name else None

    return of


def amd(stand: Stand) -> dict[str, Any]:
    """AMD's management library, by the names that SGLang has imported from it."""

    def link(one: int, other: int) -> dict[str, int]:
        joined = stand.world.linked(stand.rank_at(one), stand.rank_at(other))
        return {"hops": 1 if joined else 2, "type": 2 if joined else 1}

    return {
        "AmdSmiException": Refused,
        "amdsmi_init": lambda: None,
        "amdsmi_shut_down": lambda: None,
        "amdsmi_get_processor_handles": lambda: list(range(stand.count)),
        "amdsmi_topo_get_link_type": link,
    }
