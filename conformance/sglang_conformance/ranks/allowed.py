"""What an agent runs and imports for its controller: modules of the kit, and those that its own command line names.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_KIT = "sglang_conformance"
_LIBRARIES = ("torch", "numpy", "psutil", "hypothesis")
_MODULE = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
_NAMED = re.compile(rf"({_MODULE}):[A-Za-z_]\w*", re.ASCII)


class Allowed:
    """The packages whose functions may be run: the kit, and further ones."""

    def __init__(self, further: Sequence[str] = ()) -> None:
        self._packages = (_KIT, *further)

    def job(self, name: str) -> str:
        """The name of a function to run, as it is. Raises PermissionError where it is not such a one."""
        found = _NAMED.fullmatch(name)
        if found is None or not _within(found[1], self._packages):
            raise PermissionError(self._refusal(name, "runs"))
        return name

    def module(self, name: str) -> str:
        """The name of a module to import, as it is; libraries that the kit stands on are such too."""
        if re.fullmatch(_MODULE, name, re.ASCII) is None or not _within(name, (*self._packages, *_LIBRARIES)):
            raise PermissionError(self._refusal(name, "imports"))
        return name

    def _refusal(self, name: str, does: str) -> str:
        packages = ", ".join(self._packages)
        return f"this agent {does} what is in {packages}, and not {name!r}: '--allow PACKAGE' adds another"


def _within(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
