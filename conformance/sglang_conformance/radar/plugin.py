"""A plugin as the radar reads it: the text of its files and its entry points, and what of it could not be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PLATFORMS, PLUGINS = "sglang.srt.platforms", "sglang.srt.plugins"
GROUPS = (PLATFORMS, PLUGINS)


class PluginError(Exception):
    """The plugin cannot be read at all; the message says why, and what to name instead."""


@dataclass(frozen=True)
class EntryPoint:
    """One entry point: ``value`` is ``module:function``; ``where`` the file that declares it."""

    group: str
    name: str
    value: str
    where: str

    @property
    def module(self) -> str:
        """The dotted module that SGLang imports for it."""
        return self.value.partition(":")[0].strip()

    @property
    def attribute(self) -> str:
        """The function in it; empty where none is named."""
        return self.value.partition(":")[2].partition("[")[0].strip()


@dataclass(frozen=True)
class SourceFile:
    """One module: ``name`` is its path as people know it, ``module`` its dotted name."""

    name: str
    module: str
    text: bytes
    package: bool = False


@dataclass(frozen=True)
class Plugin:
    """``unread``: one line for each part that could not be read, and so is not judged.

    ``path`` is a folder to put on the import path so that the plugin can be imported; None where it is installed.
    """

    name: str
    version: str
    entry_points: tuple[EntryPoint, ...]
    files: tuple[SourceFile, ...]
    unread: tuple[str, ...] = ()
    path: Path | None = None

    def points(self, group: str) -> tuple[EntryPoint, ...]:
        """Its entry points in that group."""
        return tuple(point for point in self.entry_points if point.group == group)


def module_of(name: str) -> tuple[str, bool]:
    """The dotted module of a file's path below its import root, and whether it is a package's ``__init__``."""
    parts = name.removesuffix(".py").split("/")
    package = parts[-1] == "__init__"
    return ".".join(parts[:-1] if package else parts), package
