"""HOOK: SGLang's hooks with this platform's plugins loaded, and the hooks that the vendor itself registers.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ..contract.model import Contract
from ..hosts.story import Story
from ..probes.world import World
from ..subject import Subject
from . import expect, isolate
from .declare import in_controller, in_host, in_probe, requirement, spawns
from .hooking import conduct, fitness, machinery, releases, worlds
from .hooking.distributions import Distribution, Selection, distributions, selections
from .hooking.plugin import need_hook_plugin, registrations, rehearse
from .hooking.processes import hooked, hooked_afresh, hooked_in_fork
from .hooking.programs import Program, programs

# The project's own packages (0.5.23: srt/layers/activation.py imports sgl_kernel, srt/hardware_backend/npu its like).
_SGLANGS_OWN = ("sglang.", "sgl_kernel.", "sgl_kernel_npu.")
_LOGGED = "SGLang logs it and carries on without the hook"


def _release_of(host: str, contract: Contract) -> str:
    """The release of an installed SGLang; empty for the reference, which has not all of a release."""
    return contract.release if host == "installed" else ""


@requirement("HOOK-001")
@in_probe
@given(program=programs(classes=False))
def test_hooks_run_in_order_and_with_their_arguments(platform: Any, program: Program) -> None:
    machinery.run(program)


@requirement("HOOK-002")
@in_probe
@given(kind=st.sampled_from(("BEFORE", "AFTER", "AROUND", "REPLACE")))
def test_hook_reaches_the_modules_that_imported_its_target(platform: Any, kind: str) -> None:
    machinery.rebind(kind)


@requirement("HOOK-003")
@in_probe
@given(program=programs(classes=True))
def test_replacing_class_takes_the_hooks_on_its_methods(platform: Any, program: Program) -> None:
    machinery.run(program)


@requirement("HOOK-003")
@in_probe
def test_replacing_class_is_itself_what_the_name_stands_for(platform: Any) -> None:
    machinery.replace_class()


@requirement("HOOK-004")
@in_probe
@given(kind=st.sampled_from(("BEFORE", "AFTER", "AROUND")))
def test_class_is_refused_as_any_hook_but_replace(platform: Any, kind: str) -> None:
    machinery.refuse_class(kind)


@requirement("HOOK-004")
@in_probe
@given(kind=st.sampled_from(("BEFORE", "AFTER", "AROUND")))
def test_wrong_registration_leaves_the_others_alone(platform: Any, kind: str) -> None:
    machinery.refuse_target(kind)


@requirement("HOOK-005")
@in_probe
@given(program=programs(classes=False), applications=st.integers(2, 3))
def test_applying_hooks_again_changes_nothing(platform: Any, program: Program, applications: int) -> None:
    machinery.run(program, applications=applications)


@requirement("HOOK-006")
@in_host
def test_hooks_of_plugins_loaded_before_and_after_take_effect(contract: Contract) -> None:
    with worlds.neighbours(contract.groups) as (call, sources):
        worlds.load_and_resolve()
        cause = "this plugin resets SGLang's registry, applies hooks before all are registered, or patches it"
        seen = expect.attempt("the neighbours' hooked function", call, cause=cause)
        expect.equal(seen, worlds.NEIGHBOURS, call=seen.call, cause=cause)
        expect.equal(sources(), worlds.SOURCES, call="the sources in SGLang's registry", cause=cause)


@requirement("HOOK-007")
@in_probe
@given(present=distributions(), chosen=selections())
def test_variables_decide_which_hook_plugins_load(
    platform: Any, contract: Contract, present: list[Distribution], chosen: Selection
) -> None:
    worlds.choose(present, chosen, contract.groups)


@requirement("HOOK-007")
@in_host
def test_hooks_are_left_out_where_another_platform_is_selected(subject: Subject, contract: Contract) -> None:
    need_hook_plugin(subject)
    with worlds.another_platform(contract.groups) as name:
        loaded = worlds.loaded_by_sglang()
    own = sorted(point.name for point in subject.hook_points if loaded.get(point.name) == subject.distribution)
    expect.equal(own, [], call=f"SGLANG_PLATFORM={name}: load_plugins()")


@requirement("HOOK-010")
@in_host
def test_hook_plugin_runs_without_an_error(subject: Subject) -> None:
    need_hook_plugin(subject)
    rehearse(subject)


@requirement("HOOK-011")
@in_host
def test_hook_plugin_is_loaded_with_its_platform(subject: Subject) -> None:
    need_hook_plugin(subject)
    loaded = worlds.loaded_by_sglang()
    left_out = [point for point in subject.hook_points if loaded.get(point.name) != subject.distribution]
    if not left_out:
        return
    rehearse(subject)  # what does not import is another requirement's matter, or not covered by this host
    others = {e.name for e in (*subject.entry_points, *subject.siblings) if e.group == subject.groups["platforms"]}
    taken = loaded.get(left_out[0].name)
    cause = (
        f"the distribution provides several platforms ({', '.join(sorted(others))}): "
        "with SGLANG_PLATFORM SGLang leaves out the hooks of any that provides another than the selected one"
        if len(others) > 1
        else f"another distribution, {taken}, has a hook plugin of the same name"
    )
    names = ", ".join(point.name for point in left_out)
    expect.fail(
        expected=f"SGLang loads {names} of {subject.distribution}",
        seen=f"of {taken}" if taken else "not loaded",
        call=f"SGLANG_PLATFORM={subject.name}: load_plugins()",
        where=f"entry_points.txt of {subject.distribution}",
        cause=cause,
    )


@requirement("HOOK-012")
@in_host
def test_target_exists_and_takes_such_a_hook(subject: Subject, host: str, contract: Contract) -> str:
    return fitness.need_targets(rehearse(subject), cause=_LOGGED, release=_release_of(host, contract))


@requirement("HOOK-013")
@in_probe
def test_hooks_are_in_effect_once_the_platform_is_resolved(platform: Any, subject: Subject) -> None:
    registered = registrations(subject)
    if registered:
        fitness.need_effect(registered)
    else:
        rehearse(subject)  # tells whether that is declined, not covered by the host, or failed


@requirement("HOOK-014")
@in_host
def test_hook_takes_what_its_target_must_be_given(subject: Subject, host: str, contract: Contract) -> None:
    fitness.need_fit(rehearse(subject), least=True, release=_release_of(host, contract))


@requirement("HOOK-015")
@in_host
def test_hook_takes_whatever_its_target_takes(subject: Subject, host: str, contract: Contract) -> None:
    fitness.need_fit(rehearse(subject), least=False, release=_release_of(host, contract))


@requirement("HOOK-016")
@in_host
def test_targets_are_sglangs(subject: Subject) -> None:
    for registration in rehearse(subject):
        expect.that(
            registration.target.startswith(_SGLANGS_OWN),
            expected="a target in sglang, or in its kernel packages",
            seen=str(registration),
            where=registration.where,
            cause="the hook changes another library for everyone in this process",
        )


@requirement("HOOK-017")
@in_host
def test_replacing_class_can_stand_for_the_one_it_replaces(subject: Subject) -> None:
    fitness.need_likeness(rehearse(subject))


@requirement("HOOK-018")
@in_host
def test_hook_does_not_call_itself_by_the_targets_name(subject: Subject) -> None:
    fitness.need_way_out(rehearse(subject))


@requirement("HOOK-019")
@in_probe
def test_each_hook_is_registered_once(platform: Any, subject: Subject) -> None:
    registered = registrations(subject) or rehearse(subject)
    fitness.need_single(registered)
    worlds.load_and_resolve()
    again = [str(registration) for registration in registrations(subject)]
    expect.equal(again, [str(registration) for registration in registered], call="load_plugins(), a second time")


@requirement("HOOK-020")
@in_controller
def test_registering_hooks_changes_nothing_else(story: Story, subject: Subject) -> None:
    need_hook_plugin(subject)
    step = story.step("hooks")
    if step is not None:
        fitness.need_no_trace(step.changes, call=", ".join(point.value for point in subject.hook_points))


@requirement("HOOK-021")
@spawns
@in_probe
def test_hooks_are_alive_in_child_processes(
    platform: Any, host: str, contract: Contract, subject: Subject, deadline: float
) -> None:
    need_hook_plugin(subject)
    child = isolate.spawned(hooked_afresh, host, contract.to_json(), subject.to_json(), deadline=deadline)
    call = "load_plugins() in a process that this one spawned"
    cause = "the hooks are registered only in the first process; SGLang's schedulers and workers are others"
    expect.equal(child.settled(call), hooked(subject), call=call, cause=cause)


@requirement("HOOK-022")
@in_host
def test_platform_and_hooks_load_when_both_are_listed(subject: Subject) -> None:
    need_hook_plugin(subject)
    selected = hooked_in_fork(subject)
    names = ",".join(dict.fromkeys((subject.name, *(point.name for point in subject.hook_points))))
    World({"SGLANG_PLATFORM": None, "SGLANG_PLUGINS": names}).enter()
    call = f"SGLANG_PLUGINS={names}, SGLANG_PLATFORM unset: load_plugins()"
    expect.equal(hooked_in_fork(subject), selected, call=call, cause="the hooks depend on how the platform was chosen")


@requirement("HOOK-023")
@in_host
def test_hook_plugin_runs_where_its_platform_is_not_active(subject: Subject) -> None:
    need_hook_plugin(subject)
    worlds.without_platform(subject)
    rehearse(subject)


@requirement("HOOK-024")
@in_host
def test_coroutine_function_stands_only_where_it_is_awaited(subject: Subject) -> None:
    conduct.need_awaited(rehearse(subject))


@requirement("HOOK-025")
@in_host
def test_before_hook_returns_nothing_or_arguments_and_keywords(subject: Subject) -> None:
    conduct.need_pair(rehearse(subject))


@requirement("HOOK-026")
@in_host
def test_around_hook_hands_on_what_it_takes(subject: Subject) -> None:
    conduct.need_handed_on(rehearse(subject))


@requirement("HOOK-027")
@in_host
def test_after_hook_returns_a_result_of_its_targets_kind(subject: Subject) -> None:
    conduct.need_kind(rehearse(subject))


@requirement("HOOK-028")
@in_host
def test_no_target_of_another_release_is_registered(subject: Subject) -> None:
    releases.need_guard(rehearse(subject))
