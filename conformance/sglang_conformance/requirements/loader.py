"""Read the catalogue: one TOML file an area in the folder ``catalogue/``, checked as a whole.

A file begins with ``area = "MEM"`` and ``title = "Memory"``; each ``[[requirement]]`` table holds the fields of
:class:`.model.Requirement`. Line breaks within a text are mere spaces: a text is one paragraph.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, get_args

from packaging.version import InvalidVersion, Version

from .model import LEVELS, PROFILES, Requirement, Scope

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_Wrong = Callable[[str], "CatalogueError"]

_ID = re.compile(r"[A-Z]{2,5}-\d{3}")
_AREA = re.compile(r"[A-Z]{2,5}")
_FLAGS = ("essential", "provisional")
_LISTS = ("sources", "members", "depends")
_FIELDS = tuple(f.name for f in fields(Requirement))
_MANDATORY = tuple(f.name for f in fields(Requirement) if f.default is MISSING)
_CHOICES: Mapping[str, Sequence[str]] = {"level": LEVELS, "profile": PROFILES, "scope": get_args(Scope)}


class CatalogueError(ValueError):
    """The catalogue contradicts itself or is not readable; its text is one line naming the file and the id."""


@dataclass(frozen=True)
class Catalogue:
    """Every requirement, in the order of the area files' names and then of the ids.

    ``areas`` maps an area's short name to its title, in the same order.
    """

    requirements: tuple[Requirement, ...]
    areas: Mapping[str, str]

    def __iter__(self) -> Iterator[Requirement]:
        return iter(self.requirements)

    def __len__(self) -> int:
        return len(self.requirements)

    def __contains__(self, requirement: object) -> bool:
        """Whether there is a requirement of this id."""
        return requirement in self._by_id

    def get(self, requirement: str) -> Requirement:
        """The requirement of this id; raises KeyError with a sentence where there is none."""
        try:
            return self._by_id[requirement]
        except KeyError:
            said = f"the catalogue has no requirement {requirement}; `sglang-conformance requirements` lists them"
            raise KeyError(said) from None

    def applying(self, release: str, *, in_tree: bool, profiles: Collection[str]) -> tuple[Requirement, ...]:
        """The requirements that hold for a platform of this kind, in this SGLang release and these profiles.

        Raises :class:`packaging.version.InvalidVersion` where ``release`` is not a version.
        """
        version = Version(release)
        other = "out-of-tree" if in_tree else "in-tree"
        return tuple(r for r in self.requirements if r.profile in profiles and r.scope != other and _holds(r, version))

    def dependencies(self, requirement: str) -> tuple[str, ...]:
        """Everything a requirement stands on, directly or not, each after what it stands on itself."""
        found: dict[str, None] = {}

        def visit(name: str) -> None:
            for below in self.get(name).depends:
                if below not in found:
                    visit(below)
                    found[below] = None

        visit(requirement)
        return tuple(found)

    def roots(self, requirement: str) -> tuple[str, ...]:
        """Those of a requirement's dependencies that stand on nothing else."""
        return tuple(name for name in self.dependencies(requirement) if not self.get(name).depends)

    @cached_property
    def _by_id(self) -> dict[str, Requirement]:
        return {r.id: r for r in self.requirements}


def load(folder: Path | None = None) -> Catalogue:
    """Read and check a catalogue; without ``folder``, the kit's own.

    It is read anew at each call: whoever needs it often keeps what this gives. Raises :class:`CatalogueError`.
    """
    folder = folder or Path(__file__).with_name("catalogue")
    paths = sorted(folder.glob("*.toml"))
    if not paths:
        raise CatalogueError(f"{folder}: holds no requirements (*.toml)")
    areas: dict[str, str] = {}
    found: dict[str, tuple[str, Requirement]] = {}
    for path in paths:
        area, title, requirements = _read_area(path)
        if area in areas:
            raise CatalogueError(f"{path.name}: another file already holds the area {area}")
        areas[area] = title
        found.update({r.id: (path.name, r) for r in requirements})
    _check_dependencies(found)
    return Catalogue(tuple(r for _, r in found.values()), areas)


