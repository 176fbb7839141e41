"""ACT: ``activate()``, from its call to an instance of the class that it names.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..contract.model import Contract
from ..hosts.story import Story, load
from ..subject import Subject
from . import expect, steps
from .declare import in_controller, in_host, requirement
from .isolate import in_fork

_ACTIVATE = "activate()"
_CALLS = {"activate": _ACTIVATE, "class": "resolving the class", "construct": "constructing the platform"}
_OF_THE_CLASS = ("class", "construct")


@requirement("ACT-001")
@in_controller
def test_activate_returns(story: Story) -> None:
    steps.came_through(story, "activate", call=_ACTIVATE)


@requirement("ACT-002")
@in_controller
def test_activate_answers_with_the_path_of_a_class(story: Story) -> None:
    step = steps.came_through(story, "activate", call=_ACTIVATE)
    answer, kind = step.value["answer"], step.value["type"]
    expect.that(
        step.value["is_text"] and answer,
        expected="the path of a class, as 'vendor.platform.VendorPlatform'",
        seen=f"{answer!r}" if answer is None or step.value["is_text"] else f"{answer} ({kind})",
        call=_ACTIVATE,
        where=str(step.value["where"]),
        cause="the plugin finds no hardware of its own on this machine" if answer is None else "",
    )


@requirement("ACT-003")
@in_controller
def test_the_path_leads_to_a_class(story: Story) -> None:
    activated = steps.came_through(story, "activate", call=_ACTIVATE).value
    answer = activated["answer"]
    step = steps.came_through(
        story,
        "class",
        call=f"pkgutil.resolve_name({answer!r})",
        expected=f"a class at {answer}",
        where=str(activated["where"]),
    )
    expect.that(
        step.value["is_class"],
        expected="a class",
        seen=f"a {step.value['type']}",
        call=f"pkgutil.resolve_name({answer!r})",
        where=str(step.value["where"]),
    )


@requirement("ACT-004")
@in_controller
def test_the_class_is_a_platform(story: Story) -> None:
    step = steps.came_through(story, "class", call="resolving the class")
    expect.that(
        step.value["is_platform"],
        expected="a subclass of sglang.srt.platforms.interface.SRTPlatform",
        seen=f"its bases are {', '.join(step.value['bases'][1:]) or 'none'}",
        call="resolving the class",
        where=str(step.value["where"]),
    )


@requirement("ACT-005")
@in_controller
def test_activate_answers_the_same_again(story: Story) -> None:
    first = steps.came_through(story, "activate", call=_ACTIVATE)
    again = steps.came_through(story, "again", call=f"{_ACTIVATE}, a second time")
    expect.equal(
        again.value["answer"],
        first.value["answer"],
        call=f"{_ACTIVATE}, a second time",
        where=str(first.value["where"]),
    )


@requirement("ACT-006")
@in_host
def test_activate_answers_the_same_whether_or_not_it_is_named(subject: Subject) -> None:
    answers = {}
    for name in (subject.name, None):
        if name is None:
            os.environ.pop("SGLANG_PLATFORM", None)
        else:
            os.environ["SGLANG_PLATFORM"] = name
        answers[name] = str(in_fork(lambda: repr(_loaded(subject)())))
    expect.equal(
        answers[None],
        answers[subject.name],
        call=f"{_ACTIVATE} with SGLANG_PLATFORM unset",
        where=_where(subject),
    )


@requirement("ACT-007")
@in_controller
def test_activate_leaves_shared_variables_alone(story: Story, subject: Subject, contract: Contract) -> None:
    steps.kept_shared_variables(steps.walked(story, "activate"), subject, contract, call=_ACTIVATE)


@requirement("ACT-008")
@in_controller
def test_activate_leaves_the_environment_alone(story: Story) -> None:
    steps.kept_variables(steps.walked(story, "activate"), call=_ACTIVATE)


@requirement("ACT-009")
@in_controller
def test_activate_patches_nothing(story: Story, subject: Subject) -> None:
    steps.patched_nothing(steps.walked(story, "activate"), own=steps.package_of(subject), call=_ACTIVATE)


@requirement("ACT-010")
@in_controller
def test_activate_initialises_no_device(story: Story) -> None:
    steps.started_no_device(steps.walked(story, "activate"), call=_ACTIVATE)


@requirement("ACT-011")
@in_controller
def test_activate_starts_nothing(story: Story) -> None:
    steps.started_nothing(steps.walked(story, "activate"), call=_ACTIVATE)


@requirement("ACT-012")
@in_controller
def test_activate_brings_in_no_subsystem_of_sglang(story: Story) -> None:
    steps.imported_no_subsystem(steps.walked(story, "activate"), call=_ACTIVATE)


@requirement("ACT-013")
@in_host
def test_a_broken_driver_is_not_taken_for_absent_hardware(subject: Subject) -> None:
    lazily = in_fork(lambda: _imported_by(_loaded(subject))).value or []
    for module in lazily[:5]:
        found = in_fork(functools.partial(_with_broken, module, subject))
        expect.that(
            found.value != "None",
            expected="the error, or the same answer as before",
            seen="None, as if there were no hardware",
            call=f"{_ACTIVATE} while importing {module} raises RuntimeError",
            where=_where(subject),
            cause="a catch-all turns every error into 'no hardware'; catch only what the driver documents for that",
        )


@requirement("ACT-014")
@in_controller
def test_resolving_the_class_leaves_shared_variables_alone(story: Story, subject: Subject, contract: Contract) -> None:
    for name in _OF_THE_CLASS:
        steps.kept_shared_variables(steps.walked(story, name), subject, contract, call=_CALLS[name])


@requirement("ACT-015")
@in_controller
def test_nothing_is_left_running(story: Story) -> None:
    expect.that(
        not story.orphans,
        expected="no process left behind by import, activation and construction",
        seen=f"{story.orphans} processes still running when the probe had ended",
    )


@requirement("ACT-016")
@in_controller
def test_coming_to_life_leaves_torchs_defaults_alone(story: Story) -> None:
    for name, call in _CALLS.items():
        steps.kept_defaults(steps.walked(story, name), call=call)


@requirement("ACT-017")
@in_controller
def test_coming_to_life_leaves_the_settings_of_the_process_alone(story: Story) -> None:
    for name, call in _CALLS.items():
        steps.kept_settings(steps.walked(story, name), call=call)


@requirement("ACT-018")
@in_controller
def test_resolving_the_class_patches_nothing(story: Story, subject: Subject) -> None:
    for name in _OF_THE_CLASS:
        steps.patched_nothing(steps.walked(story, name), own=steps.package_of(subject), call=_CALLS[name])


def _loaded(subject: Subject) -> Callable[[], Any]:
    point = subject.entry_point
    function: Callable[[], Any] = load(point) if point else lambda: None
    return function


def _where(subject: Subject) -> str:
    return str(in_fork(lambda: expect.place(_loaded(subject))).value or "")


def _imported_by(activate: Callable[[], Any]) -> list[str]:
    """The modules that activating imports and that are neither Python's nor the host's: the vendor's driver."""
    before = set(sys.modules)
    activate()
    new = (name for name in sys.modules if name not in before)
    return [name for name in new if name.partition(".")[0] not in (*sys.stdlib_module_names, "sglang")]


def _with_broken(module: str, subject: Subject) -> str:
    """What activate() answers, as text, while importing the module fails as a broken driver does."""
    activate = _loaded(subject)

    class Broken:
        def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> None:
            if name == module:
                raise RuntimeError(f"{module}: driver and library versions do not match (said by the conformance kit)")

    sys.meta_path.insert(0, Broken())
    return repr(activate())
