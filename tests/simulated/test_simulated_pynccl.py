"""What the simulated device's collective library meets: streams that take its work, and graphs that do it again."""

from __future__ import annotations

import ctypes
import sys

import pytest
import torch

import sglang_host_nccl
from sglang_simulated import device, device_module
from sglang_simulated.streams import Stream, default_stream

LAUNCH = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, sglang_host_nccl.Work, ctypes.c_void_p, ctypes.c_size_t)


def doubled_later() -> tuple[torch.Tensor, object]:
    """A tensor, and a library's work that doubles it."""
    device.register()
    tensor = torch.ones(3, device="sim:0")
    memory = (ctypes.c_float * 3).from_address(tensor.data_ptr())

    def double(arguments: int) -> int:
        factor = ctypes.c_int.from_address(arguments).value
        for place in range(3):
            memory[place] *= factor
        return 0 if factor else 3

    return tensor, sglang_host_nccl.Work(double)


def give(stream: Stream, work: object, factor: int) -> int:
    """As a library gives work to the stream of a handle: by what lies there."""
    struct = sglang_host_nccl.HostStream.from_address(stream.sim_stream)
    arguments = ctypes.c_int(factor)
    result: int = struct.launch(stream.sim_stream, work, ctypes.addressof(arguments), ctypes.sizeof(arguments))
    arguments.value = 7  # whoever does the work later must have kept it
    return result


def test_default_stream_has_the_handle_zero_and_others_their_own() -> None:
    first, second = Stream(0), Stream(0)
    assert default_stream(0).sim_stream == 0
    assert first.sim_stream == first.sim_stream
    assert len({0, first.sim_stream, second.sim_stream}) == 3


def test_work_is_done_at_once() -> None:
    tensor, work = doubled_later()
    assert give(Stream(0), work, 2) == 0
    assert tensor.tolist() == [2, 2, 2]


def test_captured_work_is_done_again_with_each_replay() -> None:
    tensor, work = doubled_later()
    graph, stream = device_module.Graph(), Stream(0)
    with device_module.graph(graph, stream=stream):
        assert give(stream, work, 2) == 0
        tensor.add_(1)
    assert tensor.tolist() == [3, 3, 3]
    graph.replay()
    assert tensor.tolist() == [7, 7, 7]


def test_work_that_fails_is_told_and_not_kept() -> None:
    _, work = doubled_later()
    graph, stream = device_module.Graph(), Stream(0)
    with device_module.graph(graph, stream=stream):
        assert give(stream, work, 0) == 3
    graph.replay()


def test_work_that_fails_in_a_replay_is_an_error() -> None:
    device.register()
    results = iter([0, 5])
    work = sglang_host_nccl.Work(lambda arguments: next(results))
    graph, stream = device_module.Graph(), Stream(0)
    with device_module.graph(graph, stream=stream):
        give(stream, work, 1)
    with pytest.raises(RuntimeError, match="result 5"):
        graph.replay()


def test_without_the_library_a_handle_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sglang_host_nccl", None)
    with pytest.raises(RuntimeError, match="install sglang-conformance"):
        _ = Stream(0).sim_stream
