"""The platforms that SGLang brings itself, as each release has them (srt/platforms/*.py of the releases named)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sglang_conformance.contract import tables

CLASSES = {
    "cpu": "CpuSRTPlatform",
    "sail": "SailSRTPlatform",
    "cuda": "CudaSRTPlatform",
    "rocm": "RocmSRTPlatform",
    "npu": "NPUSRTPlatform",
    "xpu": "XpuSRTPlatform",
    "musa": "MusaSRTPlatform",
    "mps": "MpsSRTPlatform",
}
FLAGS = ("supports_fp8", "support_cuda_graph", "support_piecewise_cuda_graph")

Make = Callable[[str, str], Any]


@pytest.fixture
def make(install: Any, module: Callable[[str], Any]) -> Make:
    """Install a release, and make its platform of a kind."""

    def made(release: str, kind: str) -> Any:
        install(release)
        return getattr(module("sglang.srt.platforms"), CLASSES[kind])()

    return made


@pytest.mark.parametrize("release", tables.releases())
def test_every_built_in_platform_of_a_release_is_there(
    install: Any, module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    install(release)
    platforms = module("sglang.srt.platforms")
    kinds = tables.load(release).detection
    for kind in kinds:
        for other in kinds:
            monkeypatch.setattr(platforms, f"_is_{other}_available", lambda other=other, kind=kind: other == kind)
        platform = platforms._resolve_platform()
        assert type(platform) is getattr(module(f"sglang.srt.platforms.{kind}"), CLASSES[kind])
        assert (platform._enum.name, platform.device_name) == (kind.upper(), kind)
        assert platform.device_type == ("cuda" if kind in ("rocm", "sail") else kind)
        assert not platform.is_out_of_tree()


@pytest.mark.parametrize("release", tables.releases())
def test_a_release_has_no_other_built_in_platform(install: Any, module: Callable[[str], Any], release: str) -> None:
    install(release)
    here = module("sglang.srt.platforms")
    detection = set(tables.load(release).detection)
    assert {kind for kind, name in CLASSES.items() if hasattr(here, name)} == detection
    assert {kind for kind in CLASSES if hasattr(here, f"_is_{kind}_available")} == detection
    for kind in CLASSES.keys() - detection:
        with pytest.raises(ModuleNotFoundError):
            module(f"sglang.srt.platforms.{kind}")


@pytest.mark.parametrize(
    ("release", "kind", "taken"),
    [
        ("0.5.13", "cuda", "local_rank"),
        ("0.5.15.post1", "cpu", "local_rank"),
        ("0.5.21", "xpu", "local_rank"),
        ("0.5.21", "rocm", "local_rank"),
        ("0.5.22", "cuda", "device_id"),
        ("0.5.22", "cpu", "device_id"),
        ("0.5.23", "sail", "device_id"),
        ("0.5.20", "npu", "local_rank"),
        ("0.5.23", "npu", "local_rank"),
        ("0.5.23", "mps", "local_rank"),
    ],
)
def test_get_device_takes_what_the_release_calls_it(make: Make, release: str, kind: str, taken: str) -> None:
    platform = make(release, kind)
    needed = taken == "local_rank" and kind != "mps"
    assert list(inspect.signature(platform.get_device).parameters) == [taken]
    if kind != "npu":  # torch has no such device here
        assert platform.get_device(**{taken: 0}).type == ("cuda" if kind in ("rocm", "sail") else kind)
    if needed:
        with pytest.raises(TypeError):
            platform.get_device()
    with pytest.raises(TypeError):
        platform.get_device(gpu=0)


@pytest.mark.parametrize(
    ("release", "kind", "true"),
    [
        ("0.5.13", "cuda", FLAGS),
        ("0.5.21", "cuda", FLAGS),
        ("0.5.13", "rocm", ()),
        ("0.5.21", "cpu", ()),
        ("0.5.17", "xpu", FLAGS[1:]),
        ("0.5.20", "npu", FLAGS[:2]),
    ],
)
def test_flags_say_what_it_can_do_before_there_are_capabilities(
    make: Make, release: str, kind: str, true: tuple[str, ...]
) -> None:
    platform = make(release, kind)
    assert tuple(name for name in FLAGS if getattr(platform, name)()) == true
    assert not hasattr(platform, "capabilities")


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("cuda", ()),
        ("rocm", ()),
        ("sail", ("hicache_device_kernels",)),
        ("musa", ("hicache_device_kernels", "piecewise_graph")),
        ("xpu", ("hicache_device_kernels", "supports_pynccl")),
        ("npu", ("hicache_device_kernels", "piecewise_graph", "supports_pynccl")),
        ("mps", ("graph_capture", "hicache_device_kernels", "piecewise_graph", "supports_pynccl", "supports_triton")),
    ],
)
def test_capabilities_are_those_of_the_newest_release(make: Make, kind: str, missing: tuple[str, ...]) -> None:
    platform = make("0.5.23", kind)
    fields = tables.load("0.5.23").capabilities
    assert tuple(name for name in fields if not getattr(platform.capabilities, name)) == missing
    assert not any(hasattr(platform, name) for name in FLAGS)


def test_a_capability_that_a_release_lacks_is_not_declared(make: Make) -> None:
    assert not hasattr(make("0.5.22", "cuda").capabilities, "supports_pynccl")


@pytest.mark.parametrize("release", ["0.5.14", "0.5.15.post1", "0.5.21", "0.5.22"])
def test_cpu_knows_its_architecture_in_every_release_that_has_it(
    make: Make, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    platform = make(release, "cpu")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert platform.cpu_arch.name == "ARM"
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert platform.get_device_name() == "cpu (aarch64)"


@pytest.mark.parametrize(("release", "taken"), [("0.5.14", []), ("0.5.15.post1", []), ("0.5.16", ["device"])])
def test_pinned_memory_is_asked_by_device_from_0_5_16_on(make: Make, release: str, taken: list[str]) -> None:
    for kind, pinned in (("cpu", False), ("cuda", True)):
        platform = make(release, kind)
        assert list(inspect.signature(platform.is_pin_memory_available).parameters) == taken
        assert platform.is_pin_memory_available() is pinned


@pytest.mark.parametrize(("release", "pinned"), [("0.5.20", False), ("0.5.21", True)])
def test_npu_pins_memory_from_0_5_21_on(make: Make, release: str, pinned: bool) -> None:
    platform = make(release, "npu")
    assert platform.is_pin_memory_available() is pinned
    assert platform.is_pin_memory_available(torch.device("cpu")) is False
    assert (platform.get_default_attention_backend(), platform.get_dispatch_key_name()) == ("ascend", "npu")


@pytest.mark.parametrize(
    ("release", "name"), [("0.5.19", None), ("0.5.20", "gpu_id"), ("0.5.21", "gpu_id"), ("0.5.22", "device_id")]
)
def test_cuda_reindexes_in_the_words_of_the_release(make: Make, release: str, name: str | None) -> None:
    platform = make(release, "cuda")
    if name is None:
        assert not hasattr(platform, "reindex_device_id")
        return
    assert list(inspect.signature(platform.reindex_device_id).parameters) == [name]
    with platform.reindex_device_id(**{name: 3}) as index:
        assert index == 0


def test_mps_is_one_device_of_the_size_that_metal_recommends(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    platform = make("0.5.22", "mps")
    monkeypatch.setattr("torch.mps.recommended_max_memory", lambda: 800)
    monkeypatch.setattr("torch.mps.driver_allocated_memory", lambda: 350)
    assert (platform.get_device_total_memory(), platform.get_current_memory_usage()) == (800, 350.0)
    assert platform.get_torch_distributed_backend_str() == "gloo"
    with pytest.raises(ValueError, match="one device"):
        platform.get_device(1)
    with pytest.raises(ValueError, match="cannot select"):
        platform.set_device(torch.device("cpu"))
    monkeypatch.setattr("torch.mps.recommended_max_memory", lambda: 0)
    with pytest.raises(RuntimeError, match="non-positive"):
        platform.get_device_total_memory()


def test_musa_names_its_own_backend(make: Make) -> None:
    assert make("0.5.22", "musa").get_torch_distributed_backend_str() == "mccl"


def test_xpu_refuses_a_device_that_is_not_there(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    platform = make("0.5.17", "xpu")
    monkeypatch.setattr("torch.xpu.is_available", lambda: False)
    assert platform.get_available_memory(3) == (0, 0)
    monkeypatch.setattr("torch.xpu.is_available", lambda: True)
    monkeypatch.setattr("torch.xpu.device_count", lambda: 2)
    with pytest.raises(ValueError, match="no XPU 2"):
        platform.get_available_memory(2)
