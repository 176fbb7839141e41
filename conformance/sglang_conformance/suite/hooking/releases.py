"""Hook targets that this SGLang lacks and another release has: a plugin for several releases may register them all.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Sequence

from ...contract import tables
from .. import expect
from ..aids.resolution import is_sglangs
from .plugin import Missing, Registration, locate, replacements, resolve


def of_another_release(registration: Registration, registered: Sequence[Registration]) -> bool:
    """Whether a target that is missing here is known to be another release's.

    That is so for a platform's member that some contract table has, and where the same hook stands on a target of the
    same name elsewhere, which is here: the function has moved.
    """
    path, _, name = registration.target.rpartition(".")
    try:
        owner = resolve(path)
    except (Missing, expect.NotCovered):
        owner = None
    if isinstance(owner, type) and any(is_sglangs(c) and c.__name__ == "DeviceMixin" for c in owner.__mro__):
        return any(tables.load(release).has(name) for release in tables.releases())
    return any(_has_moved(registration, other, name) and _is_here(other, registered) for other in registered)


def _has_moved(registration: Registration, other: Registration, name: str) -> bool:
    same = (other.kind, other.target.rpartition(".")[2]) == (registration.kind, name)
    return same and other.hook is registration.hook and other.target != registration.target


def _is_here(registration: Registration, registered: Sequence[Registration]) -> bool:
    try:
        locate(registration.target, replacements(registered))
    except (Missing, expect.NotCovered):
        return False
    return True


def need_guard(registered: Sequence[Registration]) -> None:
    """No target of another release is registered in this one."""
    replaced = replacements(registered)
    for registration in registered:
        try:
            locate(registration.target, replaced)
        except expect.NotCovered:
            continue
        except Missing as missing:
            expect.that(
                not of_another_release(registration, registered),
                expected="a hook registered only in the releases that have its target",
                seen=str(missing),
                call=str(registration),
                where=registration.where,
                cause="SGLang logs an error with a traceback in every process and carries on without the hook; "
                "ask for the release, or for the target, before registering",
            )
