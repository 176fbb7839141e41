"""The platform under test, as its metadata tells: found in the controller, without importing a line of its code."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .contract import tables
from .contract.model import Contract
from .probes.world import World, distribution_name


class UnknownPlatform(LookupError):
    """No built-in platform and no installed entry point has that name."""


@dataclass(frozen=True)
class EntryPoint:
    """One entry point of one installed distribution."""

    name: str
    group: str
    value: str
    distribution: str
    version: str


@dataclass(frozen=True)
class Subject:
    """The platform under test.

    ``entry_points`` are all of its name, in any group that speaks of SGLang; ``siblings`` the other entry points in
    such groups of the same distributions; ``requires`` the dependencies that its distribution declares; ``providers``
    the distributions that provide any platform, this one's among them; ``groups`` those of the contract. ``home`` is
    the folder that its distribution is installed in; empty for a built-in platform.
    """

    name: str
    in_tree: bool
    entry_points: tuple[EntryPoint, ...] = ()
    siblings: tuple[EntryPoint, ...] = ()
    requires: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    home: str = ""

    @property
    def registered(self) -> tuple[EntryPoint, ...]:
        """Its entry points in the group that SGLang reads."""
        return tuple(e for e in self.entry_points if e.group == self.groups["platforms"])

    @property
    def entry_point(self) -> EntryPoint | None:
        """The one that SGLang would use (of two with one name, the last found wins: 0.5.23, srt/platforms)."""
        return self.registered[-1] if self.registered else next(iter(self.entry_points), None)

    @property
    def hook_points(self) -> tuple[EntryPoint, ...]:
        """The hook plugins that come with it."""
        return tuple(e for e in self.siblings if e.group == self.groups["plugins"])

    @property
    def distribution(self) -> str:
        """The distribution that provides it; empty for a built-in platform."""
        return self.entry_point.distribution if self.entry_point else ""

    @property
    def packages(self) -> frozenset[str]:
        """The packages that its entry points, and those that come with them, are in."""
        modules = (point.value.partition(":")[0].strip() for point in (*self.entry_points, *self.siblings))
        return frozenset(module.partition(".")[0] for module in modules)

    def world(self) -> World:
        """The world in which SGLang resolves to this platform."""
        selection: dict[str, str | None] = {
            "SGLANG_PLATFORM": None if self.in_tree else self.name,
            "SGLANG_PLUGINS": None,
            "SGLANG_USE_CPU_ENGINE": "1" if self.in_tree and self.name == "cpu" else None,
        }
        return World(selection, hidden=self.providers if self.in_tree else ())

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a probe."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Subject:
        """Read back what :meth:`to_json` wrote."""
        points = {key: tuple(EntryPoint(**e) for e in data[key]) for key in ("entry_points", "siblings")}
        texts = {key: tuple(data[key]) for key in ("requires", "providers")}
        return cls(**{**data, **points, **texts})


def find(name: str, contract: Contract) -> Subject:
    """The platform of that name; raises UnknownPlatform, listing what there is, where there is none."""
    points = tuple(_sglang_points())
    group = contract.groups["platforms"]
    named = tuple(e for e in points if e.name == name and e.group != contract.groups["plugins"])
    providers = tuple(sorted({e.distribution for e in points if e.group == group}))
    if named:
        homes = {e.distribution for e in named}
        siblings = tuple(e for e in points if e.distribution in homes and e not in named)
        distribution = importlib.metadata.distribution(named[-1].distribution)
        requires, home = tuple(distribution.requires or ()), str(distribution.locate_file(""))
        return Subject(name, False, named, siblings, requires, providers, contract.groups, home)
    if name in contract.detection:
        return Subject(name, True, providers=providers, groups=contract.groups)
    installed = ", ".join(sorted({e.name for e in points if e.group == group})) or "none"
    built_in = ", ".join(contract.detection) or "none"
    raise UnknownPlatform(
        f"--platform={name}: no such platform; installed plugins: {installed}; "
        f"built into SGLang {contract.release}: {built_in}{_elsewhere(name)}. "
        f"A plugin registers one under the entry-point group {group!r}"
    )


def _elsewhere(name: str) -> str:
    """In which releases SGLang brings a platform of that name, in words; empty where in none that is known."""
    having = [release for release in tables.releases() if name in tables.load(release).detection]
    return f" ({name} in {having[0]} to {having[-1]})" if having else ""


def reference_world(subject: Subject, contract: Contract) -> World | None:
    """A world in which SGLang resolves to its own CPU platform, to tell a host's fault; None before it had one."""
    if "cpu" not in contract.detection:
        return None
    return Subject("cpu", True, providers=subject.providers, groups=contract.groups).world()


def digest(distribution: str) -> str:
    """Of the files that a distribution installed; empty where its record lists none that are there."""
    try:
        files = importlib.metadata.distribution(distribution).files or ()
    except importlib.metadata.PackageNotFoundError:
        return ""
    content = hashlib.sha256()
    found = False
    for file in sorted(files, key=str):
        path = file.locate()
        if file.suffix != ".pyc" and path.is_file():  # type: ignore[attr-defined]
            found = True
            content.update(f"{file}\0".encode() + path.read_bytes())  # type: ignore[attr-defined]
    return f"sha256:{content.hexdigest()}" if found else ""


def _sglang_points() -> Iterable[EntryPoint]:
    """Every installed entry point in a group whose name speaks of SGLang."""
    seen = set()
    for distribution in importlib.metadata.distributions():
        known = distribution_name(distribution)
        if known in seen:  # shadowed by one earlier on the path
            continue
        seen.add(known)
        for point in distribution.entry_points:
            if "sglang" in point.group.lower():
                name = distribution.metadata["Name"] or ""
                yield EntryPoint(point.name, point.group, point.value, name, distribution.version)
