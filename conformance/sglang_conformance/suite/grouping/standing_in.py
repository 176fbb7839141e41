"""torch.distributed as one rank of a world meets it that has no other ranks: all of them give what this one gives.

So a hook that warms its groups up, or asks who is in them, has its answers. For a probe: it changes its process for a
while.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any


class Done:
    """Stands for the work of a collective, which is done at once."""

    def wait(self, *_: Any) -> bool:
        """There is nothing to wait for."""
        return True

    is_completed = is_success = wait
    synchronize = wait


class Group:
    """Stands for a process group: of which ranks it is, and no more."""

    def __init__(self, ranks: Sequence[int], rank: int) -> None:
        self.ranks = list(ranks)
        self._rank = rank
        self.group_name = self.group_desc = f"of {self.ranks}"

    def rank(self) -> int:
        """The place of this rank; -1 where it has none."""
        return self.ranks.index(self._rank) if self._rank in self.ranks else -1

    def size(self) -> int:
        """How many ranks there are."""
        return len(self.ranks)


@dataclass(frozen=True)
class Stage:
    """One rank of a world of that size; ``note`` is told the ranks of each group that torch is asked for."""

    rank: int
    size: int
    backend: str
    note: Callable[[list[int]], None]

    def group(self, ranks: Sequence[int]) -> Group:
        """A group of these ranks."""
        return Group(ranks, self.rank)

    @contextmanager
    def played(self) -> Iterator[None]:
        """For a while torch.distributed answers so."""
        import torch.distributed as dist

        answers = self._answers()
        with swapped(dist, answers), swapped(dist.distributed_c10d, answers):
            yield

    def _answers(self) -> dict[str, Any]:
        done = ("barrier", "broadcast", "broadcast_object_list", "monitored_barrier", "reduce", "send", "recv")
        return {
            **dict.fromkeys(done, _nothing),
            "is_initialized": lambda: True,
            "get_world_size": lambda group=None: self._of(group).size(),
            "get_rank": lambda group=None: self._of(group).rank(),
            "get_backend": lambda group=None: self.backend,
            "get_process_group_ranks": lambda group=None: list(self._of(group).ranks),
            "get_group_rank": lambda group, rank: self._of(group).ranks.index(rank),
            "get_global_rank": lambda group, rank: self._of(group).ranks[rank],
            "new_group": self._new_group,
            "init_process_group": _nothing,
            "destroy_process_group": _nothing,
            "all_reduce": partial(_all_reduce, self),
            "all_gather": _all_gather,
            "all_gather_into_tensor": _all_gather_into_tensor,
            "all_gather_object": _all_gather_object,
        }

    def _new_group(self, ranks: Sequence[int] | None = None, *_: Any, **__: Any) -> Group:
        own = list(range(self.size)) if ranks is None else list(ranks)
        self.note(own)
        return self.group(own)

    def _of(self, group: Any) -> Group:
        return group if isinstance(group, Group) else self.group(range(self.size))


@contextmanager
def swapped(owner: Any, names: Mapping[str, Any]) -> Iterator[None]:
    """For a while these attributes in the place of an object's own; of a class, also of one that it inherits."""
    before = {name: vars(owner)[name] for name in names if name in vars(owner)}
    for name, thing in names.items():
        setattr(owner, name, thing)
    try:
        yield
    finally:
        for name in names:
            if name in before:
                setattr(owner, name, before[name])
            else:
                delattr(owner, name)


def _nothing(*_: Any, async_op: bool = False, **__: Any) -> Done | None:
    return Done() if async_op else None


def _all_reduce(stage: Stage, tensor: Any, op: Any = None, group: Any = None, async_op: bool = False) -> Done | None:
    import torch.distributed as dist

    if op is None or op == dist.ReduceOp.SUM:
        tensor.mul_(stage._of(group).size())
    return _nothing(async_op=async_op)


def _all_gather(outputs: Any, tensor: Any, group: Any = None, async_op: bool = False) -> Done | None:
    for output in outputs:
        output.copy_(tensor)
    return _nothing(async_op=async_op)


def _all_gather_into_tensor(output: Any, tensor: Any, group: Any = None, async_op: bool = False) -> Done | None:
    output.view(-1, *tensor.shape).copy_(tensor)
    return _nothing(async_op=async_op)


def _all_gather_object(outputs: list[Any], thing: Any, group: Any = None) -> None:
    outputs[:] = [thing] * len(outputs)
