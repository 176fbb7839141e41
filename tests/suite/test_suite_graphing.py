"""What the checks of graphs capture with, and how they tell what came of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sglang_conformance.contract import tables
from sglang_conformance.suite import expect
from sglang_conformance.suite.graphing import module, plain, scopes, ways
from sglang_simulated import device as sim_device

CONTRACT = tables.load("0.5.23")


@pytest.fixture
def simulated_device() -> Callable[[], torch.device]:
    """To be called in the test, which runs in a child (conftest.py): torch then knows the device."""

    def registered() -> torch.device:
        sim_device.register()
        return torch.device("sim", 0)

    return registered


class Backend:
    """One graph a key, each of them eager work."""

    def __init__(self, runner: Any, *, enable_memory_saver: bool) -> None:
        self.runner, self.works = runner, dict[Any, Any]()

    @contextlib.contextmanager
    def capture_session(self, stream: Any) -> Iterator[None]:
        yield

    @contextlib.contextmanager
    def replay_session(self) -> Iterator[None]:
        yield

    def capture_one(self, shape_key: Any, forward_fn: Any, **_: Any) -> None:
        self.works[shape_key] = forward_fn

    def can_run(self, forward_batch: Any, shape_key: Any) -> bool:
        return shape_key in self.works

    def replay(self, shape_key: Any, static_forward_batch: Any) -> Any:
        return self.works[shape_key]()

    def cleanup(self) -> None:
        self.works.clear()


def platform(backend: Any, graphs: bool = True) -> Any:
    return SimpleNamespace(
        capabilities=SimpleNamespace(graph_capture=graphs), get_full_graph_backend_cls=lambda: backend
    )


def test_a_platform_has_the_way_of_its_module_and_that_of_its_backend(
    simulated_device: Callable[[], torch.device],
) -> None:
    device = simulated_device()
    assert [way.words for way in ways.of(device, platform(None), CONTRACT)] == ["torch.sim.graph()"]
    both = ways.of(device, platform(Backend), CONTRACT)
    assert [way.words for way in both] == ["torch.sim.graph()", "Backend.capture_one"]


def test_a_backend_that_cannot_be_made_is_no_way(simulated_device: Callable[[], torch.device]) -> None:
    device = simulated_device()

    class Broken(Backend):
        def __init__(self, runner: Any, **_: Any) -> None:
            raise RuntimeError("no driver")

    assert len(ways.of(device, platform(Broken), CONTRACT)) == 1
    with pytest.raises(expect.Violation, match="no driver"):
        ways.by_backend(device, platform(Broken))


def test_who_declares_no_graphs_is_not_asked_for_them(simulated_device: Callable[[], torch.device]) -> None:
    device = simulated_device()
    with pytest.raises(expect.Declined, match="declares no graph capture"):
        ways.of(device, platform(Backend, graphs=False), CONTRACT)
    with pytest.raises(expect.Declined):
        ways.ByModule(torch.device("cpu"))


@pytest.mark.parametrize("way", ["module", "backend"])
def test_each_way_captures_and_replays(simulated_device: Callable[[], torch.device], way: str) -> None:
    device = simulated_device()
    found = ways.ByModule(device) if way == "module" else ways.by_backend(device, platform(Backend))
    first, second = plain.line(device, factor=2), plain.line(device, factor=3)
    with plain.capturing(found, device):
        graphs = [found.capture(each.work) for each in (first, second)]
    second.gives(graphs[1], [1, 2, 3, 4], "the second")
    first.gives(graphs[0], [4, 3, 2, 1], "the first")
    found.clear()


def test_a_replay_that_gives_what_it_captured_is_told_in_values(simulated_device: Callable[[], torch.device]) -> None:
    device = simulated_device()
    each = plain.line(device)
    with pytest.raises(expect.Violation, match=r"expected \[3, 5, 7, 9\]; saw \[1.0, 1.0, 1.0, 1.0\]"):
        each.gives(ways.Graph(lambda: torch.ones(4)), [1, 2, 3, 4], "a graph")


def test_what_only_sglangs_own_has_is_not_covered(simulated_device: Callable[[], torch.device]) -> None:
    device = simulated_device()

    class Curious(Backend):
        def __init__(self, runner: Any, **given: Any) -> None:
            super().__init__(runner, **given)
            self.buckets = runner.compile_bs

    class CuriousOfBatches(Backend):
        def can_run(self, forward_batch: Any, shape_key: Any) -> bool:
            return bool(forward_batch.seq_lens)

        def replay(self, shape_key: Any, static_forward_batch: Any) -> Any:
            return static_forward_batch.seq_lens

    with pytest.raises(expect.NotCovered, match="compile_bs"):
        ways.by_backend(device, platform(Curious))
    backend = ways.by_backend(device, platform(CuriousOfBatches)).backend
    for ask in (ways.can_run, ways.replayed):
        with pytest.raises(expect.NotCovered, match="seq_lens"):
            ask(backend, ways.key_of(2))


def test_keys_differ_in_each_part() -> None:
    assert len({ways.key_of(1), ways.key_of(2), ways.key_of(1, "lora"), ways.key_of(1)}) == 3


def test_an_error_comes_out_as_itself_or_as_a_cause() -> None:
    raised = plain.Interruption("within")
    plain.comes_out(raised, raised, "a capture")
    with pytest.raises(RuntimeError) as wrapped:
        raise RuntimeError("the capture has failed") from raised
    plain.comes_out(wrapped.value, raised, "a capture")
    try:
        raise raised
    except plain.Interruption:
        with pytest.raises(RuntimeError) as hiding:
            raise RuntimeError("the capture has failed") from None
    for hidden in (None, hiding.value):
        with pytest.raises(expect.Violation, match="Interruption, raised within"):
            plain.comes_out(hidden, raised, "a capture")


def test_growth_is_told_with_what_grew() -> None:
    plain.takes_less({"bytes": 5, "threads": 1}, {"bytes": 9}, {"bytes": 5, "threads": 2}, after="it", call="call")
    with pytest.raises(expect.Violation, match="expected fewer than 4 bytes more after it; saw 4 more"):
        plain.takes_less({"bytes": 5}, {"bytes": 9}, {"bytes": 4}, after="it", call="call")


def test_a_spy_counts_the_captures_of_an_engine() -> None:
    class Engine:
        opened = 0

        @contextlib.contextmanager
        def capture(self) -> Iterator[None]:
            self.opened += 1
            yield

    engine = Engine()
    with scopes.spied(engine) as seen:
        with contextlib.suppress(plain.Interruption), engine.capture():
            assert (seen.entered, seen.left) == (1, 0)
            raise plain.Interruption
        assert (seen.entered, seen.left, engine.opened) == (1, 1, 1)
    with engine.capture():
        assert (seen.entered, engine.opened) == (1, 2)


def test_an_engine_that_takes_nothing_in_its_place_cannot_be_counted() -> None:
    class Sealed:
        __slots__ = ()

        def capture(self) -> None:
            """Nothing."""

    with pytest.raises(expect.Declined), scopes.spied(Sealed()):
        pass


def test_states_of_engines_are_those_that_a_group_has() -> None:
    pynccl = SimpleNamespace(available=True, disabled=True)
    group = SimpleNamespace(pynccl_comm=pynccl, ca_comm=SimpleNamespace(disabled=False))
    assert scopes.disabled(group) == {"pynccl_comm": True, "ca_comm": False}
    group.ca_comm.disabled = True
    assert scopes.custom(group) is None
    assert scopes.disabled(SimpleNamespace(pynccl_comm=None, ca_comm=None)) == {}


def test_the_device_says_whether_it_captures(simulated_device: Callable[[], torch.device]) -> None:
    device = simulated_device()
    streams, seen = module.of(device), list[bool]()
    way = ways.ByModule(device)
    with plain.capturing(way, device):
        way.capture(lambda: seen.append(module.is_capturing(streams)))
    assert seen == [False, False, True]
    assert not module.is_capturing(streams)
    with pytest.raises(expect.Declined):
        module.is_capturing(SimpleNamespace())
