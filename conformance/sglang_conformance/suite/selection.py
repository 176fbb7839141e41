"""SEL: which platform SGLang takes, in the worlds that its users make of plugins and environment variables.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import importlib.metadata
import os
import pkgutil
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ..contract.model import Contract
from ..hosts.enter import resolve
from ..hosts.story import load
from ..probes.world import distribution_name, hide_distributions
from ..subject import EntryPoint, Subject
from . import expect
from .aids.pace import pace
from .aids.resolution import class_afresh, class_path
from .aids.worlds import Installed, Taken, World, install, select, taken, worlds
from .declare import in_host, in_probe, requirement, spawns
from .isolate import Outcome, in_fork, spawned

_CURRENT = "sglang.srt.platforms.current_platform"


def _resolved() -> str:
    """The path of the class that the host resolves to, without the hook plugins."""
    from sglang.srt import platforms

    return class_path(platforms.current_platform)


def _own_class(subject: Subject) -> str:
    """The path of the class that the plugin itself names, asked apart from the host; empty where it names none."""
    return _class_named_by(subject.entry_point) if subject.entry_point else ""


@cache
def _class_named_by(point: EntryPoint) -> str:
    def ask() -> str:
        kind = pkgutil.resolve_name(load(point)())
        return f"{kind.__module__}.{kind.__qualname__}" if isinstance(kind, type) else ""

    return str(in_fork(ask).value or "")


@requirement("SEL-001")
@in_host
def test_selected_platform_is_the_one_that_resolves(subject: Subject) -> None:
    own = subject.name.capitalize() if subject.in_tree else _own_class(subject)
    answer = expect.attempt(_CURRENT, lambda: class_path(resolve()))
    if subject.in_tree:
        cause = f"SGLang detects no {subject.name} device on this machine, or one that it prefers"
        expect.equal(answer, f"sglang.srt.platforms.{subject.name}.{own}SRTPlatform", cause=cause)
    else:
        expect.equal(answer, own, cause="the host resolves to something else than what activate() names")


@requirement("SEL-002")
@in_host
def test_platform_resolves_without_being_named(subject: Subject) -> None:
    own = _own_class(subject)
    hide_distributions(set(subject.providers) - {subject.distribution})
    os.environ.pop("SGLANG_PLATFORM", None)
    found = in_fork(_resolved)
    expect.that(
        found.value == own,
        expected=f"{own}, as when SGLANG_PLATFORM={subject.name} names it",
        seen=str(found),
        call=f"{_CURRENT} with SGLANG_PLATFORM unset and no other plugin installed",
        cause="activate() answers otherwise when it is not named, or the distribution registers a second platform",
    )


@requirement("SEL-003")
@in_probe
def test_current_platform_is_one_object(platform: Any) -> None:
    from sglang.srt import platforms

    answer = expect.Answer(platforms.current_platform, _CURRENT, "")
    expect.that(
        answer.value is platform and platforms.current_platform is platform,
        expected="the same object each time",
        seen="another object",
        answer=answer,
    )


@requirement("SEL-004")
@in_host
def test_unknown_name_is_an_error_that_lists_what_is_installed(subject: Subject) -> None:
    os.environ["SGLANG_PLATFORM"] = "nobody"
    found = in_fork(lambda: class_path(resolve()))
    call = f"{_CURRENT} with SGLANG_PLATFORM=nobody"
    expect.that(found.error == "RuntimeError", expected="RuntimeError", seen=str(found), call=call)
    if not subject.in_tree:
        named = subject.name in found.message
        expect.that(named, expected=f"a message that names {subject.name!r}", seen=found.message, call=call)


@requirement("SEL-005")
@in_host
@given(data=st.data())
def test_selection_follows_the_rules_in_any_world(
    subject: Subject, contract: Contract, deadline: float, data: st.DataObject
) -> None:
    mine = None if subject.in_tree else Installed(subject.name, "active", _own_class(subject))
    world = data.draw(worlds(mine), label="world")
    if world not in _found() and pace().allows(deadline):
        # A vendor's code may ask for any distribution; where none runs, none need be read in every world.
        hidden = _installed() if subject.in_tree else set(subject.providers) - {subject.distribution}
        with tempfile.TemporaryDirectory() as folder:
            _found()[world] = in_fork(lambda: _take(world, Path(folder), hidden, subject, contract), deadline)
    found = _found().get(world)
    wanted = taken(world)
    expect.that(
        found is None or _agrees(found, wanted),
        expected=str(wanted),
        seen=f"the class {found.value}" if found and found.value else str(found),
        call=f"{_CURRENT} in {expect.show(world, 600)}",
    )


@cache
def _found() -> dict[World, Outcome]:
    """What the worlds of this probe's check came to: one that is drawn again ends as before, also out of its time."""
    return {}


