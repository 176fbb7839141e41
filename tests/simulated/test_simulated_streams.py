from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from sglang_simulated import device


def _sim() -> Any:
    device.register()
    return torch.get_device_module("sim")


def test_the_current_device_belongs_to_the_thread() -> None:
    sim = _sim()
    sim.set_device("sim:1")
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(sim.current_device()))
    thread.start()
    thread.join()
    assert (sim.current_device(), seen) == (1, [0])
    assert torch.zeros(1, device="sim").device == torch.device("sim:1")


def test_the_device_context_restores_the_device_also_after_an_error() -> None:
    sim = _sim()
    with sim.device("sim:1"):
        assert sim.current_device() == 1
    with pytest.raises(KeyError), sim.device("sim:1"):
        raise KeyError
    assert sim.current_device() == 0
    with sim.device(None):
        assert sim.current_device() == 0


@pytest.mark.parametrize("name", [1, "sim:1", "torch"])
def test_set_device_takes_every_way_of_naming_a_device(name: Any) -> None:
    sim = _sim()
    sim.set_device(torch.device("sim:1") if name == "torch" else name)
    assert sim.current_device() == 1


@pytest.mark.parametrize("name", ["cuda:0", "sim:x", "cpu"])
def test_a_device_of_another_kind_is_refused(name: str) -> None:
    sim = _sim()
    with pytest.raises(ValueError, match="not a simulated device"):
        sim.set_device(name)


def test_a_device_out_of_range_is_refused() -> None:
    sim = _sim()
    for name in (4, -1, "sim:9"):
        with pytest.raises(RuntimeError, match="has 4"):
            sim.set_device(name)
    assert sim.current_device() == 0


def test_streams_are_told_apart_and_the_default_is_one() -> None:
    sim = _sim()
    a, b = sim.Stream(), sim.Stream(device="sim:1", priority=-1)
    assert a != b
    assert a != sim.default_stream()
    assert sim.default_stream(0) is sim.default_stream()
    assert sim.default_stream(0) != sim.default_stream(1)
    assert (sim.default_stream().stream_id, b.device, b.priority) == (0, torch.device("sim:1"), -1)


def test_the_current_stream_belongs_to_thread_and_device() -> None:
    sim = _sim()
    side = sim.Stream()
    seen: list[Any] = []
    with sim.stream(side):
        assert sim.current_stream() is side
        assert sim.current_stream(1) is sim.default_stream(1)
        thread = threading.Thread(target=lambda: seen.append(sim.current_stream()))
        thread.start()
        thread.join()
    assert seen == [sim.default_stream()]
    assert sim.current_stream() is sim.default_stream()


def test_a_stream_context_makes_its_device_current_and_nests() -> None:
    sim = _sim()
    outer, inner = sim.Stream("sim:0"), sim.Stream("sim:1")
    with sim.stream(outer):
        with sim.stream(inner):
            assert (sim.current_device(), sim.current_stream()) == (1, inner)
        assert (sim.current_device(), sim.current_stream()) == (0, outer)
        assert sim.current_stream(1) is sim.default_stream(1)
    with sim.stream(None):
        assert sim.current_stream() is sim.default_stream()


def test_events_remember_their_stream_and_tell_time_in_order() -> None:
    sim = _sim()
    side = sim.Stream()
    start, end = sim.Event(enable_timing=True), sim.Event(enable_timing=True)
    start.record(side)
    side.wait_event(start)
    end.record()
    end.wait(side)
    end.synchronize()
    assert (start.stream, end.stream) == (side, sim.current_stream())
    assert start.query()
    assert start.elapsed_time(end) > 0
    assert end.elapsed_time(start) == -start.elapsed_time(end)
    assert side.record_event().stream is side


def test_elapsed_time_needs_timed_and_recorded_events() -> None:
    sim = _sim()
    timed, untimed = sim.Event(enable_timing=True), sim.Event()
    untimed.record()
    with pytest.raises(RuntimeError, match="enable_timing"):
        timed.elapsed_time(untimed)
    with pytest.raises(RuntimeError, match="recorded"):
        timed.elapsed_time(sim.Event(enable_timing=True))


def test_the_module_describes_its_devices() -> None:
    sim = _sim()
    assert (sim.is_available(), sim.device_count(), sim._is_in_bad_fork()) == (True, 4, False)
    first, second = sim.get_device_properties(0), sim.get_device_properties(1)
    assert first.total_memory == 8 << 30
    assert first.name == sim.get_device_name(0)
    assert first.uuid != second.uuid
    sim.synchronize()
