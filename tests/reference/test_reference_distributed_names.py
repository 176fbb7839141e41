"""What the reference's ``sglang.srt.distributed`` offers in which release, under which names and signatures."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import sglang_reference
from sglang_conformance.contract import tables

Release = Callable[..., Any]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Release]:
    """The module of the groups at a release, also at one whose table is not here: the next one's serves."""
    monkeypatch.setenv("SGLANG_USE_CPU_ENGINE", "1")

    def installed(release: str, module: str = "distributed.parallel_state") -> Any:
        known = tables.releases()
        table = release if release in known else known[-1]
        sglang_reference.uninstall()
        sglang_reference.install({**tables.load(table).to_json(), "release": release})
        return importlib.import_module(f"sglang.srt.{module}")

    yield installed
    sglang_reference.uninstall()


@pytest.mark.parametrize(
    ("name", "first", "gone"),
    [
        ("ensure_model_parallel_initialized", "", "0.5.20"),
        ("set_pdmux_status", "", "0.5.21"),
        ("set_mscclpp_all_reduce", "", "0.5.21"),
        ("set_mscclpp", "0.5.21", ""),
        ("reg_all_to_all_single", "0.5.13", ""),
        ("get_dcp_group", "0.5.15", ""),
        ("get_attn_cp_overlap_group", "0.5.18", "0.5.20"),
        ("patch_pipeline_parallel_group", "0.5.19", ""),
        ("get_shared_experts_tp_group", "0.5.21", ""),
        ("GroupCoordinator.all_to_all_single", "0.5.13", ""),
        ("GroupCoordinator.reduce_scatter_along_dim", "0.5.15", ""),
        ("GroupCoordinator.cp_all_gather_into_tensor_async", "", "0.5.16"),
        ("GroupCoordinator.send_recv_tensor_dict", "0.5.20", ""),
    ],
)
def test_names_come_and_go_with_their_releases(at: Release, name: str, first: str, gone: str) -> None:
    for release, there in [(first, True), (gone, False), ("0.5.11", not first), ("0.5.23", not gone)]:
        if release:
            owner: Any = at(release)
            *path, last = name.split(".")
            for part in path:
                owner = getattr(owner, part)
            assert hasattr(owner, last) == there, release


def test_what_a_release_lacks_is_an_ordinary_error_and_what_only_sglang_has_is_not_covered(at: Release) -> None:
    state = at("0.5.23")
    with pytest.raises(AttributeError):
        state.set_pdmux_status  # noqa: B018
    with pytest.raises(AttributeError):
        sys.modules["sglang.srt.distributed"].set_pdmux_status  # noqa: B018
    with pytest.raises(sglang_reference.NotCovered, match="_is_npu"):
        state._is_npu  # noqa: B018
    with pytest.raises(sglang_reference.NotCovered):
        importlib.import_module("sglang.srt.distributed.bootstrap")


def test_sizes_are_arguments_before_0_5_21_and_in_a_context_from_then_on(at: Release) -> None:
    sizes = [
        "tensor_model_parallel_size",
        "expert_model_parallel_size",
        "pipeline_model_parallel_size",
        "attention_data_parallel_size",
        "attention_context_model_parallel_size",
        "moe_data_model_parallel_size",
    ]
    rest = ["backend", "duplicate_tp_group", "enable_symm_mem", "recovered_rank"]
    for release, expected in {
        "0.5.11": [*sizes, *rest],
        "0.5.15": [*sizes, "decode_context_parallel_size", *rest],
        "0.5.20": [*sizes, "decode_context_parallel_size", *rest, "rank_offset", "max_world_size"],
        "0.5.23": [*rest, "rank_offset", "max_world_size"],
    }.items():
        assert list(inspect.signature(at(release).initialize_model_parallel).parameters) == expected
    for release, error in {"0.5.13": ModuleNotFoundError, "0.5.20": sglang_reference.NotCovered}.items():
        at(release)
        with pytest.raises(error):
            importlib.import_module("sglang.srt.runtime_context")


def test_coordinator_takes_what_it_takes_in_each_release(at: Release) -> None:
    first = ["self", "group_ranks", "local_rank", "torch_distributed_backend", "use_pynccl"]
    then = ["use_custom_allreduce", "use_torch_symm_mem_all_reduce", "use_hpu_communicator", "use_xpu_communicator"]
    last = ["use_message_queue_broadcaster", "group_name", "gloo_timeout", "recovered_rank"]
    npu, elastic = ["use_npu_communicator"], ["rank_offset", "max_world_size"]
    for release, expected in {
        "0.5.11": [*first, "use_pymscclpp", *then, *npu, *last],
        "0.5.16": [*first, "use_pymscclpp", *then, *npu, *last, *elastic],
        "0.5.21": [*first, "use_mscclpp", *then, *npu, *last, *elastic],
        "0.5.23": [*first, "use_mscclpp", *then, *last, *elastic],
    }.items():
        parameters = inspect.signature(at(release).GroupCoordinator).parameters
        assert ["self", *parameters] == expected
        assert parameters["gloo_timeout"].default == timedelta(hours=2)


