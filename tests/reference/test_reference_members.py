from __future__ import annotations

import builtins
import enum
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, get_args

import pytest

from sglang_conformance.contract import tables
from sglang_conformance.contract.model import Member

RELEASES = tables.releases()
MEMBERS = tables.load("0.5.23").members


@pytest.fixture
def classes(install: Any, module: Callable[[str], Any]) -> Callable[[str], dict[str, Any]]:
    def of(release: str) -> dict[str, Any]:
        install(release)
        return {
            "DeviceMixin": module("sglang.srt.platforms.device_mixin").DeviceMixin,
            "SRTPlatform": module("sglang.srt.platforms.interface").SRTPlatform,
        }

    return of


@pytest.mark.parametrize("release", RELEASES)
def test_classes_have_the_tables_members_and_no_others(classes: Any, release: str) -> None:
    for owner, cls in classes(release).items():
        own = {n for n in vars(cls) if not n.startswith("__")}
        assert own == {m.name for m in tables.load(release).members if m.owner == owner}


@pytest.mark.parametrize("member", MEMBERS, ids=[m.name for m in MEMBERS])
def test_member_has_the_tables_kind_signature_and_default(classes: Any, member: Member) -> None:
    _check_member(classes("0.5.23"), member)


@pytest.mark.parametrize("release", RELEASES[:-1])
def test_members_of_earlier_releases_are_as_in_their_tables(classes: Any, release: str) -> None:
    found = classes(release)
    for member in tables.load(release).members:
        _check_member(found, member)


def _check_member(found: dict[str, Any], member: Member) -> None:
    cls, platform = found[member.owner], found["SRTPlatform"]()
    raw = vars(cls)[member.name]
    if member.kind == "attribute":
        _check_attribute(raw, member)
        return
    function = {"classmethod": "__func__", "property": "func"}.get(member.kind)
    function = getattr(raw, function) if function else raw
    kinds = {"classmethod": classmethod, "property": functools.cached_property}
    assert type(raw) is kinds.get(member.kind, types.FunctionType)
    assert hasattr(raw, "__wrapped__") == (member.kind in ("contextmanager", "classmethod"))
    signature = inspect.signature(function)
    assert str(signature).replace("'", "") == member.signature
    assert function.__qualname__ == f"{member.owner}.{member.name}"
    assert function.__module__ == cls.__module__
    if member.kind != "property":
        _check_calls(platform, member, signature)


def _check_attribute(value: Any, member: Member) -> None:
    if member.name == "_enum":
        assert isinstance(value, enum.Enum)
        assert value.name == member.default.value
    elif member.default.kind == "returns":
        assert value == member.default.value
    else:
        assert member.name == "capabilities"
        assert type(value).__name__ == "PlatformCapabilities"


def _check_calls(platform: Any, member: Member, signature: inspect.Signature) -> None:
    needed = [p for p in list(signature.parameters.values())[1:] if p.default is inspect.Parameter.empty]
    method = getattr(platform, member.name)
    assert list(inspect.signature(method).parameters) == list(signature.parameters)[1:]
    with pytest.raises(TypeError, match=member.name):
        method(**{p.name: None for p in needed}, no_such_argument=1)
    if needed:
        with pytest.raises(TypeError, match=needed[0].name):
            method()
    if member.default.kind == "code":
        return
    arguments = {p.name: object() for p in needed}
    if member.default.kind == "raises":
        with pytest.raises(getattr(builtins, member.default.value)) as caught:
            method(**arguments)
        assert type(caught.value).__name__ == member.default.value
    else:
        assert method(**arguments) == member.default.value


@pytest.mark.parametrize("release", RELEASES)
def test_enums_are_the_tables_numbered_from_one(install: Any, module: Callable[[str], Any], release: str) -> None:
    table = install(release)
    mixin = module("sglang.srt.platforms.device_mixin")
    for name in ("platform_enum", "cpu_arch_enum"):
        kind = {"platform_enum": mixin.PlatformEnum, "cpu_arch_enum": mixin.CpuArchEnum}[name]
        assert [(m.name, m.value) for m in kind] == [(n, i) for i, n in enumerate(table[name], 1)]
        assert kind.__module__ == mixin.__name__


@pytest.mark.parametrize("release", RELEASES)
def test_identity_queries_follow_the_enum(install: Any, module: Callable[[str], Any], release: str) -> None:
    table = install(release)
    mixin = module("sglang.srt.platforms.device_mixin")
    base = module("sglang.srt.platforms.interface").SRTPlatform
    queries = {n: n[3:].upper() for n in vars(mixin.DeviceMixin) if n.startswith("is_")}
    queries = {q: n for q, n in queries.items() if n in table["platform_enum"]} | {"is_out_of_tree": "OOT"}
    assert len(queries) == len(table["platform_enum"]) - 1  # all but UNSPECIFIED
    alike = {"CUDA", "ROCM", "MUSA", "SAIL"}
    for kind in mixin.PlatformEnum:
        platform = type("Vendor", (base,), {"_enum": kind})()
        assert {q for q in queries if getattr(platform, q)()} == {q for q, n in queries.items() if n == kind.name}
        assert platform.is_cuda_alike() == (kind.name in alike)
    # A name is not the member: such a platform is nothing at all.
    assert not any(getattr(type("Vendor", (base,), {"_enum": "OOT"})(), q)() for q in queries)


