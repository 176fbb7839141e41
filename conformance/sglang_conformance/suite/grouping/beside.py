"""Groups beside the host's own: made for one check, of ranks that it says, and destroyed behind it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from ...hosts import groups
from .. import expect
from ..member import Member

Lists = list[list[int]]


def everyone(size: int) -> Lists:
    """One group of all ranks."""
    return [list(range(size))]


def strided(size: int) -> Lists:
    """The even ranks, and the odd ones, as pipelines of two stages run."""
    return [list(range(start, size, 2)) for start in range(min(2, size))]


def pairs(size: int, *, shift: int = 0) -> Lists:
    """Each rank with its neighbour, the first pair starting at ``shift``; who is left over is alone."""
    starts = [*range(min(shift, size)), *range(shift, size, 2)]
    return [[start] if start < shift else list(range(start, min(start + 2, size))) for start in starts]


@contextmanager
def added(member: Member, lists: Mapping[str, Lists]) -> Iterator[dict[str, Any]]:
    """The coordinators of these groups, each of this rank's, by name; destroyed in the end.

    Where something fails they are left: others may wait in them, and the rank is not used again.
    """
    made = {}
    for name, ranks in lists.items():
        call = f"init_model_parallel_group({ranks}, group_name={name!r})"
        made[name] = expect.attempt(call, partial(groups.add, ranks, name, member.backend)).value
    yield made
    for name, coordinator in made.items():
        expect.attempt(f"the group {name}: destroy()", coordinator.destroy)
