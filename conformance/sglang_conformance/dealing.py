"""How the checks are dealt out to xdist's workers: those that share a model served, or a server started, go together.

Every worker would else serve what the others serve, too. Each of the other checks goes alone, to whoever is free.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling

from .suite.areas import LAUNCHING, SERVING

_EACH_ITS_OWN = frozenset({"journey_pressure"})  # each of their checks has servers that no other looks at
_TOGETHER = tuple(f"suite/{area}.py" for area in sorted((SERVING | LAUNCHING) - _EACH_ITS_OWN))


class Together(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """xdist's scheduler of scopes, where the scope of most checks is the check itself."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file.endswith(_TOGETHER) else nodeid


def scheduler(config: Any, log: Any) -> Together | None:
    """The scheduler of a run; None, which leaves it to xdist, where the user has chosen a way of dealing out."""
    return Together(config, log) if config.getoption("dist") == "load" else None
