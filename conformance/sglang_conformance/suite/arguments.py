"""ARG: what the platform does to the server's arguments.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ..contract.model import Contract
from ..probes.observe import Changes, changes, observe
from . import expect
from .aids.drawn_arguments import settings_of, single_settings
from .aids.resolution import overrides
from .aids.server_args import Configuration
from .declare import in_probe, requirement

_MEMBER = "apply_server_args_defaults"
_HINT = "set a field only where it still has its default; refuse what the device cannot do with a ValueError"


@requirement("ARG-001")
@in_probe
def test_each_setting_of_the_user_is_kept(platform: Any, contract: Contract) -> None:
    for chosen in single_settings(contract.release):
        _expect_kept(platform, contract, chosen)


@requirement("ARG-001")
@in_probe
@given(data=st.data())
def test_what_the_user_set_together_is_kept(platform: Any, contract: Contract, data: st.DataObject) -> None:
    _expect_kept(platform, contract, data.draw(settings_of(contract.release), label="the user's settings"))


@requirement("ARG-002")
@in_probe
def test_each_setting_is_taken_or_refused_with_a_value_error(platform: Any, contract: Contract) -> None:
    for chosen in ({}, *single_settings(contract.release)):
        _expect_taken_or_refused(platform, contract, chosen)


@requirement("ARG-002")
@in_probe
@given(data=st.data())
def test_settings_together_are_taken_or_refused_with_a_value_error(
    platform: Any, contract: Contract, data: st.DataObject
) -> None:
    chosen = data.draw(settings_of(contract.release), label="the user's settings")
    _expect_taken_or_refused(platform, contract, chosen)


@requirement("ARG-003")
@in_probe
def test_nothing_is_returned(platform: Any, contract: Contract) -> None:
    handed = Configuration(contract.release, platform.device_type, {}).handed
    answer = expect.ask(platform, _MEMBER, handed)
    expect.equal(
        expect.Answer(answer.value, _call({}), answer.where),
        None,
        cause="SGLang does not look at what is returned: assign to the argument's fields",
    )


@requirement("ARG-004")
@in_probe
def test_applying_twice_changes_nothing_more(platform: Any, contract: Contract) -> None:
    for chosen in ({}, *single_settings(contract.release)):
        configuration = _applied(platform, contract, chosen)
        if configuration is None:
            continue
        first = configuration.values
        again = Configuration(contract.release, platform.device_type, first)
        expect.ask(platform, _MEMBER, again.handed)
        expect.that(
            not again.changed,
            expected=_listed({name: first[name] for name in again.changed}),
            seen=_listed(again.changed),
            call=f"{_call(chosen)}, and once more on the result",
            where=expect.place_of(platform, _MEMBER),
            cause="it sets a field relative to what is there",
        )


@requirement("ARG-005")
@in_probe
def test_one_configuration_does_not_reach_another(platform: Any, contract: Contract) -> None:
    before = _defaults(platform, contract)
    for chosen in single_settings(contract.release):
        _applied(platform, contract, chosen)
        after = _defaults(platform, contract)
        differing = {name: value for name, value in {**before, **after}.items() if before.get(name) != after.get(name)}
        expect.that(
            not differing,
            expected=f"the platform's choices as before: {_listed(before) or 'none'}",
            seen=_listed(after) or "none",
            call=f"{_call({})}, after {_call(chosen)}",
            where=expect.place_of(platform, _MEMBER),
            cause="the platform keeps something of the configuration that it saw before",
        )


@requirement("ARG-006")
@in_probe
def test_values_are_assigned_and_not_altered_in_place(platform: Any, contract: Contract) -> None:
    for chosen in ({}, *single_settings(contract.release)):
        configuration = _applied(platform, contract, chosen)
        altered = configuration.changed_in_place if configuration else {}
        expect.that(
            not altered,
            expected="the values that SGLang handed over as they were, and new ones assigned",
            seen=f"altered in place: {_listed(altered)}",
            call=_call(chosen),
            where=expect.place_of(platform, _MEMBER),
            cause="SGLang records assignments to the argument's fields, and sees no change within a value",
        )


@requirement("ARG-007")
@in_probe
def test_only_fields_of_the_release_are_set(platform: Any, contract: Contract) -> None:
    configuration = _applied(platform, contract, {})
    unknown = configuration.unknown if configuration else {}
    expect.that(
        not unknown,
        expected=f"fields that ServerArgs of SGLang {contract.release} has",
        seen=f"also {_listed(unknown)}",
        call=_call({}),
        where=expect.place_of(platform, _MEMBER),
        cause="misspelt, or of another release; nobody reads it. Ask with hasattr() first",
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


def _expect_kept(platform: Any, contract: Contract, chosen: Mapping[str, Any]) -> None:
    configuration = _applied(platform, contract, chosen)
    if configuration is None:
        return
    now = configuration.values
    lost = {name: now[name] for name, value in chosen.items() if now[name] != value}
    expect.that(
        not lost,
        expected=f"the user's {_listed({name: chosen[name] for name in lost})}",
        seen=_listed(lost),
        call=_call(chosen),
        where=expect.place_of(platform, _MEMBER),
        cause=_HINT,
    )


def _expect_taken_or_refused(platform: Any, contract: Contract, chosen: Mapping[str, Any]) -> None:
    configuration = Configuration(contract.release, platform.device_type, chosen)
    try:
        expect.ask(platform, _MEMBER, configuration.handed)
    except expect.Violation as violation:
        if chosen and isinstance(violation.__context__, ValueError):
            return
        told = "no error, or a ValueError that refuses" if chosen else "no error"
        expect.fail(**{**violation.finding, "call": _call(chosen), "expected": told})


def _applied(platform: Any, contract: Contract, chosen: Mapping[str, Any]) -> Configuration | None:
    """The configuration after the platform applied its defaults; None where it raised, which ARG-002 judges."""
    configuration = Configuration(contract.release, platform.device_type, chosen)
    try:
        expect.ask(platform, _MEMBER, configuration.handed)
    except expect.Violation:
        return None
    return configuration


def _defaults(platform: Any, contract: Contract) -> dict[str, Any]:
    """What the platform chooses for a user who set nothing."""
    configuration = _applied(platform, contract, {})
    return configuration.changed if configuration else {}


def _observed(platform: Any, contract: Contract) -> Changes:
    """What the platform's part in resolving the arguments does to the process, which is the launcher's."""
    before = observe()
    _applied(platform, contract, {})
    if platform.is_out_of_tree() and overrides(platform, "get_default_attention_backend"):
        expect.ask(platform, "get_default_attention_backend")
    return changes(before, observe())


def _expect_nothing(seen: Mapping[str, tuple[str, ...]], expected: str, platform: Any) -> None:
    told = "; ".join(f"{what}: {', '.join(names[:4])}" for what, names in seen.items() if names)
    expect.that(not told, expected=expected, seen=told, call=_call({}), where=expect.place_of(platform, _MEMBER))


def _call(chosen: Mapping[str, Any]) -> str:
    return f"platform.{_MEMBER}(ServerArgs({_listed(chosen)}))"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={expect.show(value, 60)}" for name, value in values.items())
