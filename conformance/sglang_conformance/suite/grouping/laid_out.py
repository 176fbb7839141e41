"""Groups that ranks have really made: who is in them, what goes through them, and what was asked of torch for them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..member import Member
from . import joining, numbers
from .sizes import Sizes, told
from .standing_in import swapped

Exchanges = Mapping[tuple[str, ...], numbers.Exchange]


def places(member: Member, sizes: Sizes) -> dict[str, tuple[list[int], int, int]]:
    """Of every kind the ranks of this rank's group, its place in it, and its size, as the coordinator tells them."""
    made = joining.made(member, told(sizes), **sizes)
    return {kind: (list(each.ranks), each.rank_in_group, each.world_size) for kind, each in made.items()}


def exchanged(member: Member, sizes: Sizes) -> Exchanges:
    """What was summed and gathered in the group of every kind; kinds that share a group go by one name."""
    by_group: dict[int, list[str]] = {}
    made = joining.made(member, told(sizes), **sizes)
    for kind, coordinator in made.items():
        by_group.setdefault(id(coordinator), []).append(kind)
    seen = {}
    for kinds in map(tuple, by_group.values()):
        each = made[kinds[0]]
        call = f"the group for {' and '.join(kinds)}, with {told(sizes)}"
        seen[kinds] = numbers.exchange(each.device_group, member.number, each.world_size, member.device, call)
    return seen


def asked(member: Member, sizes: Sizes) -> list[list[list[int]]]:
    """Of each rank of the world the groups that it asked torch for, in their order; the ranks of each ascend."""
    with _noted() as mine:
        joining.made(member, told(sizes), **sizes)
    return member.side.to_all(mine)


@contextmanager
def _noted() -> Iterator[list[list[int]]]:
    """The ranks of each group that is asked for, meanwhile."""
    import torch.distributed as dist

    found: list[list[int]] = []
    make = dist.new_group

    def new_group(ranks: Any = None, *args: Any, **options: Any) -> Any:
        found.append([] if ranks is None else sorted(ranks))  # torch takes them by their numbers
        return make(ranks, *args, **options)

    with swapped(dist, {"new_group": new_group}):
        yield found
