"""Vendors' distributions that exist in memory alone: their metadata and their modules, found as installed ones are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from types import ModuleType
from typing import Any

Contents = Callable[[ModuleType], None]


class Metadata(Distribution):
    """A distribution's name, and its entry points as group, name and value."""

    def __init__(self, name: str, points: Sequence[tuple[str, str, str]]) -> None:
        self._name = name
        self._points = points

    def read_text(self, filename: str) -> str | None:
        """METADATA and entry_points.txt; there is no other file."""
        if filename == "METADATA":
            return f"Metadata-Version: 2.1\nName: {self._name}\nVersion: 1.0\n"
        if filename != "entry_points.txt":
            return None
        groups = dict.fromkeys(group for group, _, _ in self._points)
        lines = []
        for group in groups:
            lines += [f"[{group}]", *(f"{name} = {value}" for of, name, value in self._points if of == group)]
        return "\n".join(lines)

    def locate_file(self, path: Any) -> Path:
        """Nowhere."""
        return Path("/nonexistent", str(path))


class Vendors(MetaPathFinder):
    """Finds these distributions, and these modules by the function that fills each."""

    def __init__(self, distributions: Sequence[Metadata], modules: Mapping[str, Contents]) -> None:
        self._distributions = distributions
        self._modules = modules

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec of one of the modules."""
        contents = self._modules.get(fullname)
        return None if contents is None else ModuleSpec(fullname, _Filling(contents))

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterator[Distribution]:
        """The distributions, or those of the name that is asked for."""
        name = getattr(context, "name", None)
        return iter([each for each in self._distributions if name is None or each._name == name])

    def install(self) -> None:
        """Make these the only distributions of this process, for good."""
        sys.meta_path[:] = [self, *(_Modules(finder) for finder in sys.meta_path)]


class _Filling(Loader):
    def __init__(self, contents: Contents) -> None:
        self._contents = contents

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        self._contents(module)


class _Modules:
    """Another finder, without its distributions."""

    def __init__(self, finder: Any) -> None:
        self._finder = finder

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        return self._finder.find_spec(fullname, path, target)
