"""Several releases side by side: their contracts and indexes, the indexes read when they are first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from ...contract.index import Index
from ...contract.model import Contract
from .host import Release
from .outside import ending

_METHODS = frozenset({"method", "classmethod", "staticmethod", "property"})


class History:
    """The releases that a plugin is held against, oldest first."""

    def __init__(self, contracts: Mapping[str, Contract], load: Callable[..., Sequence[Index]]) -> None:
        """``load`` gives the indexes of the releases that it is called with, in their order."""
        self.contracts = dict(contracts)
        self._load = load
        self._made: dict[str, Release] = {}
        self._named: dict[str, frozenset[str]] = {}
        self._there: dict[tuple[str, str], bool] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The releases, oldest first."""
        return tuple(self.contracts)

    def release(self, name: str) -> Release:
        """One of them."""
        if not self._made:
            indexes = self._load(*self.names)
            self._made = {
                n: Release(self.contracts[n], index, self.named) for n, index in zip(self.names, indexes, strict=True)
            }
        return self._made[name]

    def named(self, name: str) -> frozenset[str]:
        """Every path that ends in a name, in the oldest or the newest release: to look through all takes too long."""
        if name not in self._named:
            ends = [self.release(each).index for each in {self.names[0], self.names[-1]}]
            self._named[name] = frozenset(path for index in ends for path in ending(index, name))
        return self._named[name]

    @cached_property
    def members(self) -> frozenset[str]:
        """Every name that a platform's base classes have in any of the releases."""
        return frozenset(member.name for contract in self.contracts.values() for member in contract.members)

    def has(self, name: str, path: str) -> bool:
        """Whether a release certainly has something at a dotted path."""
        key = (name, path)
        if key not in self._there:
            self._there[key] = self.release(name).has(path)
        return self._there[key]

    def elsewhere(self, path: str) -> bool:
        """Whether any release has it."""
        return any(self.has(name, path) for name in self.names)

    def is_method(self, path: str) -> bool:
        """Whether any release has a method or property there: what a class sets on its objects, no index tells."""
        for name in self.names:
            found = self.release(name).find(path)
            if found is not None and found.symbol is not None and found.symbol.kind in _METHODS:
                return True
        return False

    def last_with(self, path: str, before: str) -> str:
        """The newest release before one that has it; empty where none has."""
        earlier = self.names[: self.names.index(before)]
        return next((name for name in reversed(earlier) if self.has(name, path)), "")

    def first_with(self, path: str) -> str:
        """The oldest release that has it; empty where none has."""
        return next((name for name in self.names if self.has(name, path)), "")
