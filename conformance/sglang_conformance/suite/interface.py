"""API: what the plugin's code uses of SGLang, read without importing it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Collection

from ..contract.model import Contract
from ..radar.finding import Finding, Kind, Severity
from ..subject import Subject
from . import expect
from .aids import reading
from .declare import in_controller, requirement

USES: frozenset[Kind] = frozenset({"import", "attribute", "patch", "call", "class path"})
HOOKS: frozenset[Kind] = frozenset({"hook target", "hook kind", "hook parameters"})
OVERRIDES: frozenset[Kind] = frozenset({"kind", "signature"})
FACTORIES: frozenset[Kind] = frozenset({"factory"})
UNREAD: frozenset[Kind] = frozenset({"unread", "hidden", "superseded"})
GOING: frozenset[Kind] = frozenset({"deprecated", "variable"})
LEFT: frozenset[Kind] = frozenset({"reachable"})

_GRAVE = frozenset({Severity.BREAKS})
_SLIGHT = frozenset({Severity.MAY_BREAK, Severity.SILENT})
_ANY = frozenset(Severity)


def _told(
    subject: Subject, contract: Contract, kinds: Collection[Kind], severities: Collection[Severity]
) -> list[Finding]:
    found = reading.findings(subject, contract.release)
    return [finding for finding in found if finding.kind in kinds and finding.severity in severities]


def _none(found: list[Finding], *, expected: str) -> None:
    """Fail with the first of the findings in the foreground, and all of them in the detail.

    How to mend it stands beside what is expected, where a narrow screen cuts least.
    """
    if not found:
        return
    first, *others = found
    more = f", and {len(others)} more, which radar lists" if others else ""
    expect.fail(
        expected=f"{expected}: {first.mend}",
        seen=f"{first.what}{more}",
        where=str(first.place),
        cause=first.why,
        detail="\n".join(f"{each.place}: {each.what} ({each.why}); {each.mend}" for each in others),
    )


@requirement("API-001")
@in_controller
def test_what_the_plugin_needs_of_sglang_is_there(subject: Subject, contract: Contract) -> None:
    _none(_told(subject, contract, USES, _GRAVE), expected="what this release has")


@requirement("API-002")
@in_controller
def test_what_the_plugin_may_need_of_sglang_is_there(subject: Subject, contract: Contract) -> None:
    _none(_told(subject, contract, USES, _SLIGHT), expected="what this release has")


@requirement("API-003")
@in_controller
def test_hooks_fit_the_targets_of_this_release(subject: Subject, contract: Contract) -> None:
    _none(_told(subject, contract, HOOKS, _ANY), expected="hooks that can be applied")


@requirement("API-004")
@in_controller
def test_overrides_fit_what_core_does_with_them(subject: Subject, contract: Contract) -> None:
    _none(_told(subject, contract, OVERRIDES, _ANY), expected="members that core can use")


@requirement("API-005")
@in_controller
def test_what_factories_give_can_be_made(subject: Subject, contract: Contract) -> None:
    _none(_told(subject, contract, FACTORIES, _ANY), expected="classes that core can make")


@requirement("API-006")
@in_controller
def test_every_override_is_read(subject: Subject, contract: Contract) -> None:
    _none(_told(subject, contract, UNREAD, _ANY), expected="members that are read")


@requirement("API-007")
@in_controller
def test_nothing_that_the_plugin_uses_is_about_to_go(subject: Subject, contract: Contract) -> None:
    _none(_told(subject, contract, GOING, _ANY), expected="what will stay")


@requirement("API-008")
@in_controller
def test_nothing_that_core_asks_for_is_left_to_a_default_that_refuses(subject: Subject, contract: Contract) -> None:
    left = _told(subject, contract, LEFT, _ANY)
    if left:
        raise expect.Declined("; ".join(dict.fromkeys(finding.what for finding in left)))
