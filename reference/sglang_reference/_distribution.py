"""The metadata of a distribution ``sglang``, for plugins that ask ``importlib.metadata`` for SGLang's version."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from types import ModuleType

_METADATA = """\
Metadata-Version: 2.1
Name: sglang
Version: {release}
Summary: The reference of SGLang's platform contract, in the place of SGLang itself
"""


class Distributions:
    """Finds one distribution, and no module: ``sglang``, in the release that the reference follows.

    It stands for the ``sglang`` that imports in this process, and so before one that is installed.
    """

    def __init__(self, release: str) -> None:
        self._release = release

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """No module at all."""
        return None

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterator[Distribution]:
        """The one distribution, where its name or any is asked for."""
        name = getattr(context, "name", None)
        if name is None or re.sub(r"[-_.]+", "-", name).lower() == "sglang":
            yield _Reference(self._release)


class _Reference(Distribution):
    """The metadata, without a file on disk and without entry points."""

    def __init__(self, release: str) -> None:
        self._metadata = _METADATA.format(release=release)

    def read_text(self, filename: str) -> str | None:
        """The text of METADATA; there is no other file."""
        return self._metadata if filename == "METADATA" else None

    def locate_file(self, path: object) -> Path:
        """Where a file of it would be."""
        return Path(__file__).parent / str(path)
