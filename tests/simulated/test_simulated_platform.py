from __future__ import annotations

import importlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
TABLES = ROOT / "conformance" / "sglang_conformance" / "contract" / "tables"

releases = pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])


def _platform(release: str) -> Any:
    """The platform inside the reference host; each test has a process of its own."""
    import sglang_reference

    sglang_reference.uninstall()
    sglang_reference.install(json.loads((TABLES / f"{release}.json").read_text()))
    from sglang_simulated.platform import SimSRTPlatform

    return SimSRTPlatform()


def _registered() -> bool:
    return hasattr(torch, "sim") or hasattr(torch.distributed.Backend, "SIMCCL")


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ("", "sglang_simulated.platform.SimSRTPlatform"),
        ("3", "sglang_simulated.platform.SimSRTPlatform"),
        ("0", None),
        ("two", RuntimeError),
        ("-1", RuntimeError),
        ("65", RuntimeError),
    ],
)
def test_activate_tells_hardware_from_none_from_a_broken_driver(
    devices: str, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sglang_simulated

    monkeypatch.setenv("SGLANG_SIM_DEVICES", devices)
    if expected is RuntimeError:
        with pytest.raises(RuntimeError, match=f"SGLANG_SIM_DEVICES='{devices}'.*driver"):
            sglang_simulated.activate()
    else:
        assert sglang_simulated.activate() == expected


def test_activating_loads_the_standard_library_only_and_writes_nothing() -> None:
    code = (
        "import json, os, sys\n"
        "before = dict(os.environ)\n"
        "import sglang_simulated\n"
        "sglang_simulated.activate()\n"
        "heavy = {name.partition('.')[0] for name in sys.modules} & {'torch', 'sglang', 'numpy'}\n"
        "print(json.dumps([sorted(heavy), before == dict(os.environ)]))"
    )
    source = str(ROOT / "reference" / "sglang_simulated")
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": source}, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == [[], True]


@releases
def test_identity_names_and_memory_register_nothing(release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_SIM_MEMORY", "4096")
    platform = _platform(release)
    assert platform._enum.name == "OOT"
    assert (platform.is_out_of_tree(), platform.is_cuda_alike(), platform.is_cpu()) == (True, False, False)
    assert (type(platform).device_name, type(platform).device_type) == ("sim", "sim")
    assert platform.get_device_total_memory(1) == 4096
    assert platform.get_current_memory_usage() == 0.0
    assert platform.get_available_memory(1) == (4096, 4096)
    assert platform.get_device_name(1) == "Simulated accelerator"
    assert platform.get_device_uuid(0) != platform.get_device_uuid(1) == platform.get_device_uuid(1)
    capability = platform.get_device_capability()
    assert (type(capability).__name__, capability.as_version_str()) == ("DeviceCapability", "1.0")
    assert platform.is_pin_memory_available() is False
    assert platform.is_pin_memory_available("sim:0") is False
    assert not _registered()


@releases
def test_factories_register_nothing(release: str) -> None:
    platform = _platform(release)
    assert platform.get_default_attention_backend() == "sim"
    assert isinstance(platform.get_graph_runner_cls(), type)
    assert isinstance(platform.get_full_graph_backend_cls(), type)
    assert platform.get_compile_backend("any") == "eager"
    assert platform.get_dispatch_key_name() == "native"
    assert platform.get_piecewise_backend_cls() is None
    assert platform.get_quantization_config("awq") is None
    with pytest.raises(ValueError, match="'awq' is not supported on sim"):
        platform.verify_quantization("awq")
    activity = getattr(torch.profiler.ProfilerActivity, platform.get_torch_profiler_activity_str())
    assert platform.get_torch_profiler_activity() == activity
    assert not _registered()


@releases
def test_a_device_is_registered_when_it_is_handed_out(release: str) -> None:
    platform = _platform(release)
    devices = [platform.get_device(1), platform.get_device(), platform.get_device(None)]
    assert devices == ["sim:1", "sim:0", "sim"]
    with pytest.raises(RuntimeError, match="no device sim:4"):
        platform.get_device(4)
    for name, index in (("sim:1", 1), (0, 0), (torch.device("sim:1"), 1)):
        platform.set_device(name)
        assert torch.get_device_module("sim").current_device() == index
    platform.synchronize()


@releases
def test_memory_usage_is_that_of_the_device_asked_for_and_asking_changes_nothing(release: str) -> None:
    platform = _platform(release)
    platform.set_device(1)
    total = platform.get_device_total_memory(1)
    held = torch.ones(1024, device=platform.get_device(1))
    for _ in range(2):
        usage = [platform.get_current_memory_usage(d) for d in (None, torch.device("sim:1"), torch.device("sim:0"))]
        assert usage == [4096.0, 4096.0, 0.0]
        assert platform.get_available_memory(1) == (total - 4096, total)
    del held
    assert platform.get_current_memory_usage() == 4096.0
    platform.empty_cache()
    assert platform.get_current_memory_usage() == 0.0


@releases
def test_the_backend_is_registered_by_the_time_its_string_is_known(release: str) -> None:
    platform = _platform(release)
    assert platform.get_torch_distributed_backend_str() == "cpu:gloo,sim:simccl"
    assert hasattr(torch.distributed.Backend, "SIMCCL")
    platform.init_backend()
    platform.init_backend()
    assert platform.get_group_coordinator_device(1) == torch.device("sim:1")


@releases
def test_the_hook_answers_for_its_device_only(release: str) -> None:
    _platform(release)
    from sglang.srt.distributed import parallel_state
    from sglang.srt.plugins.hook_registry import HookRegistry

    from sglang_simulated import hooks

    def answers() -> list[str]:
        devices = ("cuda", "cpu", "xpu", "npu", "unheard-of")
        return [parallel_state.get_default_distributed_backend(device) for device in devices]

    before = answers()
    hooks.register()
    HookRegistry.apply_hooks()
    assert parallel_state.get_default_distributed_backend("sim") == "cpu:gloo,sim:simccl"
    assert parallel_state.get_default_distributed_backend(device="sim") == "cpu:gloo,sim:simccl"
    assert answers() == before


@releases
@pytest.mark.parametrize(("user", "kept"), [(None, "sim"), ("triton", "triton")])
def test_server_arguments_are_defaulted_only_where_unset(release: str, user: str | None, kept: str) -> None:
    arguments = SimpleNamespace(attention_backend=user, device="sim")
    _platform(release).apply_server_args_defaults(arguments)
    assert vars(arguments) == {"attention_backend": kept, "device": "sim"}


@releases
def test_seeding_reaches_python_numpy_torch_and_the_device(release: str) -> None:
    platform = _platform(release)
    platform.seed_everything(7)
    assert not _registered()
    device = platform.get_device(1)
    draws: tuple[Callable[[], float], ...] = (
        random.random,
        np.random.rand,
        lambda: torch.rand(1).item(),
        lambda: torch.rand(1, device=device).item(),
    )
    first = [draw() for draw in draws]
    platform.seed_everything(None)
    second = [draw() for draw in draws]
    platform.seed_everything(7)
    assert [draw() for draw in draws] == first
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_a_release_with_capabilities_gets_them_and_no_retired_names() -> None:
    platform = _platform("0.5.23")
    declared = platform.capabilities
    assert (declared.graph_capture, declared.piecewise_graph) == (True, False)
    assert (declared.supports_pynccl, declared.supports_triton) == (True, False)
    assert [platform.get_kv_pool_cls(kind=kind) for kind in ("mha", "mla", "dsa")] == [None, None, None]
    assert platform.get_paged_allocator_cls() is None
    for retired in ("support_cuda_graph", "supports_fp8", "get_mha_kv_pool_cls"):
        assert not hasattr(platform, retired)


def test_pynccl_is_declared_where_its_library_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sglang_host_nccl", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert _platform("0.5.23").capabilities.supports_pynccl is False


def test_a_release_without_capabilities_gets_flags_and_pool_hooks() -> None:
    platform = _platform("0.5.11")
    assert platform.support_cuda_graph() is True
    assert (platform.support_piecewise_cuda_graph(), platform.supports_fp8()) == (False, False)
    for newer in ("capabilities", "get_kv_pool_cls"):
        assert not hasattr(platform, newer)
    pools = importlib.import_module("sglang.srt.mem_cache.memory_pool")
    assert platform.get_mha_kv_pool_cls() is pools.MHATokenToKVPool
    latent = platform.get_mla_kv_pool_cls()
    assert issubclass(latent, pools.MLATokenToKVPool)
    sizes = {"kv_lora_rank": 4, "qk_rope_head_dim": 2, "layer_num": 1, "dtype": torch.float32, "device": "cpu"}
    latent(8, page_size=4, enable_memory_saver=False, index_head_dim=None, **sizes)  # as SGLang makes it
