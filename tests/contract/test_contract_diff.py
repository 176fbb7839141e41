from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sglang_conformance.contract import tables
from sglang_conformance.contract.diff import Area, Change, ContractDiff, diff
from sglang_conformance.contract.model import (
    BackendSwitch,
    BackendTable,
    CallSite,
    Contract,
    Default,
    Deprecation,
    EnvironmentVariable,
    Member,
    Shape,
)

SITE = CallSite("srt/a.py", 3, Shape())


def member(name: str, signature: str = "(self) -> bool", *calls: CallSite, **other: Any) -> Member:
    default = other.pop("default", Default("raises", "NotImplementedError"))
    return Member(name, other.pop("owner", "SRTPlatform"), other.pop("kind", "method"), signature, default, None, calls)


def contract(*members: Member, **other: Any) -> Contract:
    facts: dict[str, Any] = {
        "release": "1.0",
        "groups": {"platforms": "a.platforms"},
        "environment": (),
        "platform_enum": ("CPU",),
        "cpu_arch_enum": (),
        "capabilities": {},
        "kv_pool_kinds": (),
        "legacy_kv_pool_hooks": {},
        "backends": BackendTable({"cpu": "gloo"}, (), "gloo", asks_platform=False),
        "detection": (),
        "deprecations": (),
    }
    return Contract(**{**facts, **other}, members=members)


def changes(a: Contract, b: Contract) -> list[tuple[str, str, str, str]]:
    return [(change.kind, change.name, change.before, change.after) for change in diff(a, b).changes]


def of_members(a: Member, b: Member) -> list[tuple[str, str, str, str]]:
    return changes(contract(a), contract(b))


def test_equal_contracts_have_no_difference() -> None:
    assert diff(contract(member("f")), contract(member("f"), release="2.0")) == ContractDiff("1.0", "2.0", ())


def test_a_member_comes_and_goes() -> None:
    text = "(self) -> bool; default: raises NotImplementedError; used in srt/a.py:3"
    plain = contract(member("f"))
    more = contract(member("f"), member("g", "(self) -> bool", SITE))
    assert changes(plain, more) == [("added", "g", "", text)]
    assert changes(more, plain) == [("removed", "g", text, "")]


@pytest.mark.parametrize(
    ("a", "b", "found"),
    [
        (
            member("f"),
            member("f", "(self, x) -> bool"),
            [("signature changed", "f", "(self) -> bool", "(self, x) -> bool")],
        ),
        (member("f"), member("f", owner="DeviceMixin"), [("moved", "f", "SRTPlatform", "DeviceMixin")]),
        (member("f"), member("f", kind="property"), [("kind changed", "f", "method", "property")]),
        (
            member("f"),
            member("f", default=Default("returns", False)),
            [("default changed", "f", "raises NotImplementedError", "False")],
        ),
        (
            member("f", default=Default("noop")),
            member("f", default=Default("code")),
            [("default changed", "f", "does nothing", "computed")],
        ),
        (member("f"), member("f", "(self) -> bool", SITE), [("became called", "f", "", "srt/a.py:3")]),
        (
            member("f", "(self) -> bool", SITE, SITE),
            member("f"),
            [("stopped being called", "f", "srt/a.py:3 and 1 more", "")],
        ),
    ],
)
def test_each_change_of_a_member_is_told(a: Member, b: Member, found: list[tuple[str, str, str, str]]) -> None:
    assert of_members(a, b) == found


def test_a_call_of_another_shape_is_told_and_another_place_or_fewer_shapes_are_not() -> None:
    one, other = CallSite("srt/a.py", 3, Shape(1)), CallSite("srt/b.py", 9, Shape(0, ("device",)))
    read = CallSite("srt/b.py", 9)
    f = "(self, device=None)"
    told = [("called otherwise", "f", "(_)", "(_) or (device=)")]
    assert of_members(member("f", f, one), member("f", f, one, other)) == told
    assert of_members(member("f", f, one, other), member("f", f, one)) == []
    assert of_members(member("f", f, one), member("f", f, dataclasses.replace(one, line=7))) == []
    assert of_members(member("f", f, read), member("f", f, one)) == [("called otherwise", "f", "only read", "(_)")]


def test_a_member_is_likely_renamed_where_two_signs_say_so() -> None:
    def pair(old: Member, new: Member, *around: Member) -> tuple[Change, ...]:
        return diff(contract(*around[:1], old, *around[1:]), contract(*around[:1], new, *around[1:])).changes

    renamed = (Change("members", "renamed", "get_nsa_cls", after="get_dsa_cls", likely=True),)
    f, old, new = member("f"), member("get_nsa_cls"), member("get_dsa_cls")
    assert pair(old, new, f) == renamed  # words of the name, and the neighbour
    called = [dataclasses.replace(each, calls=(SITE,)) for each in (old, new)]
    assert pair(*called, f, f) == renamed
    assert pair(*called) == renamed  # words, and the caller
    apart = [dataclasses.replace(called[0], name="one"), dataclasses.replace(called[1], name="two")]
    assert [change.kind for change in pair(*apart, f)] == ["renamed"]  # the caller, and the neighbour


