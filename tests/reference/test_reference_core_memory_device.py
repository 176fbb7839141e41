"""Memory as SGLang asks for it, on the host and on CUDA devices; and the core's pools on a device of a vendor's."""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

import sglang_reference
from sglang_conformance.contract import tables

GIB = 1 << 30
Module = Callable[[str], Any]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """A host of so much memory, of so many NUMA nodes, with a container's limit and use."""

    def made(module: Module, *, nodes: int, limit: int | None = None, used: int = 0) -> None:
        told = SimpleNamespace(available=8 * GIB, total=16 * GIB)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: told)
        for number in range(nodes + 1):  # the last has memory and no processors
            node = tmp_path / f"node{number}"
            node.mkdir()
            (node / "cpulist").write_text("" if number == nodes else f"{number}\n")
            (node / "meminfo").write_text(f"Node {number} MemTotal: {(number + 1) << 20} kB\n")
        (tmp_path / "memory.max").write_text("max" if limit is None else str(limit))
        (tmp_path / "memory.current").write_text(str(used))
        host = module("sglang.srt.utils._host_memory")
        monkeypatch.setattr(host, "_NODES", tmp_path)
        monkeypatch.setattr(host, "_CGROUP", tmp_path)

    return made


@pytest.mark.parametrize(("release", "free"), [("0.5.11", 4.0), ("0.5.22", 4.0), ("0.5.23", 1.5)])
def test_the_hosts_memory_is_shared_by_its_nodes(
    install: Any, module: Module, machine: Any, release: str, free: float
) -> None:
    install(release)
    machine(module, nodes=2, limit=4 * GIB, used=GIB)  # a container's limit counts from 0.5.23 on
    assert module("sglang.srt.utils.common").get_available_gpu_memory("cpu", 0) == free


@pytest.mark.parametrize(("release", "capacity"), [("0.5.11", 1024.0), ("0.5.23", 2048.0)])
def test_the_hosts_capacity_is_a_nodes(
    install: Any, module: Module, machine: Any, monkeypatch: pytest.MonkeyPatch, release: str, capacity: float
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    install(release)
    machine(module, nodes=2, limit=4 * GIB)  # before 0.5.23 the least of all nodes
    common = module("sglang.srt.utils.common")
    assert common.get_device_memory_capacity("cpu") == capacity
    monkeypatch.setenv("SGLANG_CPU_OMP_THREADS_BIND", "0-1|2-3")
    assert common.get_device_memory_capacity("cpu") is None


def test_cuda_devices_are_asked_of_the_driver(install: Any, module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {0: (3 * GIB, 8 * GIB), 1: (2 * GIB, 6 * GIB)}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: sizes[device])
    emptied: list[None] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(None))
    monkeypatch.setenv("SGLANG_USE_CPU_ENGINE", "1")
    install()
    common = module("sglang.srt.utils.common")
    assert common.get_available_gpu_memory("cuda", 1) == 2.0
    assert common.get_available_gpu_memory("cuda", 0, empty_cache=False) == 3.0
    assert len(emptied) == 1
    assert common.get_device_memory_capacity("cuda") == 6 * 1024


def test_new_pages_are_counted_on_the_host(install: Any, module: Module) -> None:
    install()
    count = module("sglang.srt.utils.common").get_num_new_pages
    lengths = torch.tensor([4, 5, 8, 9])
    assert count(lengths, 4, torch.tensor([0, 4, 5, 3])) == 1 + 1 + 0 + 2
    assert count(lengths, 4, decode=True) == 2  # those whose last token begins a page
    with pytest.raises(AssertionError):
        count(lengths, 4)


def in_child(body: Callable[[], None]) -> None:
    """Run ``body`` in a process of its own: a device type, once registered, stays."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            torch.set_num_threads(1)  # the parent's threads do not survive the fork
            body()
            status = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-60_000:])
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        report = pipe.read()
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        pytest.fail(report or "the test's process ended without a word", pytrace=False)


@pytest.mark.parametrize("release", ["0.5.11", "0.5.23"])
def test_on_the_simulated_device_slots_are_those_of_the_host(release: str) -> None:
    importlib.import_module("torch.distributed.tensor")  # once here, not in every child
    in_child(lambda: _same_slots(release))


def _same_slots(release: str) -> None:
    sglang_reference.install(tables.load(release).to_json())
    from sglang_simulated import device

    device.register()
    cache = "sglang.srt.mem_cache"
    pools, allocators = (importlib.import_module(f"{cache}.{name}") for name in ("memory_pool", "allocator"))
    told: dict[str, list[Any]] = {"cpu": [], "sim": []}
    for where, seen in told.items():
        given = {"dtype": torch.bfloat16, "device": where, "enable_memory_saver": False, "layer_num": 2}
        pool = pools.MHATokenToKVPool(32, page_size=4, head_num=2, head_dim=4, **given)
        rows = pools.ReqToTokenPool(size=2, max_context_len=16, device=where, enable_memory_saver=False)
        allocator = allocators.PagedTokenToKVPoolAllocator(
            32, page_size=4, dtype=torch.bfloat16, device=where, kvcache=pool, need_sort=False
        )
        before, after = torch.tensor([0, 0]), torch.tensor([5, 3])
        none = torch.full((2,), -1, device=where)
        slots = allocator.alloc_extend(before.to(where), before, after.to(where), after, none, 8)
        rows.write((1, slice(0, 5)), slots[:5].to(torch.int32))
        values = torch.arange(64, dtype=torch.float32).view(8, 2, 4).to(where)
        pool.set_kv_buffer(SimpleNamespace(layer_id=1), slots, values, -values)
        last = rows.req_to_token[torch.tensor([1], device=where), torch.tensor([4], device=where)]
        more = allocator.alloc_decode(torch.tensor([6]).to(where), torch.tensor([6]), last)
        allocator.free(slots[5:])
        pool.load_cpu_copy(pool.get_cpu_copy(slots[:2]), more.repeat(2))
        keys, held = pool.get_kv_buffer(1)
        assert keys.device.type == where
        seen += [slots.cpu(), more.cpu(), keys.cpu(), held.cpu(), rows.req_to_token.cpu(), allocator.free_pages.cpu()]
    assert all(map(torch.equal, told["cpu"], told["sim"]))
