"""torch.distributed as one rank of a world sees it, with no other rank there: groups are told of, and none is made.

The others are taken to say what this one says.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock


@dataclass(eq=False)
class Group:
    """A process group: its ranks, its backend, and its number in the order of their making."""

    ranks: tuple[int, ...]
    backend: str
    number: int


@dataclass
class Distributed:
    """The world: how many ranks there are, which of them this is, and what was asked of torch."""

    size: int
    rank: int
    tell: Callable[..., None]
    world: Group | None = None
    made: list[Group] = field(default_factory=list)

    def is_initialized(self) -> bool:
        return self.world is not None

    def init_process_group(self, backend: str | None = None, **given: Any) -> None:
        self.tell("init_process_group", backend, {name: str(value) for name, value in sorted(given.items())})
        self.world = Group(tuple(range(self.size)), str(backend), 0)

    def new_group(self, ranks: Sequence[int] | None = None, backend: str | None = None, **given: Any) -> Any:
        told = {name: str(value) for name, value in given.items() if name in ("timeout", "pg_options")}
        group = Group(tuple(ranks or range(self.size)), str(backend), len(self.made) + 1)
        self.made.append(group)
        self.tell("new_group", list(group.ranks), group.backend, told)
        return group

    def destroy_process_group(self, group: Group | None = None) -> None:
        self.tell("destroy_process_group", None if group is None else group.number)
        if group is None:
            self.world = None

    def get_rank(self, group: Group | None = None) -> int:
        ranks = self._of(group).ranks
        return ranks.index(self.rank) if self.rank in ranks else -1

    def get_world_size(self, group: Group | None = None) -> int:
        return len(self._of(group).ranks)

    def get_backend(self, group: Group | None = None) -> str:
        return self._of(group).backend

    def get_process_group_ranks(self, group: Group | None = None) -> list[int]:
        return list(self._of(group).ranks)

    def all_gather_object(self, said: list[Any], thing: Any, group: Group | None = None) -> None:
        said[:] = [thing] * self.get_world_size(group)

    def _of(self, group: Group | None) -> Group:
        if group is not None:
            return group
        if self.world is None:
            raise ValueError("the default group is not initialized")
        return self.world


_NAMES = (
    "is_initialized",
    "init_process_group",
    "new_group",
    "destroy_process_group",
    "get_rank",
    "get_world_size",
    "get_backend",
    "get_process_group_ranks",
    "all_gather_object",
)


@contextmanager
def instead(distributed: Distributed) -> Iterator[None]:
    """Let torch.distributed be this, for a while."""
    import torch.distributed

    with mock.patch.multiple(torch.distributed, **{name: getattr(distributed, name) for name in _NAMES}):
        yield