@cache
def _installed() -> frozenset[str]:
    return frozenset(map(distribution_name, importlib.metadata.distributions()))


def _take(world: World, folder: Path, hidden: Iterable[str], subject: Subject, contract: Contract) -> str:
    hide_distributions(hidden)
    own = None if subject.in_tree else subject.name
    install(world.plugins, folder, contract.groups["platforms"], own=own)
    select(world)
    return _resolved()


def _agrees(found: Outcome, wanted: Taken) -> bool:
    if wanted.kind == "error":
        return wanted.name in found.bases
    if wanted.kind == "built-in":
        return str(found.value).startswith("sglang.srt.platforms.")
    return bool(found.value == wanted.name)


@requirement("SEL-006")
@in_host
def test_naming_one_platform_imports_no_other(subject: Subject, contract: Contract) -> None:
    others = [Installed("alpha", "active", ""), Installed("beta", "no import", "")]

    def imported() -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            install(others, Path(folder), contract.groups["platforms"])
            _resolved()
        return [name for name in sys.modules if name.startswith("conformance_")]

    found = in_fork(imported)
    call = f"{_CURRENT} with SGLANG_PLATFORM={subject.name} and two more platforms installed"
    expect.equal(found.value, [], call=call, cause=str(found) if found.error else "")


@requirement("SEL-007")
@in_host
def test_resolving_leaves_the_selection_alone(subject: Subject) -> None:
    names = ("SGLANG_PLATFORM", "SGLANG_PLUGINS", "SGLANG_USE_CPU_ENGINE")

    def variables() -> list[str]:
        before = {name: os.environ.get(name) for name in names}
        resolve()
        return [
            f"{name}: {before[name]!r} became {os.environ.get(name)!r}"
            for name in names
            if os.environ.get(name) != before[name]
        ]

    found = in_fork(variables)
    expect.equal(found.value, [], call="resolving the platform", cause=str(found) if found.error else "")


@requirement("SEL-008")
@in_host
def test_platform_resolves_where_its_plugins_are_allowed_by_name(subject: Subject) -> None:
    own = _own_class(subject)
    hide_distributions(set(subject.providers) - {subject.distribution})
    names = ",".join([subject.name, *(point.name for point in subject.hook_points)])
    os.environ["SGLANG_PLUGINS"] = names
    for selected in (subject.name, None):
        if selected is None:
            os.environ.pop("SGLANG_PLATFORM", None)
        found = in_fork(lambda: class_path(resolve()))
        expect.that(
            found.value == own,
            expected=own,
            seen=str(found),
            call=f"{_CURRENT} with SGLANG_PLUGINS={names} and SGLANG_PLATFORM={selected or '(unset)'}",
        )


@requirement("SEL-009")
@spawns
@in_probe
def test_child_processes_resolve_to_the_same_platform(
    platform: Any, host: str, contract: Contract, deadline: float
) -> None:
    child = spawned(class_afresh, host, contract.to_json(), deadline=deadline)
    call = f"{_CURRENT} in a process that this one spawned"
    cause = "activate() answers otherwise where the process is a child, or where nothing has been imported before it"
    expect.equal(child.settled(call), class_path(platform), call=call, cause=cause)
