"""The world a probe sees: environment variables, import path, installed distributions."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class World:
    """What to change before a probe runs its job.

    ``environment``: variables to set, or to unset where the value is None. ``paths``: folders put in front of the
    import path; a folder holding a ``*.dist-info`` is thereby installed. ``hidden``: distributions whose metadata (and
    so whose entry points) the probe must not see.
    """

    environment: Mapping[str, str | None] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a request."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> World:
        """Read back what :meth:`to_json` wrote."""
        return cls(dict(data["environment"]), tuple(data["paths"]), tuple(data["hidden"]))

    def enter(self) -> None:
        """Make this the world of the current process, for good."""
        for name, value in self.environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        sys.path[:0] = self.paths
        if self.hidden:
            hide_distributions(self.hidden)


def canonical(name: str) -> str:
    """A distribution's name in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution_name(distribution: importlib.metadata.Distribution) -> str:
    """The canonical name of an installed distribution."""
    # By its folder's name it is a hundred times cheaper to tell than by its metadata.
    name = getattr(distribution, "_normalized_name", None) or distribution.metadata["Name"] or ""
    return canonical(name)


def hide_distributions(names: Iterable[str]) -> None:
    """Make ``importlib.metadata`` of this process overlook these distributions; their modules stay importable."""
    hidden = frozenset(map(canonical, names))
    sys.meta_path[:] = [
        _Hiding(finder, hidden) if hasattr(finder, "find_distributions") else finder for finder in sys.meta_path
    ]


def show_distributions() -> None:
    """Undo every :func:`hide_distributions` of this process."""
    sys.meta_path[:] = [finder.shown() if isinstance(finder, _Hiding) else finder for finder in sys.meta_path]


class _Hiding:
    """A meta-path finder that finds what another finds, less some distributions."""

    def __init__(self, finder: Any, hidden: frozenset[str]) -> None:
        self._finder = finder
        self._hidden = hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)

    def shown(self) -> Any:
        """The finder underneath, which hides nothing."""
        return self._finder.shown() if isinstance(self._finder, _Hiding) else self._finder

    def find_spec(self, *args: Any, **kwargs: Any) -> Any:
        return self._finder.find_spec(*args, **kwargs)

    def find_distributions(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        for distribution in self._finder.find_distributions(*args, **kwargs):
            if distribution_name(distribution) not in self._hidden:
                yield distribution
