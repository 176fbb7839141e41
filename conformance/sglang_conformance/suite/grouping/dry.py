"""A world of any number of ranks without a process for each: the host lays it out, and nobody is called.

What the host, with the vendor's hooks on it, asks of torch.distributed is answered as on one rank of that world
(:mod:`.standing_in`). Its coordinators are of the host's own class, or of one that a vendor derived from it; only what
SGLang's constructor does is left out. For a probe: it changes its process for a while.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...hosts import groups
from .. import expect
from .standing_in import Stage, swapped

_ENGINES = (
    "ca_comm",
    "hpu_communicator",
    "mq_broadcaster",
    "npu_communicator",
    "pcie_ipc_comm",
    "pymscclpp_comm",
    "pynccl_comm",
    "qr_comm",
    "torch_symm_mem_comm",
    "xpu_communicator",
)


class LeftOut(AssertionError):
    """A rank is in none of the groups of a kind, as SGLang's own constructor asserts."""


@dataclass(frozen=True)
class Made:
    """Groups as they were asked for: those of one kind, by the name that the host gave them, or one of torch's.

    The ranks of each ascend: torch takes them by their numbers.
    """

    name: str
    groups: list[list[int]]


@dataclass(frozen=True)
class Layout:
    """What the host made on one rank: all groups in their order, the rank's own by kind, and which kinds are one."""

    made: list[Made]
    own: dict[str, list[int]]
    one: dict[str, int]


def lay_out(rank: int, sizes: Mapping[str, int], backend: str) -> Layout:
    """What the host makes on one rank of the world of these sizes. What it raises is passed on."""
    made: list[Made] = []
    world = sizes["tp"] * sizes["pp"]
    with _world(rank, world, backend, made):
        groups.join(rank=rank, size=world, local_rank=rank, method="", backend=backend, timeout=None)
        try:
            groups.lay_out(**sizes)
            own = groups.made(dcp=sizes["dcp"])
        finally:
            groups.leave()
    first = {id(coordinator): number for number, coordinator in reversed(list(enumerate(own.values())))}
    ranks = {kind: list(coordinator.ranks) for kind, coordinator in own.items()}
    return Layout(made, ranks, {kind: first[id(coordinator)] for kind, coordinator in own.items()})


def seen(call: str, rank: int, sizes: Mapping[str, int], backend: str) -> Layout:
    """The same, for sizes that the host must take. A rank that is left out is a violation.

    Declined where there is any other error: what a vendor's hook does beside may need processes, and is judged where
    the groups are really made.
    """
    try:
        return lay_out(rank, sizes, backend)
    except LeftOut as error:
        expect.fail(expected="a group of every kind", seen=str(error), call=call)
    except Exception as error:
        expect.pass_on_uncovered(error)
        told = f"{type(error).__name__}: {error}"
        raise expect.Declined(f"not to be seen without a process for each rank: {call}: {told}") from None


@contextmanager
def _world(rank: int, size: int, backend: str, made: list[Made]) -> Iterator[None]:
    stage = Stage(rank, size, backend, lambda ranks: made.append(Made("new_group", [sorted(ranks)])))
    kind = _host_class(groups.state().GroupCoordinator)

    def start(
        self: Any,
        group_ranks: Sequence[Sequence[int]],
        local_rank: int,
        *_: Any,
        group_name: str | None = None,
        **wishes: Any,
    ) -> None:
        made.append(Made(str(group_name), [sorted(ranks) for ranks in group_ranks]))
        own = [list(ranks) for ranks in group_ranks if rank in ranks]
        if not own:
            raise LeftOut(f"rank {rank} is in none of the groups {group_name}")
        vars(self).update(_attributes(stage, own[-1], local_rank, f"{group_name}:{len(made)}"), **wishes)

    with stage.played(), swapped(kind, {"__init__": start, "destroy": lambda self: None}):
        yield


def _host_class(kind: type) -> type:
    """The host's own class of coordinators, which a vendor's may derive from."""
    return next(each for each in kind.__mro__ if each.__module__.partition(".")[0] == "sglang")


def _attributes(stage: Stage, ranks: list[int], local_rank: int, name: str) -> dict[str, Any]:
    """What a coordinator has once it is made (0.5.23, srt/distributed/parallel_state.py); its device is the host."""
    import torch

    return {
        **dict.fromkeys(_ENGINES),
        "unique_name": name,
        "rank": stage.rank,
        "ranks": ranks,
        "world_size": len(ranks),
        "rank_in_group": ranks.index(stage.rank),
        "local_rank": local_rank,
        "local_size": 0,
        "device": torch.device("cpu"),
        "device_module": torch.cpu,
        "device_group": stage.group(ranks),
        "cpu_group": stage.group(ranks),
    }
