"""Where the walk through a plugin's code stands: how it came there, and what stands around it to catch errors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from .classes import Lineage, lineage
from .code import Code
from .facts import Facts, Misfit, Missing, Outdated, Place, Reach, Registration, Use, Variable
from .fits import Given
from .history import History
from .values import UNKNOWN, Class, Const, Host, Scope, Value, alternatives

_ALL = frozenset({"Exception", "BaseException", ""})
_CATCHERS = {
    "ModuleNotFoundError": frozenset({"ModuleNotFoundError", "ImportError"}) | _ALL,
    "ImportError": frozenset({"ImportError"}) | _ALL,
    "AttributeError": frozenset({"AttributeError"}) | _ALL,
    "TypeError": frozenset({"TypeError"}) | _ALL,
}
_MOST_STEPS = 400_000
_HOOK_TYPES = ("BEFORE", "AFTER", "AROUND", "REPLACE")


class Raised(Exception):
    """What the plugin's code would raise at this line, on its way to the handler around it."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class TooMuch(Exception):
    """The plugin is larger than can be walked."""


@dataclass
class Guard:
    """A ``try`` that is being walked: what it catches, and the depth of calls at which it stands.

    ``conditions`` is how many undecided conditions stand before it. ``doubtful``: something in it may raise, which
    reading cannot tell.
    """

    catches: frozenset[str]
    depth: int = 0
    conditions: int = 0
    doubtful: bool = False

    def takes(self, kind: str) -> bool:
        """Whether it catches an error of that kind."""
        return not self.catches.isdisjoint(_CATCHERS.get(kind, _ALL | {kind}))


class Frames:
    """The state of one walk: one plugin, one release."""

    def __init__(self, code: Code, history: History, release: str) -> None:
        self.code = code
        self.history = history
        self.release = history.release(release)
        self.facts = Facts()
        self.mentioned: set[str] = set()
        self.name = ""
        self.scope = Scope({})
        self.of: Class | None = None
        self.reach = Reach("other")
        self.guards: list[Guard] = []
        self.depth = 0
        self.running: list[int] = []
        self.too_deep: dict[Place, None] = {}
        self.conditions = 0
        self._steps = 0
        self._lineages: dict[Class, Lineage] = {}

    def step(self, node: ast.AST) -> None:
        """Count one expression or statement; raises TooMuch where there were too many."""
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise TooMuch

    def place(self, node: ast.AST) -> Place:
        """Where a node of the current module stands."""
        return Place(self.code.modules[self.name].file.name, getattr(node, "lineno", 1))

    def lineage(self, of: Class) -> Lineage:
        """A class's lineage in this release."""
        if of not in self._lineages:
            self._lineages[of] = lineage(of, self.release)
        return self._lineages[of]

    def is_member(self, name: str) -> bool:
        """Whether the base classes have that name in any release."""
        return name in self.history.members

    def elsewhere(self, path: str) -> bool:
        """Whether any release has something at a dotted path."""
        return self.history.elsewhere(path)

    # ---- how a line is reached

    @contextmanager
    def unsure(self) -> Iterator[None]:
        """Inside it, what is found depends on a condition that cannot be told."""
        before = self.reach
        self.reach = replace(before, sure=False)
        self.conditions += 1
        try:
            yield
        finally:
            self.conditions -= 1
            self.reach = before

    def doubt(self) -> None:
        """Something was done that may raise anything."""
        for guard in self.guards:
            guard.doubtful = True

    def _around(self, kind: str) -> Reach | None:
        """How a failure at this line is met; None where a handler in the same function stands ready for it."""
        guard = next((each for each in reversed(self.guards) if each.takes(kind)), None)
        if guard is None:
            return self.reach
        guard.doubtful = True
        meant = guard.depth == self.depth or _ALL.isdisjoint(guard.catches)
        return None if meant else replace(self.reach, swallowed=True)

    def caught(self, kind: str) -> None:
        """Leave the block that a guard stands around, where nothing undecided stands between the two."""
        guard = next((each for each in reversed(self.guards) if each.takes(kind)), None)
        if guard is not None and guard.conditions == self.conditions:
            raise Raised(kind)

    # ---- what is noted

    def missing(self, use: Use, path: str, node: ast.AST, *, kind: str = "AttributeError") -> None:
        """Note a use of something that is not there; ends the block that guards it."""
        if self.facts.shimmed(path):
            return
        reach = self._around(kind)
        if reach is not None:
            names = tuple(alias.name for alias in node.names) if isinstance(node, ast.ImportFrom) else ()
            from_module = names if kind == "ModuleNotFoundError" else ()
            self.facts.missing.append(Missing(use, path, self.place(node), reach, from_module))
        self.caught(kind)

    def outdated(self, path: str, node: ast.AST) -> None:
        """Note a use of something that this release warns of."""
        warned = self.release.deprecated("target").get(path)
        if warned is not None:
            site = f"{warned.path}:{warned.line}"
            self.facts.outdated.append(Outdated(path, warned.replacement, site, self.place(node)))

    def misfit(self, path: str, given: Given, why: str, node: ast.AST) -> None:
        """Note a call that is a TypeError."""
        reach = self._around("TypeError")
        if reach is not None:
            self.facts.misfits.append(Misfit(path, given, why, self.place(node), reach))
        self.caught("TypeError")

    def patched(self, holder: Value, name: str, node: ast.AST) -> None:
        """Note an attribute that the plugin sets on something of SGLang's, where it is not there."""
        if isinstance(holder, Host) and holder.symbol is not None and holder.symbol.kind in ("module", "class"):
            path = f"{holder.path}.{name}"
            if self.release.find(path) is None:
                self.facts.missing.append(Missing("patch", path, self.place(node), self.reach))

    def variable(self, name: Value, node: ast.AST, *, is_set: bool = False) -> None:
        """Note an environment variable that is read, or set."""
        if isinstance(name, Const) and isinstance(name.value, str):
            self.facts.variables.append(Variable(name.value, self.place(node), is_set))

    def registered(self, node: ast.AST, places: list[Value], names: dict[str, Value]) -> None:
        """Note a hook; of several that a value may be, each."""
        parts = [*places[:3], *[UNKNOWN] * (3 - len(places))]
        target = names.get("target", parts[0])
        hook = names.get("hook", parts[1])
        kind = names.get("hook_type", names.get("type", parts[2] if len(places) > 2 else Const("AFTER")))
        for each in alternatives(target):
            text = each.value if isinstance(each, Const) and isinstance(each.value, str) else None
            found = Registration(text, _hook_type(kind), hook, self.place(node), self.reach, node)
            self.facts.registrations.append(found)
            if text is not None:
                self.outdated(text, node)


def _hook_type(value: Value) -> str | None:
    if isinstance(value, Const):
        return str(value.value).upper() if str(value.value).upper() in _HOOK_TYPES else None
    path = value.path if isinstance(value, Host) else ""
    name = path.rpartition(".")[2]
    return name if name in _HOOK_TYPES else None
