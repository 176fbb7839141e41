"""What a plugin's code does with SGLang, as seen by walking it for one release: the material of the findings."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Literal

from .fits import Given
from .values import Class, Value

Use = Literal["import", "attribute", "patch"]


@dataclass(frozen=True)
class Place:
    """A line of the plugin."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Reach:
    """How a line comes to be run.

    ``root`` is what leads there: ``platform`` (imported with the platform's class, or a member that core calls),
    ``hooks`` (while the hooks are registered), ``hook`` (a hook that is called), ``other``. ``sure``: no condition
    stands before it that reading cannot decide. ``swallowed``: a caller catches whatever is raised.
    """

    root: Literal["platform", "hooks", "hook", "other"]
    sure: bool = True
    swallowed: bool = False


@dataclass(frozen=True)
class Missing:
    """A use of something of SGLang's that is not there.

    ``path`` is its dotted path; ``names`` what is imported from it, where it is a module.
    """

    use: Use
    path: str
    place: Place
    reach: Reach
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Registration:
    """A hook, as registered. ``target`` and ``type`` are None where reading cannot tell them."""

    target: str | None
    type: str | None
    hook: Value
    place: Place
    reach: Reach
    node: ast.AST = field(compare=False)


@dataclass(frozen=True)
class Misfit:
    """A call of something of SGLang's, by its dotted path, that it does not take."""

    path: str
    given: Given
    why: str
    place: Place
    reach: Reach


@dataclass(frozen=True)
class Outdated:
    """A use of something of SGLang's that is there, and that SGLang itself says will go."""

    path: str
    replacement: str
    site: str
    place: Place


@dataclass(frozen=True)
class Variable:
    """An environment variable that the plugin reads, or sets."""

    name: str
    place: Place
    is_set: bool = False


@dataclass
class Facts:
    """All that was seen; the lists only grow while the code is walked."""

    missing: list[Missing] = field(default_factory=list)
    registrations: list[Registration] = field(default_factory=list)
    misfits: list[Misfit] = field(default_factory=list)
    outdated: list[Outdated] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)
    shims: set[str] = field(default_factory=set)
    classes: list[Class] = field(default_factory=list)
    platforms: list[Class] = field(default_factory=list)

    def shimmed(self, path: str) -> bool:
        """Whether a dotted path leads into a module that the plugin puts in the place of SGLang's."""
        return any(path == shim or path.startswith(f"{shim}.") for shim in self.shims)
