from __future__ import annotations

import gc
from typing import Any

import pytest
import torch

from sglang_simulated import device

MIB = 1 << 20


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("SGLANG_SIM_MEMORY", str(4 * MIB))
    return 4 * MIB


def _sim() -> Any:
    device.register()
    return torch.get_device_module("sim")


def test_bytes_are_counted_in_whole_blocks_on_their_own_device() -> None:
    sim = _sim()
    a = torch.empty(3, device="sim:1")
    b = torch.empty(129, device="sim:1")
    assert (sim.memory_allocated(1), sim.memory_allocated(0)) == (512 + 1024, 0)
    del a, b


def test_views_are_not_counted_and_keep_the_storage_alive() -> None:
    sim = _sim()
    a = torch.empty(1000, device="sim:0")
    view = a[10:].view(2, -1).t()
    assert sim.memory_allocated() == 4096
    del a
    assert sim.memory_allocated() == 4096
    del view
    assert sim.memory_allocated() == 0


def test_freed_bytes_stay_reserved_until_the_cache_is_emptied() -> None:
    sim = _sim()
    total = sim.get_device_properties(0).total_memory
    a = torch.empty(1024, device="sim:0")
    del a
    assert (sim.memory_allocated(), sim.memory_reserved()) == (0, 4096)
    assert sim.mem_get_info() == (total - 4096, total)
    b = torch.empty(512, device="sim:0")
    assert sim.memory_reserved() == 4096
    sim.empty_cache()
    assert sim.memory_reserved() == 2048
    assert sim.mem_get_info(0) == (total - 2048, total)
    del b


def test_the_peak_is_kept_until_it_is_reset() -> None:
    sim = _sim()
    a = torch.empty(1024, device="sim:0")
    b = a + a
    del b
    assert (sim.memory_allocated(), sim.max_memory_allocated()) == (4096, 8192)
    sim.reset_peak_memory_stats()
    assert sim.max_memory_allocated() == 4096


def test_a_storage_that_grows_is_charged_the_difference() -> None:
    sim = _sim()
    a = torch.empty(128, device="sim:0")
    a.resize_(1024)
    assert sim.memory_allocated() == 4096
    del a
    assert sim.memory_allocated() == 0


def test_an_allocation_that_does_not_fit_is_refused_and_leaves_no_trace(small: int) -> None:
    sim = _sim()
    held = torch.empty(3 * MIB, dtype=torch.uint8, device="sim:0")
    with pytest.raises(torch.OutOfMemoryError, match="SGLANG_SIM_MEMORY"):
        torch.empty(2 * MIB, dtype=torch.uint8, device="sim:0")
    with pytest.raises(torch.OutOfMemoryError):
        held.clone()
    gc.collect()
    assert sim.memory_allocated() == 3 * MIB
    assert torch.empty(2 * MIB, dtype=torch.uint8, device="sim:1").numel() == 2 * MIB
    del held
    assert torch.empty(small, dtype=torch.uint8, device="sim:0").numel() == small


def test_cached_bytes_can_be_allocated_again(small: int) -> None:
    sim = _sim()
    for _ in range(5):
        torch.empty(3 * MIB, dtype=torch.uint8, device="sim:0")
    assert sim.memory_reserved() == 3 * MIB
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(1 << 45, dtype=torch.uint8, device="sim:0")


def test_memory_in_a_cycle_is_freed_by_the_collector() -> None:
    sim = _sim()
    holder: list[Any] = [torch.empty(1024, device="sim:0")]
    holder.append(holder)
    del holder
    gc.collect()
    assert sim.memory_allocated() == 0
