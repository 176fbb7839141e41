from __future__ import annotations

import os
import platform
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from sglang_conformance.contract import tables

GIB = 1 << 30


@pytest.fixture
def cpu(install: Any, module: Callable[[str], Any]) -> Any:
    install()
    return module("sglang.srt.platforms.cpu").CpuSRTPlatform()


@pytest.fixture
def cuda(install: Any, module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The CUDA platform over a torch.cuda of two devices, of 1 and 2 GiB; ``calls`` records what was asked."""
    install()
    made = module("sglang.srt.platforms.cuda").CudaSRTPlatform()
    made.calls = []
    properties = [SimpleNamespace(total_memory=(i + 1) * GIB, uuid=f"uuid-{i}") for i in range(2)]

    def recorded(name: str) -> Callable[..., None]:
        return lambda *args: made.calls.append((name, *args))

    answers: dict[str, Any] = {
        "get_device_properties": properties.__getitem__,
        "get_device_name": lambda i: f"device {i}",
        "get_device_capability": lambda i: (9, i),
        "mem_get_info": lambda i: (i * 10, (i + 1) * GIB),
        "max_memory_allocated": lambda device: 5 if device is None else device.index,
        **{name: recorded(name) for name in ("set_device", "empty_cache", "synchronize", "manual_seed_all")},
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    return made


def test_cpu_memory_is_the_machines(cpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(total=16 * GIB, available=10 * GIB, used=1 * GIB, free=2 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert cpu.get_device_total_memory(3) == 16 * GIB
    assert cpu.get_current_memory_usage(torch.device("cpu")) == 6.0 * GIB
    assert isinstance(cpu.get_current_memory_usage(), float)
    assert cpu.get_available_memory(3) == (10 * GIB, 16 * GIB)


def test_cpu_is_one_device_without_index_or_capability(cpu: Any) -> None:
    assert cpu.get_device(7) == torch.device("cpu")
    assert cpu.get_device_capability() is None
    assert cpu.get_device_uuid() == platform.machine()
    assert cpu.get_torch_distributed_backend_str() == "gloo"
    assert cpu.is_pin_memory_available() is False
    assert cpu.is_pin_memory_available("cuda") is False
    assert [cpu.set_device(torch.device("cpu")), cpu.synchronize(), cpu.empty_cache()] == [None] * 3
    assert (cpu.is_cpu(), cpu.is_out_of_tree(), repr(cpu)) == (True, False, "CpuSRTPlatform(device=cpu)")


@pytest.mark.parametrize(
    ("machine", "name"), [("x86_64", "cpu (x86_64)"), ("arm64", "cpu (aarch64)"), ("s390x", "cpu")]
)
def test_cpu_name_shows_the_architecture(cpu: Any, monkeypatch: pytest.MonkeyPatch, machine: str, name: str) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert cpu.get_device_name() == name


def test_cpu_captures_graphs_and_nothing_else(cpu: Any, module: Callable[[str], Any]) -> None:
    kind = module("sglang.srt.platforms.interface").PlatformCapabilities
    assert cpu.capabilities == kind(graph_capture=True)


def test_cpu_of_a_release_without_capabilities_declares_none(install: Any, module: Callable[[str], Any]) -> None:
    members = [m for m in tables.load("0.5.23").to_json()["members"] if m["name"] != "capabilities"]
    install(capabilities={}, members=members)
    assert not hasattr(module("sglang.srt.platforms.cpu").CpuSRTPlatform, "capabilities")
    assert not hasattr(module("sglang.srt.platforms.cuda").CudaSRTPlatform, "capabilities")


def test_cuda_answers_for_the_device_it_is_asked_about(cuda: Any) -> None:
    assert [cuda.get_device_total_memory(i) for i in (0, 1)] == [GIB, 2 * GIB]
    assert [cuda.get_device_uuid(i) for i in (0, 1)] == ["uuid-0", "uuid-1"]
    assert [cuda.get_device_name(i) for i in (0, 1)] == ["device 0", "device 1"]
    assert [cuda.get_available_memory(i) for i in (0, 1)] == [(0, GIB), (10, 2 * GIB)]
    assert cuda.get_device_capability(1).to_int() == 91
    assert cuda.get_device(1) == torch.device("cuda", 1)
    usage = [cuda.get_current_memory_usage(), cuda.get_current_memory_usage(torch.device("cuda", 1))]
    assert usage == [5.0, 1.0]
    assert all(type(value) is float for value in usage)


def test_cuda_acts_on_the_device(cuda: Any) -> None:
    device = torch.device("cuda", 1)
    cuda.set_device(device)
    cuda.empty_cache()
    cuda.synchronize()
    assert cuda.calls == [("set_device", device), ("empty_cache",), ("synchronize",)]


def test_cuda_seeds_the_host_and_every_device(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "manual_seed", lambda seed: cuda.calls.append(("host", seed)))
    type(cuda).seed_everything(3)
    type(cuda).seed_everything()
    assert cuda.calls == [("host", 3), ("manual_seed_all", 3)]


def test_cuda_declares_all_capabilities(cuda: Any) -> None:
    fields = ("supports_triton", "graph_capture", "piecewise_graph", "hicache_device_kernels", "supports_pynccl")
    assert [getattr(cuda.capabilities, name) for name in fields] == [True] * 5
    assert cuda.get_torch_distributed_backend_str() == "nccl"
    pinned = [
        cuda.is_pin_memory_available(d) for d in (None, "cuda", torch.device("cuda", 0), "cpu", torch.device("cpu"))
    ]
    assert pinned == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("visible", "device_id", "inside"), [(None, 3, "3"), ("", 1, "1"), ("4,5", 1, "5"), ("GPU-a,GPU-b", 0, "GPU-a")]
)
def test_cuda_reindex_shows_one_device_and_restores_also_after_an_exception(
    cuda: Any, monkeypatch: pytest.MonkeyPatch, visible: str | None, device_id: int, inside: str
) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with cuda.reindex_device_id(device_id) as index:
        assert (index, os.environ["CUDA_VISIBLE_DEVICES"]) == (0, inside)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible
    with pytest.raises(OSError), cuda.reindex_device_id(device_id):
        raise OSError
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


@pytest.mark.parametrize(("order", "warnings"), [("PCI_BUS_ID", 0), ("FASTEST_FIRST", 1), (None, 1)])
def test_cuda_reindex_warns_of_another_device_order(
    cuda: Any, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture, order: str | None, warnings: int
) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    if order is not None:
        monkeypatch.setenv("CUDA_DEVICE_ORDER", order)
    with cuda.reindex_device_id(0):
        pass
    assert ["CUDA_DEVICE_ORDER" in r.getMessage() for r in log.records] == [True] * warnings
