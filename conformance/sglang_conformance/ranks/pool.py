"""The rank pool: groups of the wanted sizes, made before they are needed, replaced when a check has broken them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..probes.client import Warm
from .group import Group
from .local import Here
from .member import Starter
from .report import GroupReport
from .setup import Setup

_MOST_CHECKS = 500


class Pool:
    """Groups of ranks, each made ready in the same way. Belongs to one process, which closes it at the end.

    While a check runs on one group of a size, a spare of that size stands ready (or is being made): what a check
    breaks costs the next one nothing but a change of groups. Not ``forward``, it makes a spare of a size only once it
    has lost a group of that size: as long as nothing breaks, spares are a waste.

    ``most`` bounds the ranks that are alive at once: there is no spare where it would go beyond, and groups of other
    sizes end to make room. A group larger than that stands alone.
    """

    def __init__(self, warm: Warm | Starter, setup: Setup, *, most: int = 16, forward: bool = True) -> None:
        """``warm``: what the ranks are forked from, or whatever else starts them and is then the pool's to close."""
        self._starter = Here(warm) if isinstance(warm, Warm) else warm
        self._setup = setup
        self._most = most
        self._forward = forward
        self._lost: set[int] = set()
        self._groups: dict[int, list[Group]] = {}

    def run(
        self,
        check: str,
        arguments: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
        *,
        size: int,
        seconds: float = 30.0,
    ) -> GroupReport:
        """Run a check on every rank of a group of that size.

        Raises GroupError where no group could be made ready, ZygoteError where the warm process is gone.
        """
        group = self._take(size)
        try:
            group.wait_until_ready()
            self._provide_spare(size)
            report = group.run(check, arguments, seconds=seconds)
        except BaseException:
            self._lose(group)
            raise
        if not report.usable or group.worn(_MOST_CHECKS):
            self._lose(group)
        return report

    def keep(self, sizes: Collection[int]) -> None:
        """End the groups of other sizes. Idle ranks are not free: each of gloo's threads wakes 100 times a second."""
        for size in self._groups.keys() - set(sizes):
            for group in list(self._groups[size]):
                self._drop(group)

    def close(self) -> None:
        """End every group."""
        self.keep(())
        self._starter.close()

    def _take(self, size: int) -> Group:
        groups = self._groups.setdefault(size, [])
        if not groups:
            for others in self._groups.values():
                while others and not self._has_room(size):
                    self._drop(others[-1])
            self._make(size)
        return groups[0]

    def _provide_spare(self, size: int) -> None:
        """Begin to make a spare, once the group that it stands behind is ready: it must not slow that one down."""
        wanted = self._forward or size in self._lost
        if wanted and len(self._groups[size]) < 2 and self._has_room(size):
            self._make(size)

    def _has_room(self, size: int) -> bool:
        return sum(s * len(groups) for s, groups in self._groups.items()) + size <= self._most

    def _make(self, size: int) -> None:
        self._groups[size].append(Group(self._starter, size, self._setup))

    def _lose(self, group: Group) -> None:
        self._lost.add(group.size)
        self._drop(group)

    def _drop(self, group: Group) -> None:
        self._groups[group.size].remove(group)
        group.close()
