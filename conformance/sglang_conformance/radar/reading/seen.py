"""What a plugin is in one release, as walking it has shown: what the findings are made of."""

from __future__ import annotations

from dataclasses import dataclass

from ..plugin import Plugin
from .asked import is_asked
from .classes import Lineage
from .code import Code
from .facts import Facts, Place
from .history import History
from .host import Release
from .values import Class, Func, Value


@dataclass(frozen=True)
class LiveHook:
    """A hook as it was registered by running the plugin: its target, its type, and where the hook is defined."""

    target: str
    type: str
    module: str
    name: str


@dataclass(frozen=True)
class Live:
    """What running the plugin told: the classes that it names, its hooks, and a line for each part that failed."""

    classes: tuple[str, ...] = ()
    hooks: tuple[LiveHook, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Returned:
    """What a member that core calls of a platform gives.

    ``function`` is the override, ``kind`` the kind that it is asked for, if any.
    """

    of: Class
    member: str
    kind: str
    function: Func
    value: Value


@dataclass(frozen=True)
class Seen:
    """What a plugin is in one release.

    ``returned`` is what the members give that core asks its platforms for.
    ``wrong_paths``: classes that ``activate`` names and that are not there. ``not_judged``: a line for each part that
    reading could not tell. ``brief``: how to mend what is found will not be read.
    """

    plugin: Plugin
    code: Code
    history: History
    release: Release
    facts: Facts
    lineages: tuple[Lineage, ...]
    returned: tuple[Returned, ...]
    wrong_paths: tuple[tuple[str, Place], ...]
    not_judged: tuple[str, ...]
    brief: bool = False

    def asks(self, of: Lineage, member: str) -> bool:
        """Whether core comes to ask one of the platforms for a member, as far as the platform itself decides it."""
        answers = {each.member: each.value for each in self.returned if each.of is of.steps[0]}
        return is_asked(member, of, self.release, answers)

    def place(self, of: Class | Func) -> Place:
        """Where a class or function stands."""
        return Place(self.code.modules[of.module].file.name, of.node.lineno)
