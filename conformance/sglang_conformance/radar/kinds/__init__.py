"""The kinds of findings, a module each: what of a plugin, as it was seen in one release, does not fit that release."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from ..finding import Finding
from ..reading.seen import Seen
from . import factories, hooks, members, missing, overrides, reachable, variables

FINDERS: Final[tuple[Callable[[Seen], Iterator[Finding]], ...]] = (
    overrides.find,
    members.find,
    missing.find,
    hooks.find,
    factories.find,
    variables.find,
    reachable.find,
)

__all__ = ["FINDERS"]
