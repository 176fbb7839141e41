"""What changed for a platform plugin between two releases: the difference of their contracts, as data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .model import BackendTable, CallSite, Contract, Default, Deprecation, Member
from .renames import renames

SCHEMA = "sglang-conformance/contract-diff/1"

Area = Literal[
    "members",
    "capabilities",
    "platform enum",
    "CPU architectures",
    "KV pool kinds",
    "entry-point groups",
    "detection",
    "backends",
    "environment",
    "deprecations",
]
ChangeKind = Literal[
    "added",
    "removed",
    "renamed",
    "moved",
    "kind changed",
    "signature changed",
    "default changed",
    "became called",
    "stopped being called",
    "called otherwise",
    "deprecated",
    "changed",
    "order changed",
]
_DEFAULTS = frozenset({"capabilities", "environment"})


@dataclass(frozen=True)
class Change:
    """One difference: what ``name`` was in the older release and is in the newer one, as texts; empty where it was not.

    ``likely``: it is concluded, not read, as that one member is another under a new name (which ``after`` then is).
    """

    area: Area
    kind: ChangeKind
    name: str
    before: str = ""
    after: str = ""
    likely: bool = False


@dataclass(frozen=True)
class ContractDiff:
    """All that differs between the contracts of two releases, in the order in which a person reads it."""

    older: str
    newer: str
    changes: tuple[Change, ...]

    def of(self, area: Area) -> tuple[Change, ...]:
        """The changes of one area."""
        return tuple(change for change in self.changes if change.area == area)

    def to_json(self) -> dict[str, Any]:
        """The difference as plain JSON data."""
        changes = [asdict(change) for change in self.changes]
        return {"schema": SCHEMA, "older": self.older, "newer": self.newer, "changes": changes}


def diff(older: Contract, newer: Contract) -> ContractDiff:
    """What changed from one contract to the other."""
    return ContractDiff(older.release, newer.release, tuple(_changes(older, newer)))


def _changes(a: Contract, b: Contract) -> Iterator[Change]:
    yield from _members(a, b)
    yield from _mapped("capabilities", a.capabilities, b.capabilities)
    yield from _listed("platform enum", a.platform_enum, b.platform_enum)
    yield from _listed("CPU architectures", a.cpu_arch_enum, b.cpu_arch_enum)
    yield from _listed("KV pool kinds", a.kv_pool_kinds, b.kv_pool_kinds)
    yield from _mapped("entry-point groups", a.groups, b.groups)
    yield from _listed("detection", a.detection, b.detection)
    if _common(a.detection, b.detection) != _common(b.detection, a.detection):
        yield Change("detection", "order changed", "order", ", ".join(a.detection), ", ".join(b.detection))
    yield from _mapped("backends", _backends(a.backends), _backends(b.backends))
    yield from _mapped("environment", _variables(a), _variables(b))
    yield from _deprecations(a.deprecations, b.deprecations)


# ---- members


def _members(a: Contract, b: Contract) -> Iterator[Change]:
    new_names = renames(a, b)
    for old, new in new_names.items():
        yield Change("members", "renamed", old, after=new, likely=True)
    for member in b.members:
        if not a.has(member.name) and member.name not in new_names.values():
            yield Change("members", "added", member.name, after=described(member))
    for member in a.members:
        if not b.has(member.name) and member.name not in new_names:
            yield Change("members", "removed", member.name, before=described(member))
    for old_member in a.members:
        new_member = b.member(new_names.get(old_member.name, old_member.name))
        if new_member is not None:
            yield from _member(old_member, new_member)


def _member(a: Member, b: Member) -> Iterator[Change]:
    name = b.name
    if a.owner != b.owner:
        yield Change("members", "moved", name, a.owner, b.owner)
    if a.kind != b.kind:
        yield Change("members", "kind changed", name, a.kind, b.kind)
    if a.signature != b.signature:
        yield Change("members", "signature changed", name, a.signature, b.signature)
    if a.default != b.default:
        yield Change("members", "default changed", name, default_text(a.default), default_text(b.default))
    if b.calls and not a.calls:
        yield Change("members", "became called", name, after=_where(b.calls))
    elif a.calls and not b.calls:
        yield Change("members", "stopped being called", name, before=_where(a.calls))
    else:
        before, after = _shapes(a), _shapes(b)
        if not set(after) <= set(before):
            was, now = (" or ".join(shapes) or "only read" for shapes in (before, after))
            yield Change("members", "called otherwise", name, was, now)


def _shapes(member: Member) -> list[str]:
    return sorted({str(site.call) for site in member.calls if site.call is not None})


def described(member: Member) -> str:
    """A member in a line: its signature, default and first use."""
    parts = [member.signature or member.kind, f"default: {default_text(member.default)}"]
    parts.append(f"used in {_where(member.calls)}" if member.calls else "not used by core")
    return "; ".join(parts)


def default_text(default: Default) -> str:
    """What a base class does, in words."""
    if default.kind == "raises":
        return f"raises {default.value}"
    if default.kind == "returns":
        return repr(default.value)
    return "does nothing" if default.kind == "noop" else "computed"


def _where(calls: tuple[CallSite, ...]) -> str:
    more = f" and {len(calls) - 1} more" if len(calls) > 1 else ""
    return f"{calls[0]}{more}"


# ---- the rest


def _listed(area: Area, a: Iterable[str], b: Iterable[str]) -> Iterator[Change]:
    yield from _mapped(area, dict.fromkeys(a, ""), dict.fromkeys(b, ""))


def _mapped(area: Area, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Change]:
    for name, value in b.items():
        if name not in a:
            yield Change(area, "added", name, after=str(value))
    for name, value in a.items():
        if name not in b:
            yield Change(area, "removed", name, before=str(value))
        elif b[name] != value:
            kind: ChangeKind = "default changed" if area in _DEFAULTS else "changed"
            yield Change(area, kind, name, str(value), str(b[name]))


def _common(names: Iterable[str], others: Iterable[str]) -> list[str]:
    kept = set(others)
    return [name for name in names if name in kept]


def _backends(table: BackendTable) -> dict[str, str]:
    """The table with all that decides beside it, as texts by name."""
    switches = {f"{s.device}, {s.environment} above {s.above}": s.backend for s in table.switches}
    asked = "the active platform, then the table" if table.asks_platform else "the table"
    return {**table.table, **switches, "any other device": table.fallback, "who is asked": asked}


def _variables(contract: Contract) -> dict[str, str]:
    return {each.name: f"{each.kind}, {each.default!r}" for each in contract.environment}


def _deprecations(a: Iterable[Deprecation], b: Iterable[Deprecation]) -> Iterator[Change]:
    before, after = ({(each.kind, each.name): each for each in found} for found in (a, b))
    for key, each in after.items():
        if key not in before:
            yield Change("deprecations", "deprecated", each.name, after=_instead(each))
    for key, each in before.items():
        if key not in after:
            yield Change("deprecations", "removed", each.name, before=_instead(each))
        elif each.replacement != after[key].replacement:
            yield Change("deprecations", "changed", each.name, _instead(each), _instead(after[key]))


def _instead(each: Deprecation) -> str:
    what = {"member": "member", "variable": "environment variable", "target": "code"}[each.kind]
    return f"{what}; use {each.replacement}" if each.replacement else what