def test_computed_defaults_of_0_5_23(install: Any, module: Callable[[str], Any]) -> None:
    torch = pytest.importorskip("torch")
    install("0.5.23")
    base = module("sglang.srt.platforms.interface").SRTPlatform
    platform = base()
    with platform.reindex_device_id(3) as index:
        assert index == 3
    assert [type("V", (base,), {"device_type": d})().get_torch_distributed_backend_str() for d in ("npu", "mlu")] == [
        "hccl",
        "gloo",
    ]
    assert platform.get_group_coordinator_device(local_rank=5) == torch.device("cpu")
    with platform.inference_mode():
        assert torch.is_inference_mode_enabled()
    assert platform.capabilities == type(platform.capabilities)()
    assert repr(type("Vendor", (base,), {"device_name": "sim"})()) == "Vendor(device=sim)"


def test_seeding_makes_every_generator_repeat_itself(install: Any, module: Callable[[str], Any]) -> None:
    import random

    import numpy as np
    import torch

    install("0.5.11")
    base = module("sglang.srt.platforms.interface").SRTPlatform

    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    base.seed_everything(7)
    first = drawn()
    base.seed_everything()
    assert drawn() != first
    base.seed_everything(seed=7)
    assert drawn() == first


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ("x86_64", "X86"),
        ("AMD64", "X86"),
        ("i686", "X86"),
        ("aarch64", "ARM"),
        ("arm64", "ARM"),
        ("s390x", "UNSPECIFIED"),
    ],
)
def test_cpu_architecture_comes_from_the_machine(
    install: Any, module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, machine: str, expected: str
) -> None:
    install()
    monkeypatch.setattr("platform.machine", lambda: machine)
    platform = module("sglang.srt.platforms.interface").SRTPlatform()
    assert platform.get_cpu_architecture().name == expected
    assert platform.cpu_arch.name == expected
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert platform.cpu_arch.name == expected  # computed once an instance


def test_capabilities_are_frozen_keyword_only_and_compared_by_value(install: Any, module: Callable[[str], Any]) -> None:
    table = install()
    kind = module("sglang.srt.platforms.interface").PlatformCapabilities
    assert {name: getattr(kind(), name) for name in table["capabilities"]} == table["capabilities"]
    declared = kind(graph_capture=True)
    assert declared.graph_capture is True
    assert declared != kind()
    assert hash(declared) == hash(kind(graph_capture=True))
    with pytest.raises(AttributeError):
        declared.graph_capture = False
    with pytest.raises(TypeError):
        kind(True)
    with pytest.raises(TypeError):
        kind(supports_fp8=True)


def test_kv_pool_falls_back_to_the_legacy_hook_and_warns_once_a_class(
    install: Any, module: Callable[[str], Any], log: pytest.LogCaptureFixture
) -> None:
    install()
    interface = module("sglang.srt.platforms.interface")

    class Pool: ...

    class Vendor(interface.SRTPlatform):  # type: ignore[misc, name-defined]
        def get_mla_kv_pool_cls(self) -> type:
            return Pool

    class Successor(Vendor): ...

    assert interface.SRTPlatform().get_kv_pool_cls(kind="mla") is None
    assert Vendor().get_kv_pool_cls(kind="mha") is None
    assert not log.records
    assert [Vendor().get_kv_pool_cls(kind="mla") for _ in range(3)] == [Pool] * 3
    assert Successor().get_kv_pool_cls(kind="mla") is Pool
    warnings = [(r.name, r.levelname, "get_mla_kv_pool_cls" in r.getMessage()) for r in log.records]
    assert warnings == [("sglang.srt.platforms.interface", "WARNING", True)] * 2
    with pytest.raises(KeyError):
        Vendor().get_kv_pool_cls(kind="mamba")
    assert get_args(interface.KVPoolKind) == ("mha", "mla", "dsa")


def test_out_of_tree_platforms_are_refused_where_they_provide_nothing(
    install: Any, module: Callable[[str], Any]
) -> None:
    install()
    interface = module("sglang.srt.platforms.interface")
    kinds = interface.PlatformEnum
    ours = type("Vendor", (interface.SRTPlatform,), {"_enum": kinds.OOT, "device_name": "sim"})()
    interface.require_out_of_tree_impl(interface.SRTPlatform(), hook="get_x", subsystem="an x")
    interface.reject_out_of_tree_path(interface.SRTPlatform(), subsystem="an x")
    with pytest.raises(NotImplementedError, match=r"Vendor \(device 'sim'\) has no an x.*override get_x"):
        interface.require_out_of_tree_impl(ours, hook="get_x", subsystem="an x")
    with pytest.raises(NotImplementedError, match=r"Vendor \(device 'sim'\) came to the y path"):
        interface.reject_out_of_tree_path(ours, subsystem="the y path")


def test_names_of_later_releases_are_absent_from_0_5_11(install: Any, module: Callable[[str], Any]) -> None:
    install("0.5.11")
    interface = module("sglang.srt.platforms.interface")
    later = {"KVPoolKind", "PlatformCapabilities", "require_out_of_tree_impl", "reject_out_of_tree_path"}
    assert not later & set(vars(interface))
    assert sorted(interface.__all__) == ["PlatformEnum", "SRTPlatform"]
    assert not hasattr(module("sglang.srt.platforms.device_mixin"), "_DEVICE_TO_DISTRIBUTED_BACKEND")


def test_device_capability_compares_as_a_pair(install: Any, module: Callable[[str], Any]) -> None:
    install()
    capability = module("sglang.srt.platforms.device_mixin").DeviceCapability
    assert capability(9, 0) > capability(8, 9)
    assert (capability(8, 9).as_version_str(), capability(8, 9).to_int()) == ("8.9", 89)
    with pytest.raises(AssertionError):
        capability(8, 10).to_int()
