"""A contract, and the difference of two, as lines for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import groupby

from ..console import WIDTH
from .diff import Change, ContractDiff, described
from .model import Contract
from .target_diff import TargetChange, TargetChangeKind, TargetDiff

_LABEL = 21


def contract_lines(contract: Contract, width: int = WIDTH) -> Iterator[str]:
    """All that a contract says, a member in two lines."""
    backends = ", ".join(f"{device} {backend}" for device, backend in contract.backends.table.items())
    yield f"SGLang {contract.release}"
    for label, text in (
        ("groups", ", ".join(contract.groups.values())),
        ("enum", ", ".join(contract.platform_enum)),
        ("detection", ", ".join(contract.detection) or "none: the bare SRTPlatform"),
        ("variables", ", ".join(variable.name for variable in contract.environment)),
        ("backends", f"{backends}; anything else {contract.backends.fallback}"),
        ("capabilities", ", ".join(contract.capabilities) or "none"),
        ("KV pools", ", ".join(contract.kv_pool_kinds) or "a member for each"),
    ):
        yield from _wrapped(f"  {label:<13} ", text, width)
    yield ""
    for member in contract.members:
        yield f"  {member.owner}.{member.name}"
        yield from _wrapped(" " * 6, described(member), width)
    if contract.deprecations:
        yield ""
        yield "deprecated"
        for each in contract.deprecations:
            yield from _wrapped("  ", f"{each.name}{f' (use {each.replacement})' if each.replacement else ''}", width)


def diff_lines(found: ContractDiff, targets: TargetDiff, *, every_target: bool, width: int = WIDTH) -> Iterator[str]:
    """What differs, by area; ``every_target``: the hook targets one by one, and not only how many there are."""
    yield f"SGLang {found.older} to {found.newer}: {counted(len(found.changes), 'difference')} for platforms"
    for area, changes in groupby(found.changes, key=lambda change: change.area):
        yield ""
        yield area
        for change in changes:
            yield from _change(change, width)
    yield ""
    yield target_summary(targets) + ("" if every_target or not targets.changes else " (--hook-targets lists them)")
    for target in targets.changes if every_target else ():
        yield from _target(target, width)


def target_summary(targets: TargetDiff) -> str:
    """How many hook targets are gone, moved and changed, in a line."""
    counts = ", ".join(f"{targets.count(kind)} {word}" for kind, word in KINDS.items())
    return f"hook targets: of {targets.targets}, {counts}"


KINDS: dict[TargetChangeKind, str] = {"gone": "gone", "moved": "likely moved", "changed": "changed"}
"""What can become of a hook target, in words."""


def counted(number: int, noun: str) -> str:
    """``1 difference``, ``2 differences``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _change(change: Change, width: int) -> Iterator[str]:
    label = f"  {change.kind:<{_LABEL}}"
    if change.kind == "renamed":
        yield f"{label}{change.name} is likely {change.after} now"
    elif change.before and change.after:
        yield f"{label}{change.name}"
        yield from _wrapped(" " * (_LABEL + 4) + "was  ", change.before, width)
        yield from _wrapped(" " * (_LABEL + 4) + "now  ", change.after, width)
    else:
        yield f"{label}{change.name}"
        yield from _wrapped(" " * (_LABEL + 4), change.before or change.after, width)


def _target(change: TargetChange, width: int) -> Iterator[str]:
    more = f", and {change.within} in it" if change.within else ""
    yield from _wrapped(f"  {change.kind:<9}", change.path + more, width)
    if change.kind == "moved":
        yield from _wrapped(" " * 11 + "to   ", change.after, width)
    elif change.kind == "changed":
        yield from _wrapped(" " * 11 + "was  ", change.before, width)
        yield from _wrapped(" " * 11 + "now  ", change.after, width)


def _wrapped(start: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False)
