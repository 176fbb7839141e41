"""What the CUDA engine asks of CUDA, with stand-ins for its library and for torch's streams."""

from __future__ import annotations

import contextlib
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sglang_reference._cuda_all_reduce import cudart as module
from sglang_reference._cuda_all_reduce.buffers import Place
from sglang_reference._cuda_all_reduce.cudart import CudaError, Cudart, allocation
from sglang_reference._cuda_all_reduce.device import CudaDevice


class _Function:
    """A function of the library, which notes its calls; it may be told a result's type, as ctypes' are."""

    restype: Any = None

    def __init__(self, library: Library, name: str) -> None:
        self._library, self._name = library, name

    def __call__(self, *arguments: Any) -> Any:
        return self._library.called(self._name, arguments)


class Library:
    """CUDA's runtime and driver as far as they are used: memory lies where it says, and a function fails if told."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails = ""
        self.mode = 1
        self.error = 0
        self.opened = b""

    def __getattr__(self, name: str) -> _Function:
        if not name.startswith("cu"):
            raise AttributeError(name)
        return _Function(self, name)

    def called(self, name: str, given: tuple[Any, ...]) -> Any:
        self.calls.append(name)
        if name == "cudaGetErrorString":
            return b"out of luck"
        if name == "cudaGetLastError":
            self.error = 0
            return 2
        if name == self.fails:
            self.error = 2
            return 2
        if name == "cudaMalloc":
            given[0]._obj.value = 0x7000 + given[1].value
        elif name == "cudaIpcGetMemHandle":
            given[0]._obj.reserved[:] = given[1].value.to_bytes(8, "little") * 8
        elif name == "cudaIpcOpenMemHandle":
            self.opened = bytes(given[1].reserved)
            given[0]._obj.value = 0x9000
        elif name == "cudaThreadExchangeStreamCaptureMode":
            given[0]._obj.value, self.mode = self.mode, given[0]._obj.value
        elif name == "cuMemGetAddressRange_v2":
            given[0]._obj.value, given[1]._obj.value = given[2].value & ~0xFFF, 0x1000
        elif name == "cuGetErrorString":
            given[1]._obj.value = b"not mine"
        return 0


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    made = Library()
    monkeypatch.setattr(module, "_load", lambda names: made)
    module._driver.cache_clear()
    yield made
    module._driver.cache_clear()


def test_new_memory_is_zero_and_given_back_where_that_fails(library: Library) -> None:
    cudart = Cudart()
    assert cudart.allocate(0x20) == 0x7020
    assert library.calls == ["cudaMalloc", "cudaMemset", "cudaDeviceSynchronize"]
    library.fails = "cudaMemset"
    with pytest.raises(CudaError, match=r"cudaMemset failed: out of luck \(error 2\)"):
        cudart.allocate(0x20)
    assert library.calls[-1] == "cudaFree"
    assert library.error == 0  # torch's next call must not be told of it


def test_handles_cross_as_they_are(library: Library) -> None:
    cudart = Cudart()
    handle = cudart.export(0x7020)
    assert handle == (0x7020).to_bytes(8, "little") * 8
    assert cudart.open(handle) == 0x9000
    assert library.opened == handle
    cudart.close(0x9000)
    assert library.calls[-1] == "cudaIpcCloseMemHandle"


def test_allocation_of_an_address(library: Library) -> None:
    assert allocation(0x7ABC) == (0x7000, 0x1000)
    library.fails = "cuMemGetAddressRange_v2"
    with pytest.raises(CudaError, match="cuMemGetAddressRange failed: not mine"):
        allocation(0x7ABC)


class Stream:
    """One of torch's, which notes what it waits for."""

    def __init__(self, name: str, captures: bool = False) -> None:
        self.name, self.captures = name, captures
        self.waited: list[str] = []

    def wait_stream(self, other: Stream) -> None:
        self.waited.append(other.name)