def test_what_only_resembles_a_rename_is_removed_and_added() -> None:
    f, old, new = member("f"), member("get_nsa_cls"), member("get_dsa_cls")

    def kinds(a: Contract, b: Contract) -> list[str]:
        return [change.kind for change in diff(a, b).changes]

    apart = ["added", "removed"]
    assert kinds(contract(f, old), contract(f, dataclasses.replace(new, signature="(self, x)"))) == apart
    assert kinds(contract(f, old), contract(f, dataclasses.replace(new, kind="property"))) == apart
    assert kinds(contract(f, old), contract(f, member("seed"))) == apart  # the neighbour alone
    assert kinds(contract(old), contract(new)) == apart  # the words alone
    two = contract(f, new, member("get_xsa_cls"), f)
    assert sorted(kinds(contract(f, old, f), two)) == ["added", "added", "removed"]  # which of them, cannot be told


def test_a_renamed_member_that_changed_too_says_both() -> None:
    f = member("f")
    found = changes(contract(f, member("get_nsa_cls")), contract(f, member("get_dsa_cls", "(self) -> bool", SITE)))
    assert found == [("renamed", "get_nsa_cls", "", "get_dsa_cls"), ("became called", "get_dsa_cls", "", "srt/a.py:3")]


@pytest.mark.parametrize(
    ("area", "before", "after", "found"),
    [
        (
            "capabilities",
            {"capabilities": {"a": False}},
            {"capabilities": {"a": True, "b": False}},
            ["added b", "default changed a"],
        ),
        ("platform enum", {"platform_enum": ("A", "B")}, {"platform_enum": ("B", "C")}, ["added C", "removed A"]),
        ("CPU architectures", {"cpu_arch_enum": ()}, {"cpu_arch_enum": ("X",)}, ["added X"]),
        ("KV pool kinds", {"kv_pool_kinds": ("m",)}, {"kv_pool_kinds": ()}, ["removed m"]),
        ("entry-point groups", {"groups": {"p": "x"}}, {"groups": {"p": "y"}}, ["changed p"]),
        ("detection", {"detection": ("a", "b")}, {"detection": ("b", "c", "a")}, ["added c", "order changed order"]),
        ("detection", {"detection": ("a", "b")}, {"detection": ("a", "c", "b")}, ["added c"]),
        (
            "environment",
            {"environment": (EnvironmentVariable("X", "str", ""),)},
            {"environment": (EnvironmentVariable("X", "bool", False), EnvironmentVariable("Y", "int", 0))},
            ["added Y", "default changed X"],
        ),
        (
            "backends",
            {},
            {"backends": BackendTable({"cpu": "mpi", "x": "y"}, (BackendSwitch("x", "V", 0, "z"),), "none", True)},
            [
                "added x",
                "added x, V above 0",
                "changed cpu",
                "changed any other device",
                "changed who is asked",
            ],
        ),
        (
            "deprecations",
            {
                "deprecations": (
                    Deprecation("variable", "A", "B", "a.py", 1),
                    Deprecation("variable", "C", "", "a.py", 2),
                )
            },
            {
                "deprecations": (
                    Deprecation("variable", "A", "D", "a.py", 8),
                    Deprecation("member", "m", "n", "a.py", 3),
                )
            },
            ["deprecated m", "changed A", "removed C"],
        ),
    ],
)
def test_what_is_no_member_is_compared_by_name(
    area: Area, before: dict[str, Any], after: dict[str, Any], found: list[str]
) -> None:
    difference = diff(contract(**before), contract(**after))
    assert [f"{change.kind} {change.name}" for change in difference.changes] == found
    assert difference.of(area) == difference.changes


def history(older: str, newer: str) -> set[tuple[str, str, str]]:
    return {(each.area, each.kind, each.name) for each in diff(tables.load(older), tables.load(newer)).changes}


def test_the_known_history_of_0_5_13_is_told() -> None:
    found = diff(tables.load("0.5.12"), tables.load("0.5.13"))
    assert history("0.5.12", "0.5.13") >= {
        ("members", "renamed", "get_nsa_kv_pool_cls"),
        ("members", "signature changed", "get_device"),
        ("members", "became called", "synchronize"),
        ("members", "became called", "empty_cache"),
        ("members", "added", "get_quantization_config"),
        ("detection", "added", "cuda"),
        ("detection", "added", "rocm"),
    }
    device = next(change for change in found.changes if change.name == "get_device" and change.before)
    assert (device.before, device.after) == (
        "(self, local_rank: int) -> torch.device",
        "(self, device_id: int = 0) -> str",
    )


def test_the_known_history_of_0_5_22_and_0_5_23_is_told() -> None:
    flags = ("support_cuda_graph", "support_piecewise_cuda_graph", "supports_fp8")
    hooks = tuple(f"get_{kind}_kv_pool_cls" for kind in ("mha", "mla", "dsa"))
    assert history("0.5.21", "0.5.22") >= {
        *(("members", "removed", name) for name in (*flags, *hooks)),
        *(("deprecations", "deprecated", name) for name in hooks),
        *(("members", "added", name) for name in ("capabilities", "get_kv_pool_cls", "post_load_model", "cpu_arch")),
        *(("capabilities", "added", name) for name in ("graph_capture", "piecewise_graph", "supports_triton")),
        ("members", "default changed", "get_graph_runner_cls"),
    }
    assert history("0.5.22", "0.5.23") >= {
        ("capabilities", "added", "supports_pynccl"),
        ("members", "added", "is_sail"),
        ("platform enum", "added", "SAIL"),
        ("members", "added", "get_group_coordinator_device"),
    }


def test_a_post_release_that_changed_nothing_for_platforms_has_no_difference() -> None:
    assert history("0.5.13", "0.5.13.post1") == set()