def _read_area(path: Path) -> tuple[str, str, list[Requirement]]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CatalogueError(f"{path.name}: cannot be read as TOML: {error}") from None
    area, title, tables = data.pop("area", ""), data.pop("title", ""), data.pop("requirement", [])
    if not (isinstance(area, str) and _AREA.fullmatch(area) and isinstance(title, str) and title.strip()):
        raise CatalogueError(f'{path.name}: must begin with area = "MEM" and title = "Memory", or the like')
    if data:
        raise CatalogueError(f"{path.name}: unknown field {', '.join(sorted(data))} at the head of the file")
    if not (isinstance(tables, list) and tables and all(isinstance(t, dict) for t in tables)):
        raise CatalogueError(f"{path.name}: holds no [[requirement]]")
    requirements = [_read_requirement(path.name, area, position, t) for position, t in enumerate(tables, 1)]
    seen: set[str] = set()
    for requirement in requirements:
        if requirement.id in seen:
            raise CatalogueError(f"{path.name}: {requirement.id} is there twice")
        seen.add(requirement.id)
    return area, title.strip(), sorted(requirements, key=lambda r: r.id)


def _read_requirement(file: str, area: str, position: int, table: Mapping[str, Any]) -> Requirement:
    name = table.get("id", f"requirement {position}")

    def wrong(text: str) -> CatalogueError:
        return CatalogueError(f"{file}: {name}: {text}")

    for unknown in [key for key in table if key not in _FIELDS]:
        raise wrong(f"unknown field {unknown}")
    for missing in [key for key in _MANDATORY if key not in table]:
        raise wrong(f"field {missing} is missing")
    values = {key: _value(key, value, wrong) for key, value in table.items()}
    if not _ID.fullmatch(values["id"]):
        raise wrong("an id is an area of two to five capitals and three digits, as MEM-002")
    requirement = Requirement(**values)
    if requirement.area != area:
        raise wrong(f"is not of the area {area} of its file")
    for key, choices in _CHOICES.items():
        if getattr(requirement, key) not in choices:
            raise wrong(f"{key} is {getattr(requirement, key)!r}, not one of {', '.join(choices)}")
    _check_releases(requirement, wrong)
    return requirement


def _value(key: str, value: Any, wrong: _Wrong) -> Any:
    if key in _FLAGS:
        if not isinstance(value, bool):
            raise wrong(f"{key} must be true or false")
        return value
    if key in _LISTS:
        if not (isinstance(value, list) and all(isinstance(v, str) and v.strip() for v in value)):
            raise wrong(f"{key} must be a list of texts, none of them empty")
        if key == "sources" and not value:
            raise wrong("names no sources")
        return tuple(value)
    if not isinstance(value, str):
        raise wrong(f"{key} must be a text")
    if key in _MANDATORY and not value.strip():
        raise wrong(f"{key} is empty")
    return " ".join(value.split())


def _check_releases(requirement: Requirement, wrong: _Wrong) -> None:
    for key in ("since", "until"):
        release = getattr(requirement, key)
        try:
            Version(release or "0")
        except InvalidVersion:
            raise wrong(f"{key} is {release!r}, not a release") from None
    until = requirement.until
    if until and Version(requirement.since or "0") >= Version(until):
        raise wrong(f"since {requirement.since} is not before until {until}: no release is left")


def _holds(requirement: Requirement, version: Version) -> bool:
    since, until = requirement.since, requirement.until
    return (not since or Version(since) <= version) and (not until or version < Version(until))


def _check_dependencies(found: Mapping[str, tuple[str, Requirement]]) -> None:
    for file, requirement in found.values():
        for unknown in [name for name in requirement.depends if name not in found]:
            raise CatalogueError(f"{file}: {requirement.id}: depends on {unknown}, which does not exist")
    try:
        TopologicalSorter({name: r.depends for name, (_, r) in found.items()}).prepare()
    except CycleError as error:
        ring = error.args[1][:0:-1]
        first = ring.index(min(ring))
        circle = [*ring[first:], *ring[: first + 1]]
        raise CatalogueError(f"{found[circle[0]][0]}: {circle[0]}: depends on itself: {' -> '.join(circle)}") from None