class Cuda(SimpleNamespace):
    """torch.cuda, with a stream that is current."""

    stream_now: Any = None

    def device(self, where: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def current_stream(self) -> Any:
        return self.stream_now

    @contextlib.contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before, self.stream_now = self.stream_now, stream
        try:
            yield
        finally:
            self.stream_now = before

    def is_current_stream_capturing(self) -> bool:
        return bool(self.stream_now.captures)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    made = Cuda()
    monkeypatch.setattr(torch, "cuda", made)
    return made


class Kernel:
    """Notes the stream that is current, and how far the capture is relaxed, at each launch."""

    def __init__(self, cuda: Cuda, library: Library) -> None:
        self.cuda, self.library = cuda, library
        self.launched: list[tuple[str, int]] = []

    def __getitem__(self, grid: tuple[int]) -> Any:
        return lambda *given, **options: self.launched.append((self.cuda.stream_now.name, self.library.mode))


def test_launches_follow_one_another_from_stream_to_stream(library: Library, cuda: Cuda) -> None:
    device, kernel = CudaDevice(torch.device("cuda", 0)), Kernel(cuda, library)
    one, two, capturing = Stream("one"), Stream("two"), Stream("capturing", captures=True)
    for stream in (one, one, two, one, capturing, capturing, two):
        with cuda.stream(stream):
            device.launch(kernel, 1, (), {})
    assert [name for name, _ in kernel.launched] == ["one", "one", "two", "one", "capturing", "capturing", "two"]
    # What is captured is not done yet, and is ordered by who replays it.
    assert (one.waited, two.waited, capturing.waited) == (["two"], ["one"], [])
    inside = Stream("forked", captures=True)
    for stream in (capturing, inside):
        with cuda.stream(stream):
            device.launch(kernel, 1, (), {})
    assert inside.waited == ["capturing"]


def test_kernels_may_be_loaded_while_a_graph_is_captured(library: Library, cuda: Cuda) -> None:
    device, kernel = CudaDevice(torch.device("cuda", 0)), Kernel(cuda, library)
    for captures in (False, True):
        with cuda.stream(Stream("it", captures)):
            device.launch(kernel, 1, (), {})
    assert [mode for _, mode in kernel.launched] == [1, 2]
    assert library.mode == 1

    class Broken:
        def __getitem__(self, grid: tuple[int]) -> Any:
            raise ValueError("no such kernel")

    with cuda.stream(Stream("it", captures=True)), pytest.raises(ValueError, match="no such kernel"):
        device.launch(Broken(), 1, (), {})
    assert library.mode == 1


def test_places_are_told_from_where_their_allocation_begins(library: Library, cuda: Cuda) -> None:
    device = CudaDevice(torch.device("cuda", 0))
    assert device.export(0x7ABC) == Place((0x7000).to_bytes(8, "little") * 8, 0xABC)
    library.fails = "cudaIpcGetMemHandle"
    with pytest.raises(CudaError):
        device.export(0x7ABC)


BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "cuda_all_reduce.py"


def test_benchmark_says_what_it_needs() -> None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    program = [sys.executable, str(BENCHMARK)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "this benchmark needs CUDA devices, and torch sees none here\n"


def test_benchmark_takes_each_rounds_slowest_rank_and_the_median_of_the_rounds() -> None:
    row = runpy.run_path(str(BENCHMARK))["_row"]
    one = {"1shot_push": [1.0, 9.0, 2.0], "2shot_pull": [6.0, 6.0, 6.0], "nccl": [8.0, 8.0, 8.0]}
    other = {"1shot_push": [3.0, 1.0, 4.0], "2shot_pull": [5.0, 5.0, 5.0], "nccl": [1.0, 1.0, 1.0]}
    assert row((one, other)) == {
        "1shot_push": 4.0,
        "2shot_pull": 6.0,
        "nccl": 8.0,
        "best / nccl": 0.5,
        "best / symmetric memory": None,
    }
