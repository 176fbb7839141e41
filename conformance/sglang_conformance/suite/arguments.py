"""ARG: what the platform does to the server's arguments.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ..contract import tables
from ..contract.model import Contract
from ..probes.observe import Changes, changes, observe
from . import expect
from .aids import assigned
from .aids.applied import (
    MEMBER,
    REFUSALS,
    applied,
    call_of,
    expect_none,
    expect_none_replaced,
    is_refusal,
    is_told,
    listed,
    replaced,
    told_while_applied,
)
from .aids.drawn_arguments import further_settings, settings_of, single_settings
from .aids.pace import in_time, pace
from .aids.resolution import overrides
from .aids.server_args import Configuration, table
from .declare import in_probe, requirement

_HINT = "set a field only where it still has its default; refuse what the device cannot do"


@requirement("ARG-001")
@in_probe
def test_each_setting_of_the_user_is_kept(platform: Any, contract: Contract, deadline: float) -> None:
    every = chain(single_settings(contract.release), further_settings(contract.release))
    for chosen in in_time(every, deadline):
        _expect_kept(platform, contract, chosen)


@requirement("ARG-001")
@in_probe
@given(data=st.data())
def test_what_the_user_set_together_is_kept(
    platform: Any, contract: Contract, deadline: float, data: st.DataObject
) -> None:
    chosen = data.draw(settings_of(contract.release), label="the user's settings")
    if pace().allows(deadline):
        _expect_kept(platform, contract, chosen)


@requirement("ARG-002")
@in_probe
def test_each_setting_is_taken_or_refused(platform: Any, contract: Contract, deadline: float) -> None:
    for chosen in in_time(_nothing_and_each(contract), deadline):
        _expect_taken_or_refused(platform, contract, chosen)


@requirement("ARG-002")
@in_probe
@given(data=st.data())
def test_settings_together_are_taken_or_refused(
    platform: Any, contract: Contract, deadline: float, data: st.DataObject
) -> None:
    chosen = data.draw(settings_of(contract.release), label="the user's settings")
    if pace().allows(deadline):
        _expect_taken_or_refused(platform, contract, chosen)


@requirement("ARG-003")
@in_probe
def test_nothing_is_returned(platform: Any, contract: Contract) -> None:
    handed = Configuration(contract.release, platform.device_type, {}).handed
    answer = expect.ask(platform, MEMBER, handed)
    expect.that(
        answer.value is None or answer.value is handed,
        expected="None",
        seen=expect.show(answer.value),
        call=call_of({}),
        where=answer.where,
        cause="SGLang does not look at what is returned: assign to the argument's fields",
    )


@requirement("ARG-004")
@in_probe
def test_applying_twice_changes_nothing_more(platform: Any, contract: Contract, deadline: float) -> None:
    for chosen in in_time(_nothing_and_each(contract), deadline):
        configuration = applied(platform, contract.release, chosen)
        if configuration is None:
            continue
        first = configuration.values
        again = Configuration(contract.release, platform.device_type, first)
        expect.ask(platform, MEMBER, again.handed)
        expect.that(
            not again.changed,
            expected=listed({name: first[name] for name in again.changed}),
            seen=listed(again.changed),
            call=f"{call_of(chosen)}, and once more on the result",
            where=expect.place_of(platform, MEMBER),
            cause="it sets a field relative to what is there",
        )


@requirement("ARG-005")
@in_probe
def test_one_configuration_does_not_reach_another(platform: Any, contract: Contract, deadline: float) -> None:
    before = _defaults(platform, contract)
    for chosen in in_time(single_settings(contract.release), deadline):
        applied(platform, contract.release, chosen)
        after = _defaults(platform, contract)
        differing = {name: value for name, value in {**before, **after}.items() if before.get(name) != after.get(name)}
        expect.that(
            not differing,
            expected=f"the platform's choices as before: {listed(before) or 'none'}",
            seen=listed(after) or "none",
            call=f"{call_of({})}, after {call_of(chosen)}",
            where=expect.place_of(platform, MEMBER),
            cause="the platform keeps something of the configuration that it saw before",
        )


@requirement("ARG-006")
@in_probe
def test_values_are_assigned_and_not_altered_in_place(platform: Any, contract: Contract, deadline: float) -> None:
    for chosen in in_time(_nothing_and_each(contract), deadline):
        configuration = applied(platform, contract.release, chosen)
        expect_none(
            platform,
            chosen,
            configuration.changed_in_place if configuration else {},
            expected="the values that SGLang handed over as they were, and new ones assigned",
            cause="SGLang records assignments to the argument's fields, and sees no change within a value",
        )


@requirement("ARG-007")
@in_probe
def test_only_fields_of_some_release_are_set(platform: Any, contract: Contract) -> None:
    configuration = applied(platform, contract.release, {})
    unknown = configuration.unknown if configuration else {}
    for release in tables.server_args_releases() if unknown else ():
        unknown = {name: value for name, value in unknown.items() if name not in table(release).fields}
    expect_none(
        platform,
        {},
        unknown,
        expected=f"fields that ServerArgs of SGLang {contract.release} has, or that of another release",
        cause="misspelt: nobody reads it",
    )


@requirement("ARG-008")
@in_probe
def test_applying_defaults_patches_nothing(platform: Any, contract: Contract) -> None:
    done = _observed(platform, contract)
    seen = {"replaced": done.patches, "put into sys.modules by hand": done.stubs}
    _expect_nothing(seen, "torch, SGLang and the standard library as they were", platform)


@requirement("ARG-009")
@in_probe
def test_applying_defaults_leaves_the_process_alone(platform: Any, contract: Contract) -> None:
    done = _observed(platform, contract)
    variables = tuple(f"{name}={pair[1]!r}" for name, pair in done.environment.items())
    seen = {"environment": variables, "working folder": (done.folder,) if done.folder else (), "signals": done.signals}
    _expect_nothing(seen, "environment, working folder and signal handlers as they were", platform)


@requirement("ARG-010")
@in_probe
def test_resolving_arguments_starts_no_device(platform: Any, contract: Contract) -> None:
    done = _observed(platform, contract)
    _expect_nothing({"initialised": tuple(f"torch.{name}" for name in done.devices)}, "no device started", platform)


@requirement("ARG-011")
@in_probe
def test_the_users_settings_are_not_replaced_with_a_warning_either(
    platform: Any, contract: Contract, deadline: float
) -> None:
    for chosen in in_time(single_settings(contract.release), deadline):
        configuration = applied(platform, contract.release, chosen)
        lost = replaced(configuration, chosen) if configuration else {}
        expect_none_replaced(platform, chosen, lost, cause="it warns and goes on: refuse what the device cannot do")


@requirement("ARG-012")
@in_probe
def test_assigned_values_are_of_the_fields_type(platform: Any, contract: Contract, deadline: float) -> None:
    for chosen in in_time(_nothing_and_each(contract), deadline):
        changed = _changed(platform, contract, chosen)
        wrong = assigned.wrong(table(contract.release), platform.device_type, changed)
        expect_none(
            platform,
            chosen,
            {name: changed[name] for name in wrong},
            expected="; ".join(f"{name}: {wanted}" for name, wanted in wrong.items()),
            cause="SGLang does not look at it again before it uses it",
        )


@requirement("ARG-013")
@in_probe
def test_assigned_attention_backends_are_registered(platform: Any, contract: Contract, deadline: float) -> None:
    for chosen in in_time(_nothing_and_each(contract), deadline):
        changed = _changed(platform, contract, chosen)
        named = {name: changed[name] for name in assigned.ATTENTION if name in changed}
        unknown = {name: value for name, value in named.items() if not assigned.is_attention(value, contract.release)}
        expect_none(
            platform,
            chosen,
            unknown,
            expected="an attention backend that SGLang has, or that the plugin registers",
            cause="misspelt, or the plugin registers its own backend too late: do so in a hook plugin",
        )


@requirement("ARG-014")
@in_probe
def test_what_the_operator_trusts_is_not_set(platform: Any, contract: Contract, deadline: float) -> None:
    for chosen in in_time(_nothing_and_each(contract), deadline):
        changed = _changed(platform, contract, chosen)
        opened = {name: changed[name] for name in assigned.OPERATORS if name in changed}
        expect_none(
            platform,
            chosen,
            opened,
            expected="the operator's own settings",
            cause="whom a server trusts and who may reach it is for its operator to say",
        )


def _nothing_and_each(contract: Contract) -> Iterator[Mapping[str, Any]]:
    yield {}
    yield from single_settings(contract.release)


def _expect_kept(platform: Any, contract: Contract, chosen: Mapping[str, Any]) -> None:
    configuration, texts = told_while_applied(platform, contract.release, chosen)
    if configuration is None:
        return
    lost = replaced(configuration, chosen)
    silent = {name: pair for name, pair in lost.items() if not is_told(name, pair, texts)}
    expect_none_replaced(platform, chosen, silent, cause=_HINT)


def _expect_taken_or_refused(platform: Any, contract: Contract, chosen: Mapping[str, Any]) -> None:
    configuration = Configuration(contract.release, platform.device_type, chosen)
    try:
        expect.ask(platform, MEMBER, configuration.handed)
    except expect.Violation as violation:
        if chosen and is_refusal(violation.__context__):
            return
        kinds = ", ".join(kind.__name__ for kind in REFUSALS)
        told = f"no error, or one that refuses and says why ({kinds})" if chosen else "no error"
        expect.fail(**{**violation.finding, "call": call_of(chosen), "expected": told})


def _defaults(platform: Any, contract: Contract) -> dict[str, Any]:
    """What the platform chooses for a user who set nothing."""
    configuration = applied(platform, contract.release, {})
    return configuration.changed if configuration else {}


def _changed(platform: Any, contract: Contract, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What the platform set of the fields that the user did not."""
    configuration = applied(platform, contract.release, chosen)
    changed = configuration.changed if configuration else {}
    return {name: value for name, value in changed.items() if name not in chosen}


def _observed(platform: Any, contract: Contract) -> Changes:
    """What the platform's part in resolving the arguments does to the process, which is the launcher's."""
    before = observe()
    applied(platform, contract.release, {})
    if platform.is_out_of_tree() and overrides(platform, "get_default_attention_backend"):
        expect.ask(platform, "get_default_attention_backend")
    return changes(before, observe())


def _expect_nothing(seen: Mapping[str, tuple[str, ...]], expected: str, platform: Any) -> None:
    told = "; ".join(f"{what}: {', '.join(names[:4])}" for what, names in seen.items() if names)
    expect.that(not told, expected=expected, seen=told, call=call_of({}), where=expect.place_of(platform, MEMBER))
