"""The module ``sglang.version``: the release, as SGLang tells it (0.5.23, version.py); the installer puts it here."""

from __future__ import annotations

__version__: str = globals()["__version__"]
__version_tuple__ = tuple(int(part) if part.isdigit() else part for part in __version__.split("."))
