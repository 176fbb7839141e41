from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

import sglang_reference

GIB = 1 << 30


class Memory:
    def get_device_total_memory(self, device_id: int = 0) -> int:
        return (device_id + 1) * GIB

    def get_current_memory_usage(self, device: torch.device | None = None) -> float:
        return GIB / 4

    def is_pin_memory_available(self, device: object = None) -> bool:
        return str(device) == "mlu"

    def get_compile_backend(self, mode: str | None = None) -> str:
        return f"mlu-{mode}"


@pytest.fixture
def utils(install: Any, module: Callable[[str], Any], platform_plugin: Any) -> Callable[[str], Any]:
    """SGLang's helpers of a release, with the platform mlu active; ``bare`` puts the bare platform in its place."""

    def loaded(release: str, *, bare: bool = False) -> Any:
        platform_plugin("mlu")
        install(release)
        platforms = module("sglang.srt.platforms")
        if bare:
            platforms._current_platform = platforms.SRTPlatform()
        else:
            vendor = module("vendor_mlu").Platform
            platforms._current_platform = type("Vendor", (Memory, vendor), {})()
        return module("sglang.srt.utils.common")

    return loaded


@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
def test_devices_without_a_platform_take_the_tables_backend(
    install: Any, module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    table = install(release)["backends"]
    state = module("sglang.srt.distributed.parallel_state")
    assert {d: state.get_default_distributed_backend(d) for d in table["table"]} == table["table"]
    assert state.get_default_distributed_backend("abacus") == "gloo"
    assert table["table"] == state._DEVICE_TO_DISTRIBUTED_BACKEND
    assert module("sglang.srt.distributed").get_default_distributed_backend is state.get_default_distributed_backend


def test_platform_answers_for_its_own_device_from_0_5_14_on(
    install: Any, module: Callable[[str], Any], platform_plugin: Any
) -> None:
    platform_plugin("mlu")
    install("0.5.23")
    platforms = module("sglang.srt.platforms")
    backend = module("sglang.srt.distributed.parallel_state").get_default_distributed_backend
    assert [backend(d) for d in ("mlu", "cuda", "MLU", "mlu:0")] == ["mlu-backend", "nccl", "gloo", "gloo"]
    vendor = type(platforms.current_platform)
    vendor.device_name = "MLU370"
    assert [backend(d) for d in ("mlu", "MLU370")] == ["mlu-backend"] * 2
    # The platform is looked up at each call.
    platforms._current_platform = platforms.SRTPlatform()
    assert backend("mlu") == "gloo"


def test_platform_is_not_asked_in_0_5_11(install: Any, module: Callable[[str], Any], platform_plugin: Any) -> None:
    platform_plugin("mlu")
    install("0.5.11")
    state = module("sglang.srt.distributed.parallel_state")
    assert state.get_default_distributed_backend("mlu") == "gloo"
    assert "vendor_mlu" not in sys.modules


def test_what_the_platform_raises_is_not_caught(
    install: Any, module: Callable[[str], Any], platform_plugin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform_plugin("mlu")
    install()

    def fails(self: Any) -> str:
        raise NotImplementedError

    monkeypatch.setattr(
        type(module("sglang.srt.platforms").current_platform), "get_torch_distributed_backend_str", fails
    )
    with pytest.raises(NotImplementedError):
        module("sglang.srt.distributed.parallel_state").get_default_distributed_backend("mlu")


@pytest.mark.parametrize(("size", "backend"), [("0", "hccl"), ("1", "zbal"), ("-1", "hccl")])
def test_a_switch_of_the_table_changes_its_devices_backend(
    install: Any, module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, size: str, backend: str
) -> None:
    monkeypatch.setenv("SGLANG_ZBAL_LOCAL_MEM_SIZE", size)
    install()
    mixin = module("sglang.srt.platforms.device_mixin")
    state = module("sglang.srt.distributed.parallel_state")
    assert mixin._DEVICE_TO_DISTRIBUTED_BACKEND["npu"] == backend
    assert state._DEVICE_TO_DISTRIBUTED_BACKEND is mixin._DEVICE_TO_DISTRIBUTED_BACKEND


@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
def test_free_memory_is_total_of_the_device_less_usage(utils: Any, release: str) -> None:
    common = utils(release)
    assert [common.get_available_gpu_memory("mlu", i) for i in (0, 1)] == [0.75, 1.75]
    assert common.get_device_memory_capacity("mlu") == 1024.0
    assert common.get_compiler_backend("fast") == "mlu-fast"
    assert common.get_compiler_backend() == "mlu-None"


@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
def test_unknown_device_without_an_out_of_tree_platform(
    utils: Any, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    common = utils(release, bare=True)
    with pytest.raises(ValueError, match="'mlu'"):
        common.get_available_gpu_memory("mlu", 0)
    assert common.get_device_memory_capacity("mlu") is None
    assert common.get_compiler_backend() == "inductor"


def test_devices_built_in_beside_cpu_and_cuda_are_not_covered(utils: Any) -> None:
    common = utils("0.5.23")
    with pytest.raises(sglang_reference.NotCovered):
        common.get_available_gpu_memory("xpu", 0)


def test_pinned_memory_and_triton_are_the_platforms_word_only_in_later_releases(
    utils: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    early = utils("0.5.11")
    assert [early.is_pin_memory_available(d) for d in (None, "mlu", "cpu")] == [True, True, False]
    assert [early.support_triton(b) for b in ("triton", "torch_native", "intel_amx")] == [True, False, False]


def test_pinned_memory_triton_and_capture_in_0_5_23(utils: Any, module: Callable[[str], Any]) -> None:
    common = utils("0.5.23")
    assert [common.is_pin_memory_available(d) for d in (None, "mlu", "cpu")] == [False, True, False]
    assert common.support_triton("triton") is False
    kind = module("sglang.srt.platforms.interface").PlatformCapabilities
    type(common.current_platform).capabilities = kind(supports_triton=True)
    assert [common.support_triton(b) for b in ("triton", "torch_native")] == [True, False]
    assert common.is_device_stream_capturing(torch.device("cpu")) is False
    assert common.is_device_stream_capturing(torch.device("cuda")) is False


def test_importing_utils_resolves_the_platform_in_0_5_23_and_keeps_it(
    install: Any, module: Callable[[str], Any], platform_plugin: Any
) -> None:
    platform_plugin("mlu")
    install("0.5.23")
    platforms = module("sglang.srt.platforms")
    common = module("sglang.srt.utils.common")
    first = platforms._current_platform
    assert first.device_name == "mlu"
    platforms._current_platform = platforms.SRTPlatform()
    assert common.current_platform is first
    assert module("sglang.srt.utils").get_compiler_backend() == "inductor"
