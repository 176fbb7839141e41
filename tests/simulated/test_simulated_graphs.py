from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sglang_simulated import device
from sglang_simulated.graph_runner import SimGraphBackend, SimGraphRunner


def _sim() -> Any:
    device.register()
    return torch.get_device_module("sim")


def test_a_replay_reads_new_inputs_and_writes_the_same_outputs() -> None:
    sim = _sim()
    x = torch.tensor([1.0, 2.0], device="sim:0")
    weight = torch.eye(2, device="sim:0") * 3
    captured = sim.Graph()
    with sim.graph(captured):
        hidden = torch.relu(x @ weight).unsqueeze_(0).squeeze_(0)
        hidden[1:].add_(1)
        y = torch.stack([hidden, torch.zeros(2, device="sim:0")]).sum(0) * torch.tensor(2.0)
    assert y.tolist() == [6.0, 14.0]
    address = y.data_ptr()
    for values, expected in (([5.0, -1.0], [30.0, 2.0]), ([0.0, 1.0], [0.0, 8.0])):
        x.copy_(torch.tensor(values))
        captured.replay()
        assert y.tolist() == expected
    assert y.data_ptr() == address


def test_a_graph_holds_indexing_by_number() -> None:
    sim = _sim()
    x, rows = torch.arange(4.0, device="sim:0").reshape(2, 2), torch.tensor([0, 1, 1], device="sim:0")
    captured = sim.Graph()
    with sim.graph(captured):
        y = x[rows, :1]
    rows.copy_(torch.tensor([1, 0, 1]))
    captured.replay()
    assert y.tolist() == [[2.0], [0.0], [2.0]]


def test_a_replay_repeats_in_place_work_each_time() -> None:
    sim = _sim()
    counter = torch.zeros(1, device="sim:0")
    captured = sim.Graph()
    with sim.graph(captured):
        counter += 1
    for _ in range(3):
        captured.replay()
    assert counter.tolist() == [4.0]


def test_a_replay_draws_new_random_numbers() -> None:
    sim = _sim()
    captured = sim.Graph()
    with sim.graph(captured):
        drawn = torch.rand(8, device="sim:0")
    first = drawn.cpu()
    captured.replay()
    assert not torch.equal(drawn.cpu(), first)


def test_capturing_is_seen_only_on_the_captured_stream() -> None:
    sim = _sim()
    captured, side = sim.Graph(), sim.Stream()
    assert not sim.is_current_stream_capturing()
    with sim.graph(cuda_graph=captured, pool=sim.graph_pool_handle(), stream=side):
        assert sim.is_current_stream_capturing()
        with sim.stream(sim.Stream()):
            assert not sim.is_current_stream_capturing()
    assert not sim.is_current_stream_capturing()
    assert sim.current_stream() is sim.default_stream()


def test_work_of_another_stream_is_captured_only_once_it_has_joined() -> None:
    sim = _sim()
    x, alone, joined = (torch.zeros(1, device="sim:0") for _ in range(3))
    captured, first, second = sim.Graph(), sim.Stream(), sim.Stream()
    with sim.graph(captured, stream=first):
        x.add_(1)
        with sim.stream(second):
            alone.add_(1)
        second.wait_stream(first)
        with sim.stream(second):
            joined.add_(1)
    captured.replay()
    assert (x.item(), alone.item(), joined.item()) == (2.0, 1.0, 2.0)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(lambda sim, x: x.sum().item(), id="item"),
        pytest.param(lambda sim, x: x.cpu(), id="cpu"),
        pytest.param(lambda sim, x: x.copy_(torch.ones(2)), id="copy_from_host"),
        pytest.param(lambda sim, x: torch.tensor([1.0, 2.0], device="sim:0"), id="tensor_from_host"),
        pytest.param(lambda sim, x: x.nonzero(), id="nonzero"),
        pytest.param(lambda sim, x: x[x > 0], id="index_by_truth"),
        pytest.param(lambda sim, x: sim.synchronize(), id="synchronize"),
        pytest.param(lambda sim, x: sim.current_stream().record_event().synchronize(), id="event"),
        pytest.param(lambda sim, x: sim.Graph().capture_begin(), id="nested_capture"),
    ],
)
def test_what_a_graph_cannot_hold_is_refused_and_the_capture_abandoned(step: Any) -> None:
    sim = _sim()
    x = torch.ones(2, device="sim:0")
    captured = sim.Graph()
    with pytest.raises(RuntimeError, match="capture"), sim.graph(captured):
        step(sim, x)
    assert not sim.is_current_stream_capturing()
    with pytest.raises(RuntimeError, match="no completed capture"):
        captured.replay()
    assert x.sum().item() == 2.0


def test_capture_needs_a_stream_of_its_own() -> None:
    sim = _sim()
    with pytest.raises(RuntimeError, match="default"):
        sim.Graph().capture_begin()


def test_capture_ends_where_it_began() -> None:
    sim = _sim()
    captured = sim.Graph()
    with sim.stream(sim.Stream()):
        captured.capture_begin()
        with sim.stream(sim.Stream()), pytest.raises(RuntimeError, match="capture_begin"):
            captured.capture_end()
        captured.capture_end()
    assert captured.pool() is not None


def test_a_graph_holds_its_memory_until_it_is_reset() -> None:
    sim = _sim()
    x = torch.zeros(1024, device="sim:0")
    captured = sim.Graph()
    with sim.graph(captured):
        y = x + 1
    del y
    assert sim.memory_allocated() == 8192
    captured.reset()
    assert sim.memory_allocated() == 4096


def test_the_graph_backend_captures_one_graph_a_shape() -> None:
    sim = _sim()
    backend = SimGraphBackend(SimpleNamespace(), enable_memory_saver=False)
    x = torch.ones(4, device="sim:0")
    warmed: list[int] = []
    with backend.capture_session(sim.Stream()):
        for size in (4, 2):
            step = functools.partial(torch.mul, x[:size], 2)
            backend.capture_one(size, step, post_warmup_hook=lambda: warmed.append(1))
    x.fill_(5)
    with backend.replay_session():
        assert backend.replay(2, None).tolist() == [10.0, 10.0]
    assert [backend.can_run(None, size) for size in (1, 2, 4)] == [False, True, True]
    assert len(warmed) == 4
    backend.cleanup()
    assert not backend.can_run(None, 2)


def test_the_graph_runner_serves_the_batch_sizes_it_captured() -> None:
    device.register()
    model = SimpleNamespace(name="model")
    runner = SimGraphRunner(model)
    assert (runner.model_runner, runner.capture_bs) == (model, [])
    assert not runner.can_run(SimpleNamespace(batch_size=2))
    runner.capture(lambda a, b: a * 10 + b, torch.zeros(2, device="sim:1"), torch.zeros(2, device="sim:1"))
    assert runner.capture_bs == [2]
    assert runner.can_run_graph(SimpleNamespace(batch_size=2))
    result = runner.run(torch.tensor([1.0, 2.0], device="sim:1"), torch.tensor([3.0, 4.0], device="sim:1"))
    assert result.tolist() == [13.0, 24.0]
