"""ID: what the platform says it is, and whether its class is composed so that SGLang hears it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import inspect
from typing import Any

from ..contract.model import Contract, Member
from ..hosts.story import Story
from ..subject import Subject
from . import expect
from .aids.calling import forms_in_core, forms_of, need_fit, overridden
from .aids.resolution import is_sglangs, overrides, owner, start_device, vendor_owner
from .aids.unread import unread
from .declare import in_controller, in_probe, requirement
from .steps import came_through, started_no_device, walked

# SGLang 0.5.11 and 0.5.23, srt/platforms/device_mixin.py; SAIL came with 0.5.23.
CUDA_ALIKE = ("CUDA", "ROCM", "MUSA", "SAIL")

# Devices that SGLang serves by itself in every release, also before it had platform classes for them.
TORCHS_OWN = ("cpu", "cuda")

# What a release no longer reads, and what took its place (SGLang 0.5.13 and 0.5.22, srt/platforms/interface.py).
REPLACED = {
    "support_cuda_graph": ("capabilities",),
    "support_piecewise_cuda_graph": ("capabilities",),
    "get_mha_kv_pool_cls": ("get_kv_pool_cls",),
    "get_mla_kv_pool_cls": ("get_kv_pool_cls",),
    "get_dsa_kv_pool_cls": ("get_kv_pool_cls",),
    "get_nsa_kv_pool_cls": ("get_dsa_kv_pool_cls", "get_kv_pool_cls"),
}


@requirement("ID-001")
@in_controller
def test_platform_class_constructs_without_arguments(story: Story) -> None:
    answer = str(walked(story, "activate").value.get("answer"))
    came_through(
        story,
        "construct",
        call=f"{answer.rpartition('.')[2]}()",
        cause="SGLang makes the platform with no arguments, in every process, before any device is started",
    )


@requirement("ID-002")
@in_probe
def test_enum_of_a_plugin_is_oot(platform: Any) -> None:
    from sglang.srt.platforms.device_mixin import PlatformEnum

    _expect_enum(platform, PlatformEnum.OOT)


@requirement("ID-003")
@in_probe
def test_enum_of_a_built_in_platform_is_that_of_its_name(platform: Any, subject: Subject) -> None:
    from sglang.srt.platforms.device_mixin import PlatformEnum

    _expect_enum(platform, PlatformEnum[subject.name.upper()])


def _expect_enum(platform: Any, expected: Any) -> None:
    found = owner(platform, "_enum")
    expect.that(
        platform._enum is expected,
        expected=f"PlatformEnum.{expected.name}",
        seen=expect.show(platform._enum),
        call="platform._enum",
        where=expect.place(found) if found is not None and not is_sglangs(found) else "",
        cause="SGLang takes its out-of-tree branches only where _enum is PlatformEnum.OOT",
    )


@requirement("ID-004")
@in_probe
def test_identity_queries_agree_with_the_enum(platform: Any, contract: Contract) -> None:
    for kind in contract.platform_enum:
        member = "is_out_of_tree" if kind == "OOT" else f"is_{kind.lower()}"
        if contract.has(member):
            _expect_query(platform, member, _kind(platform) == kind)


@requirement("ID-005")
@in_probe
def test_cuda_alike_follows_from_the_enum(platform: Any) -> None:
    _expect_query(platform, "is_cuda_alike", _kind(platform) in CUDA_ALIKE)


def _kind(platform: Any) -> str:
    return str(getattr(platform._enum, "name", platform._enum))


def _expect_query(platform: Any, member: str, expected: bool) -> None:
    answer = expect.ask(platform, member)
    expect.that(
        answer.value is expected,
        expected=f"{expected}, since _enum is {_kind(platform)}",
        seen=expect.show(answer.value),
        answer=answer,
        cause="an identity query is overridden and contradicts _enum; SGLang asks sometimes one, sometimes the other",
    )


@requirement("ID-006")
@in_probe
def test_device_name_and_type_are_texts(platform: Any) -> None:
    for attribute in ("device_name", "device_type"):
        text = getattr(platform, attribute)
        expect.that(
            isinstance(text, str) and text.strip() == text != "",
            expected="a text, neither empty nor with blanks around it",
            seen=expect.show(text),
            call=f"platform.{attribute}",
            where=expect.place_of(platform, attribute),
        )


@requirement("ID-007")
@in_probe
def test_device_name_and_type_stand_on_the_class(platform: Any) -> None:
    for attribute in ("device_name", "device_type"):
        found, on_instance = owner(platform, attribute), getattr(platform, attribute)
        if found is not None and hasattr(vars(found)[attribute], "__get__"):
            continue  # a property, which answers on the instance, where SGLang reads
        on_class = getattr(type(platform), attribute, None)
        expect.that(
            on_class == on_instance,
            expected=f"{on_instance!r}, as on the instance",
            seen=expect.show(on_class),
            call=f"{type(platform).__name__}.{attribute}",
            where=expect.place(type(platform)),
            cause="it is set in __init__: make it an attribute of the class, or a property",
        )


@requirement("ID-008")
@in_probe
def test_device_name_is_the_vendors_own(platform: Any, contract: Contract) -> None:
    taken = {*contract.detection, *TORCHS_OWN, "unknown"}
    expect.that(
        platform.device_name not in taken,
        expected="a name that is no built-in platform's of this release, nor cuda, cpu, or the default 'unknown'",
        seen=repr(platform.device_name),
        call="platform.device_name",
        where=expect.place_of(platform, "device_name"),
    )


@requirement("ID-009")
@in_probe
def test_device_type_is_one_that_torch_knows(platform: Any) -> None:
    import torch

    name = platform.device_type
    try:
        device = torch.device(name)
    except RuntimeError:
        start_device(platform)
        device = expect.attempt(
            f"torch.device({name!r})",
            lambda: torch.device(name),
            where=expect.place_of(platform, "device_type"),
            cause="torch does not know the device type, even after init_backend(): misspelt, or never registered",
        ).value
    expect.that(
        device.index is None,
        expected="a device type without an index",
        seen=repr(name),
        call="platform.device_type",
        where=expect.place_of(platform, "device_type"),
        cause="SGLang compares it with the type of a device, and puts the index on itself",
    )


@requirement("ID-010")
@in_probe
def test_no_override_is_shadowed_by_a_default(platform: Any, contract: Contract) -> None:
    for member in _used(contract):
        vendors, used = vendor_owner(platform, member.name), owner(platform, member.name)
        if vendors is None or used is vendors:
            continue
        order = ", ".join(base.__name__ for base in type(platform).__mro__[:-1])
        expect.fail(
            expected=f"{vendors.__name__}.{member.name}",
            seen=f"{used.__name__ if used else 'nothing'}.{member.name}, SGLang's default",
            call=f"platform.{member.name}",
            where=expect.place(vars(vendors)[member.name]) or expect.place(vendors),
            cause=f"Python looks in the order {order}; derive the mixin from DeviceMixin, and let the class that "
            f"defines {member.name} come before {used.__name__ if used else 'SGLang'}",
        )


@requirement("ID-011")
@in_probe
def test_overrides_take_what_sglang_passes(platform: Any, contract: Contract) -> None:
    for member, accepted in overridden(platform, _used(contract)):
        need_fit(platform, member, accepted, forms_in_core(member), of="SGLang's core calls it so")


@requirement("ID-012")
@in_probe
def test_methods_are_methods_and_attributes_are_attributes(platform: Any, contract: Contract) -> None:
    for member in _used(contract):
        if not overrides(platform, member.name):
            continue
        answers = getattr(platform, member.name)
        is_method = member.kind not in ("attribute", "property")
        awaited = inspect.iscoroutinefunction(answers)
        right = callable(answers) and not awaited if is_method else not inspect.isroutine(answers)
        expect.that(
            right,
            expected="an ordinary method, which SGLang calls" if is_method else "a value, which SGLang does not call",
            seen="a coroutine function" if awaited else f"{expect.show(answers)} ({type(answers).__name__})",
            call=f"platform.{member.name}",
            where=expect.place_of(platform, member.name),
        )


@requirement("ID-013")
@in_probe
def test_nothing_is_declared_only_under_a_name_of_the_past(platform: Any, contract: Contract) -> None:
    for old, replacements in REPLACED.items():
        present = [name for name in replacements if contract.has(name)]
        if contract.has(old) or not present or vendor_owner(platform, old) is None:
            continue
        if any(overrides(platform, name) for name in present) or _declines(platform, old):
            continue
        expect.fail(
            expected=f"{' or '.join(present)}, which SGLang {contract.release} reads",
            seen=f"only {old}, of earlier releases",
            call=f"platform.{old}",
            where=expect.place_of(platform, old),
        )


@requirement("ID-014")
@in_controller
def test_constructing_starts_no_device(story: Story) -> None:
    started_no_device(walked(story, "construct"), call="the platform class, called without arguments")


@requirement("ID-015")
@in_probe
def test_overrides_take_what_the_contract_declares(platform: Any, contract: Contract) -> None:
    for member, accepted in overridden(platform, contract.members):
        need_fit(
            platform, member, accepted, forms_of(member), of="the contract declares it; no call of SGLang's does it"
        )


@requirement("ID-016")
@in_probe
def test_no_method_only_looks_like_an_override(platform: Any, contract: Contract) -> None:
    for defined_by, name, instead in unread(platform, contract, REPLACED):
        definition = inspect.getattr_static(defined_by, name)
        expect.fail(
            expected=f"{instead}, which SGLang {contract.release} reads" if instead else "only what SGLang reads",
            seen=f"{name}, which it does not read",
            call=f"platform.{name}",
            where=expect.place(getattr(definition, "__func__", definition)) or expect.place(defined_by),
            cause="a misspelt override, or one of another engine's interface, is never run",
        )


def _used(contract: Contract) -> tuple[Member, ...]:
    """What SGLang uses: the members with call sites, and the enum that the identity queries read."""
    return tuple(m for m in contract.members if m.calls or m.name == "_enum")


def _declines(platform: Any, old: str) -> bool:
    """Whether an old flag answers no, so that nothing is lost when it is not read."""
    if not old.startswith("support"):
        return False
    return not expect.ask(platform, old).value
