"""The contract of one SGLang release, as frozen dataclasses that read from and write to plain JSON.

A table is made by :mod:`.extract` from a released package and read back by :mod:`.tables`. Nothing here
knows where a table came from or what is done with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

DefaultKind = Literal["raises", "returns", "noop", "code"]
MemberKind = Literal["method", "classmethod", "contextmanager", "property", "attribute"]
Owner = Literal["DeviceMixin", "SRTPlatform"]


@dataclass(frozen=True)
class Default:
    """What a base class does when the platform does not override a member.

    ``raises``: raises the exception named by ``value``. ``returns``: returns the JSON constant ``value`` (for an
    attribute: holds it). ``noop``: does nothing, returns None. ``code``: computes; ``value`` is None.
    """

    kind: DefaultKind
    value: Any = None


@dataclass(frozen=True)
class Shape:
    """What a call gives: how many positional arguments, which keywords, and whether ``*`` and ``**`` add more.

    Written as ``(_, _, device=, *, **)``, a ``_`` for each positional argument.
    """

    positional: int = 0
    keywords: tuple[str, ...] = ()
    stars: bool = False
    double_stars: bool = False

    def __str__(self) -> str:
        parts = [*["_"] * self.positional, *(f"{name}=" for name in self.keywords)]
        return f"({', '.join([*parts, *['*'] * self.stars, *['**'] * self.double_stars])})"

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Read back what ``str`` writes; raises ValueError for anything else."""
        parts = text[1:-1].split(", ") if text != "()" else []
        keywords = tuple(part[:-1] for part in parts if part.endswith("="))
        made = cls(parts.count("_"), keywords, "*" in parts, "**" in parts)
        if str(made) != text:
            raise ValueError(f"{text!r} is no shape of a call")
        return made


@dataclass(frozen=True)
class CallSite:
    """One place in SGLang's core that uses a member; ``path`` is relative to the package: ``srt/utils/common.py``.

    ``call`` is the shape of the call there, or None where the member is read, asked for by name or passed on.
    """

    path: str
    line: int
    call: Shape | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"

    def to_json(self) -> str:
        """Such as ``srt/utils/common.py:12 (_, device=)``, or ``srt/utils/common.py:12`` where it is no call."""
        return f"{self} {self.call}" if self.call is not None else str(self)

    @classmethod
    def from_json(cls, text: str) -> CallSite:
        """Read back what :meth:`to_json` gives; raises ValueError for anything else."""
        place, _, call = text.partition(" ")
        path, _, line = place.rpartition(":")
        return cls(path, int(line), Shape.parse(call) if call else None)


@dataclass(frozen=True)
class Member:
    """One method or attribute of a platform's base classes.

    ``signature`` is Python source from the opening parenthesis, as ``(self, device_id: int = 0) -> int``; empty for an
    attribute. ``mark`` is the ``Active`` or ``Planned`` of SGLang's docstring (often stale: trust ``calls``).
    """

    name: str
    owner: Owner
    kind: MemberKind
    signature: str
    default: Default
    mark: str | None
    calls: tuple[CallSite, ...]


DeprecationKind = Literal["member", "variable", "target"]


@dataclass(frozen=True)
class Deprecation:
    """What a release still takes, and warns that it is superseded.

    ``kind``: a ``member`` of a platform, an environment ``variable``, or a ``target`` of hooks and imports, by its
    dotted path: a module, a class or a function. ``replacement`` takes its place; empty where the source does not tell.
    ``path`` and ``line`` are where SGLang says so.
    """

    kind: DeprecationKind
    name: str
    replacement: str
    path: str
    line: int


@dataclass(frozen=True)
class EnvironmentVariable:
    """A variable the contract reads: ``kind`` is str, int or bool; ``default`` what holds when it is unset."""

    name: str
    kind: Literal["str", "int", "bool"]
    default: Any


@dataclass(frozen=True)
class BackendSwitch:
    """An exception to the backend table: ``device`` takes ``backend`` while ``environment`` is above ``above``."""

    device: str
    environment: str
    above: int
    backend: str


@dataclass(frozen=True)
class BackendTable:
    """How SGLang names the torch.distributed backend of a device.

    ``asks_platform``: whether the active platform's own answer comes first for its own device (0.5.14 on).
    """

    table: Mapping[str, str]
    switches: tuple[BackendSwitch, ...]
    fallback: str
    asks_platform: bool


@dataclass(frozen=True)
class Contract:
    """Everything one SGLang release demands of a platform plugin.

    ``groups`` maps ``platforms`` and ``plugins`` to their entry-point groups; ``detection`` lists the built-in
    platforms in the order in which they are tried when no plugin activates (empty: the bare base class at once).
    """

    release: str
    groups: Mapping[str, str]
    environment: tuple[EnvironmentVariable, ...]
    platform_enum: tuple[str, ...]
    cpu_arch_enum: tuple[str, ...]
    capabilities: Mapping[str, bool]
    kv_pool_kinds: tuple[str, ...]
    legacy_kv_pool_hooks: Mapping[str, str]
    backends: BackendTable
    detection: tuple[str, ...]
    deprecations: tuple[Deprecation, ...]
    members: tuple[Member, ...]

    def member(self, name: str) -> Member | None:
        """The member of that name, or None where this release has none."""
        return next((m for m in self.members if m.name == name), None)

    def has(self, name: str) -> bool:
        """Whether this release has a member of that name."""
        return self.member(name) is not None

    def called(self) -> tuple[Member, ...]:
        """The members that SGLang's core really uses in this release."""
        return tuple(m for m in self.members if m.calls)

    def to_json(self) -> dict[str, Any]:
        """The table as plain JSON data; :meth:`from_json` reads it back unchanged."""
        data = asdict(self)
        for deprecation in data["deprecations"]:
            deprecation["site"] = f"{deprecation.pop('path')}:{deprecation.pop('line')}"
        for member, made in zip(data["members"], self.members, strict=True):
            member["calls"] = [site.to_json() for site in made.calls]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Contract:
        """Read a table; raises KeyError, TypeError or ValueError where the data is not one."""
        backends = data["backends"]
        return cls(
            release=data["release"],
            groups=dict(data["groups"]),
            environment=tuple(EnvironmentVariable(**e) for e in data["environment"]),
            platform_enum=tuple(data["platform_enum"]),
            cpu_arch_enum=tuple(data["cpu_arch_enum"]),
            capabilities=dict(data["capabilities"]),
            kv_pool_kinds=tuple(data["kv_pool_kinds"]),
            legacy_kv_pool_hooks=dict(data["legacy_kv_pool_hooks"]),
            backends=BackendTable(
                table=dict(backends["table"]),
                switches=tuple(BackendSwitch(**s) for s in backends["switches"]),
                fallback=backends["fallback"],
                asks_platform=backends["asks_platform"],
            ),
            detection=tuple(data["detection"]),
            deprecations=tuple(map(_deprecation, data["deprecations"])),
            members=tuple(_member(m) for m in data["members"]),
        )


def _member(data: Mapping[str, Any]) -> Member:
    return Member(
        name=data["name"],
        owner=data["owner"],
        kind=data["kind"],
        signature=data["signature"],
        default=Default(**data["default"]),
        mark=data["mark"],
        calls=tuple(map(CallSite.from_json, data["calls"])),
    )


def _deprecation(data: Mapping[str, Any]) -> Deprecation:
    path, _, line = data["site"].rpartition(":")
    return Deprecation(data["kind"], data["name"], data["replacement"], path, int(line))
