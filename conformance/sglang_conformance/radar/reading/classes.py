"""Classes of the plugin among those of SGLang: the order in which members are looked up, and what is found there."""

from __future__ import annotations

from dataclasses import dataclass

from ...contract.index import Resolved
from .host import BASES, Release
from .values import Class, Host, Value, alternatives

Step = Class | str
"""One class of a lineage: the plugin's own, or the dotted path of SGLang's."""


@dataclass(frozen=True)
class Lineage:
    """The classes that a class looks its members up in, itself first.

    ``open``: one of them is of neither the plugin nor SGLang, or cannot be told, so that a member may be there unseen.
    """

    steps: tuple[Step, ...]
    open: bool

    def derives(self, path: str) -> bool:
        """Whether SGLang's class of that path is among them."""
        return path in self.steps

    def sets(self, name: str) -> bool:
        """Whether a class of the plugin sets an attribute of that name on its objects."""
        return any(name in step.instance for step in self.steps if isinstance(step, Class))

    @property
    def is_platform(self) -> bool:
        """Whether it is a platform of SGLang's."""
        return self.derives(BASES[0])


def lineage(of: Class, release: Release) -> Lineage:
    """Those of a class in one release, merged as Python merges them, as far as it can."""
    steps, is_open = _merged(of, release, ())
    return Lineage(tuple(steps), is_open)


def _merged(of: Class, release: Release, trail: tuple[Class, ...]) -> tuple[list[Step], bool]:
    if of in trail:
        return [of], True
    rows: list[list[Step]] = []
    heads: list[Step] = []
    is_open = False
    for base in of.bases:
        row, opened = _of_base(base, release, (*trail, of))
        is_open = is_open or opened
        if row:
            rows.append(row)
            heads.append(row[0])
    return [of, *_merge([*rows, heads])], is_open


def _of_base(base: Value, release: Release, trail: tuple[Class, ...]) -> tuple[list[Step], bool]:
    one = alternatives(base)[0]
    if isinstance(one, Class):
        return _merged(one, release, trail)
    if not isinstance(one, Host):
        return [], getattr(one, "path", "") not in ("builtins.object", "abc.ABC", "typing.Generic", "typing.Protocol")
    found = release.index.resolve(one.path)
    if not isinstance(found, Resolved) or found.symbol.kind != "class":
        return [], True
    steps: list[Step] = []
    is_open = False
    for path in release.index.lineage(found.path):
        symbol = release.index.symbols.get(path)
        known = symbol is not None and symbol.kind == "class"
        steps += [path] if known else []
        is_open = is_open or (path not in _PLAIN and (not known or bool(symbol and symbol.open)))
    return steps, is_open


_PLAIN = frozenset({"object", "abc.ABC", "ABC", "builtins.object", "typing.Generic", "Generic", "Exception"})


def _merge(rows: list[list[Step]]) -> list[Step]:
    """The C3 merge; where the rows contradict each other, which Python refuses, the first row goes on."""
    rows = [row for row in rows if row]
    merged: list[Step] = []
    while rows:
        head = next((row[0] for row in rows if not any(row[0] in other[1:] for other in rows)), rows[0][0])
        merged.append(head)
        rows = [left for row in rows if (left := [step for step in row if step != head])]
    return merged


@dataclass(frozen=True)
class Found:
    """A member: the class of the plugin that has it, and what it is there; or the path of SGLang's own."""

    owner: Step
    value: Value


def lookup(of: Lineage, name: str, release: Release, *, after: Class | None = None) -> Found | None:
    """The member of that name that objects have; that of the classes behind ``after`` where one is given."""
    steps = of.steps[of.steps.index(after) + 1 :] if after is not None and after in of.steps else of.steps
    for step in steps:
        if isinstance(step, Class):
            if name in step.names:
                return Found(step, step.names[name])
        elif (symbol := release.index.symbols.get(f"{step}.{name}")) is not None:
            return Found(step, Host(f"{step}.{name}", symbol))
    return None


def own(of: Lineage, name: str) -> Found | None:
    """The plugin's definition of a member that stands first among its own classes, also where SGLang's hides it."""
    return next((Found(s, s.names[name]) for s in of.steps if isinstance(s, Class) and name in s.names), None)
