"""What the radar says of a plugin: a finding, how grave it is, and since which release it holds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from .reading.facts import Place

Kind = Literal[
    "import",
    "attribute",
    "patch",
    "call",
    "class path",
    "hook target",
    "hook kind",
    "hook parameters",
    "kind",
    "signature",
    "factory",
    "unread",
    "hidden",
    "superseded",
    "deprecated",
    "variable",
    "reachable",
]
"""What a finding is about; some requirement of the area API speaks of each."""


class Severity(Enum):
    """How grave a finding is, the gravest first."""

    BREAKS = "breaks"
    MAY_BREAK = "may break"
    SILENT = "dies silently"
    DEPRECATED = "deprecated"
    REACHABLE = "reachable"

    @property
    def rank(self) -> int:
        """0 for the gravest."""
        return list(Severity).index(self)

    @property
    def meaning(self) -> str:
        """The line that explains it."""
        return _MEANINGS[self]


_MEANINGS = {
    Severity.BREAKS: "an error, or another answer than SGLang can use",
    Severity.MAY_BREAK: "an error where a condition holds that reading cannot tell",
    Severity.SILENT: "no error: SGLang logs at most, and goes on without this part of the plugin",
    Severity.DEPRECATED: "still served, or never read: to be tidied up",
    Severity.REACHABLE: "asked by SGLang, and left to a default that may not suit a device",
}


@dataclass(frozen=True)
class Finding:
    """``subject`` is what of SGLang's it is about: a member's name, or a dotted path.

    ``since``: the release that changed it, empty while that is not known. ``before``: it held already in the release
    that the plugin is compared from.
    """

    kind: Kind
    severity: Severity
    subject: str
    what: str
    place: Place
    why: str
    mend: str
    since: str = ""
    before: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """What stays the same from release to release."""
        return self.kind, self.subject, str(self.place)