def test_parameter_that_a_release_lacks_is_refused(at: Release) -> None:
    group = object.__new__(at("0.5.11").GroupCoordinator)
    with pytest.raises(TypeError, match="tag"):
        group.send_object("x", dst=1, tag=3)
    with pytest.raises(TypeError, match="dst"):
        group.send_object("x")


def test_coordinator_is_known_by_sglangs_path(at: Release) -> None:
    state = at("0.5.23")
    assert f"{state.GroupCoordinator.__module__}.{state.GroupCoordinator.__qualname__}" == (
        "sglang.srt.distributed.parallel_state.GroupCoordinator"
    )
    assert sys.modules["sglang.srt.distributed"].GroupCoordinator is state.GroupCoordinator


@pytest.mark.parametrize(("release", "offered"), [("0.5.20", True), ("0.5.21", False)])
def test_package_offers_no_accessor_that_the_context_answers(at: Release, release: str, offered: bool) -> None:
    package = at(release, "distributed")
    for name in ("get_world_group", "get_pp_group", "get_tensor_model_parallel_rank", "get_world_size"):
        assert hasattr(package, name) == offered
    # These the package has all the same, by way of its collectives.
    assert package.get_tp_group is sys.modules["sglang.srt.distributed.parallel_state"].get_tp_group
    assert callable(package.tensor_model_parallel_all_reduce)
    assert package.divide(6, 3) == 2


def test_accessors_warn_once_that_the_context_answers(at: Release) -> None:
    state = at("0.5.23")
    world = SimpleNamespace(world_size=5)
    importlib.import_module("sglang.srt.runtime_context").get_parallel().override_permanently(world_group=world)
    with pytest.warns(DeprecationWarning, match=r"get_parallel\(\)\.launch_world_size") as caught:
        assert [state.get_world_size(), state.get_world_size()] == [5, 5]
    assert len(caught) == 1
    early = at("0.5.20")
    early._WORLD = SimpleNamespace(world_size=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert early.get_world_size() == 4


@pytest.mark.parametrize(
    ("hardware", "environment", "device"),
    [
        ("cuda", {}, "cuda:3"),
        ("rocm", {}, "cuda:3"),
        ("xpu", {}, "xpu:3"),
        ("", {}, "cpu"),
        ("cuda", {"SGLANG_ONE_VISIBLE_DEVICE_PER_PROCESS": "1"}, "cuda:0"),
        ("xpu", {"SGLANG_ONE_VISIBLE_DEVICE_PER_PROCESS": "1"}, "xpu:3"),
    ],
)
def test_groups_work_on_the_hardware_that_there_is(
    at: Release, monkeypatch: pytest.MonkeyPatch, hardware: str, environment: dict[str, str], device: str
) -> None:
    at("0.5.11")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    detectors: Any = importlib.import_module("sglang.srt._detection").DETECTORS
    for kind in list(detectors):
        monkeypatch.setitem(detectors, kind, lambda torch, kind=kind: kind == hardware)
    devices = importlib.import_module("sglang.srt.distributed._devices")
    assert devices._group_coordinator_device(3) == torch.device(device)


@pytest.mark.parametrize(("release", "asked"), [("0.5.11", False), ("0.5.23", True)])
def test_out_of_tree_platform_is_asked_for_the_groups_device_from_0_5_23_on(
    install: Any, module: Callable[[str], Any], platform_plugin: Any, release: str, asked: bool
) -> None:
    platform_plugin("mlu", "\nPlatform.get_group_coordinator_device = lambda self, n: f'mlu:{n + 1}'\n")
    install(release)
    assert hasattr(module("sglang.srt.distributed.parallel_state"), "_group_coordinator_device") is asked
    devices = module("sglang.srt.distributed._devices")
    assert str(devices._group_coordinator_device(3)) == ("mlu:4" if asked else "cpu")
    assert devices.wants_pynccl("mlu-backend") is not asked
    assert not devices.can_part_decode_context()


@pytest.mark.parametrize(("release", "backends"), [("0.5.21", ["own", "gloo"]), ("0.5.22", ["own", "own"])])
def test_platform_is_asked_for_its_name_too_from_0_5_22_on(
    install: Any, module: Callable[[str], Any], platform_plugin: Any, release: str, backends: list[str]
) -> None:
    platform_plugin(
        "mlu",
        "\nPlatform.device_type = 'privateuseone'\nPlatform.get_torch_distributed_backend_str = lambda self: 'own'\n",
    )
    install(release)
    backend_of = module("sglang.srt.distributed.parallel_state").get_default_distributed_backend
    assert [backend_of("privateuseone"), backend_of("mlu")] == backends


def test_importing_platforms_imports_no_groups() -> None:
    code = (
        "import sglang_reference, sys, json; from sglang_conformance.contract import tables\n"
        "sglang_reference.install(tables.load('0.5.11').to_json()); import sglang.srt.platforms\n"
        "sglang.srt.platforms.current_platform; print(json.dumps(sorted(sys.modules)))"
    )
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"sglang.srt.distributed", "torch", "torch.distributed"} & set(loaded)
