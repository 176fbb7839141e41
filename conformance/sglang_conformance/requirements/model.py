"""One rule a platform must keep: the unit of certification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["MUST", "SHOULD", "MAY"]
Scope = Literal["any", "out-of-tree", "in-tree"]

LEVELS: tuple[Level, ...] = ("MUST", "SHOULD", "MAY")
PROFILES: tuple[str, ...] = ("core", "distributed", "pynccl", "custom-allreduce", "graphs")
DECLARED: tuple[str, ...] = ("pynccl", "custom-allreduce", "graphs")
"""The profiles that a platform may do without; the facts that are learnt of it say of each whether it declares it."""


@dataclass(frozen=True)
class Requirement:
    """One rule, with the reason it exists.

    ``since`` and ``until`` bound the SGLang releases it holds for: from ``since``, and before ``until`` (empty: no
    bound). ``scope`` says which platforms it speaks of. ``members`` names the members of the contract it covers.
    ``depends`` names the requirements it stands on: while one of those fails, this one is blocked. ``essential``:
    while it fails nothing else of the platform can be judged. ``provisional``: new in this kit release, recorded but
    not deciding. ``sources`` are links, or ``sglang RELEASE PATH`` facts.
    """

    id: str
    title: str
    text: str
    level: Level
    profile: str
    reason: str
    sources: tuple[str, ...]
    since: str = "0.5.11"
    until: str = ""
    scope: Scope = "any"
    members: tuple[str, ...] = ()
    depends: tuple[str, ...] = ()
    essential: bool = False
    provisional: bool = False

    @property
    def area(self) -> str:
        """The area of the id: ``MEM`` of ``MEM-002``."""
        return self.id.partition("-")[0]

    @property
    def required(self) -> bool:
        """Whether it decides a verdict."""
        return self.level == "MUST" and not self.provisional
