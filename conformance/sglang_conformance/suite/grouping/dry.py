"""A world of any number of ranks without a process for each: the host lays it out, and nobody is called.

What the host, with the vendor's hooks on it, asks of torch.distributed is answered as on one rank of that world, and
its coordinators are stand-ins that only note of which ranks they are. For a probe: it changes its process for a while.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from ...hosts import groups


@dataclass(frozen=True)
class Made:
    """The groups of one kind as the host asked for them, by the name that it gave them."""

    name: str
    groups: list[list[int]]


@dataclass(frozen=True)
class Layout:
    """What the host made on one rank: all groups in their order, the rank's own by kind, and which kinds are one."""

    made: list[Made]
    own: dict[str, list[int]]
    one: dict[str, int]


class Coordinator:
    """Stands for a GroupCoordinator: of which ranks it is, and no more."""

    def __init__(self, rank: int, ranks: list[int], local_rank: int) -> None:
        self.rank = rank
        self.ranks = ranks
        self.world_size = len(ranks)
        self.rank_in_group = ranks.index(rank)
        self.local_rank = local_rank
        self.device_group = self.cpu_group = object()
        self.pynccl_comm = None

    def destroy(self) -> None:
        """There is nothing to destroy."""


def lay_out(rank: int, sizes: Mapping[str, int], backend: str) -> Layout:
    """What the host makes on one rank of the world of these sizes. What it raises is passed on."""
    made: list[Made] = []
    with _world(rank, sizes["tp"] * sizes["pp"], backend, made):
        groups.join(
            rank=rank, size=sizes["tp"] * sizes["pp"], local_rank=rank, method="", backend=backend, timeout=None
        )
        try:
            groups.lay_out(**sizes)
            own = groups.made(dcp=sizes["dcp"])
        finally:
            groups.leave()
    first = {id(coordinator): number for number, coordinator in reversed(list(enumerate(own.values())))}
    ranks = {kind: list(coordinator.ranks) for kind, coordinator in own.items()}
    return Layout(made, ranks, {kind: first[id(coordinator)] for kind, coordinator in own.items()})


@contextmanager
def _world(rank: int, size: int, backend: str, made: list[Made]) -> Iterator[None]:
    import torch.distributed as dist

    def coordinator(
        group_ranks: list[list[int]], local_rank: int, *_: Any, group_name: str | None = None, **__: Any
    ) -> Coordinator:
        made.append(Made(str(group_name), [list(ranks) for ranks in group_ranks]))
        own = [list(ranks) for ranks in group_ranks if rank in ranks]
        assert own, f"rank {rank} is in none of the groups {group_name}"  # as SGLang's own asserts
        return Coordinator(rank, own[-1], local_rank)

    answers: dict[str, Any] = {
        "is_initialized": lambda: True,
        "get_world_size": lambda group=None: size,
        "get_rank": lambda group=None: rank,
        "get_backend": lambda group=None: backend,
        "new_group": lambda *args, **kwargs: object(),
        "destroy_process_group": lambda *args, **kwargs: None,
    }
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(dist, name, answer))
        stack.enter_context(mock.patch.object(groups.state(), "GroupCoordinator", coordinator))
        yield
