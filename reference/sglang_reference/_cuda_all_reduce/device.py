"""What the engine asks of a device, and how a CUDA device answers."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch

from .buffers import Memory, Place
from .cudart import CudaError, Cudart, allocation

_LOOKS_PER_SECOND = 1_000_000  # what a block takes for one look at its board is about a microsecond


class Device(Memory, Protocol):
    """The engine's device: its memory, and how kernels are launched on it. ``where`` is torch's name of it."""

    where: torch.device

    def launch(self, kernel: Any, grid: int, arguments: Sequence[Any], options: Mapping[str, Any]) -> None:
        """Launch a Triton kernel after all that the engine has launched before, or capture its launch."""

    def identity(self) -> str:
        """A name of the device that no other has, whatever its number in a process."""

    def processors(self) -> int:
        """How many blocks run at once, whatever else does not run."""

    def can_export(self) -> bool:
        """Whether other processes can open the memory of torch's tensors."""

    def capturing(self) -> bool:
        """Whether what is launched now goes into a graph, to be done later."""

    def synchronize(self) -> None:
        """Wait until all that was launched is done."""

    def reported(self) -> torch.Tensor:
        """Two words of eight bytes, all zero, which kernels write and the host can read at any time."""

    def looks(self, seconds: float) -> int:
        """About how often a kernel can look at a word in that time."""


class CudaDevice:
    """A CUDA device, by torch and CUDA's runtime. Raises CudaError where that cannot be loaded."""

    def __init__(self, device: torch.device) -> None:
        self.where = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        self._cudart = Cudart()
        self._last: torch.cuda.Stream | None = None

    def allocate(self, length: int) -> int:
        """The address of so many bytes of new memory, all zero."""
        with torch.cuda.device(self.where):
            return self._cudart.allocate(length)

    def free(self, address: int) -> None:
        """Give memory back."""
        with torch.cuda.device(self.where):
            self._cudart.free(address)

    def export(self, address: int) -> Place:
        """Where an address of this process is, for others; not so for memory of expandable segments (CudaError)."""
        with torch.cuda.device(self.where):
            base, _ = allocation(address)
            return Place(self._cudart.export(base), address - base)

    def open(self, handle: bytes) -> int:
        """The address in this process where another process's allocation begins."""
        with torch.cuda.device(self.where):
            return self._cudart.open(handle)

    def close(self, address: int) -> None:
        """Let go of an allocation that was opened."""
        with torch.cuda.device(self.where):
            self._cudart.close(address)

    def launch(self, kernel: Any, grid: int, arguments: Sequence[Any], options: Mapping[str, Any]) -> None:
        """Launch on the current stream, which first waits for the one that was launched on before."""
        with torch.cuda.device(self.where), self._loading():
            stream = torch.cuda.current_stream()
            last, self._last = self._last, stream
            if last is not None and last != stream and _captures(last) == _captures(stream):
                stream.wait_stream(last)
            kernel[(grid,)](*arguments, **options)

    @contextlib.contextmanager
    def _loading(self) -> Iterator[None]:
        """A scope in which a kernel may be loaded, also while a graph is captured."""
        if not self.capturing():
            yield
            return
        before = self._cudart.relax_capture()
        try:
            yield
        finally:
            self._cudart.relax_capture(before)

    def identity(self) -> str:
        """The device's UUID."""
        return str(torch.cuda.get_device_properties(self.where).uuid)

    def processors(self) -> int:
        """Its streaming multiprocessors: each has room for one block of any of the kernels."""
        return int(torch.cuda.get_device_properties(self.where).multi_processor_count)

    def capturing(self) -> bool:
        """Whether the current stream captures."""
        with torch.cuda.device(self.where):
            return bool(torch.cuda.is_current_stream_capturing())

    def synchronize(self) -> None:
        """Wait until the device has done all that was launched."""
        torch.cuda.synchronize(self.where)

    def reported(self) -> torch.Tensor:
        """Two words of pinned memory, which the device reaches at the host's address."""
        with torch.cuda.device(self.where):
            return torch.zeros(2, dtype=torch.int64, pin_memory=True)

    def looks(self, seconds: float) -> int:
        """About how often a kernel can look at a word in that time."""
        return max(1, int(seconds * _LOOKS_PER_SECOND))

    def can_export(self) -> bool:
        """Whether other processes can open the memory of torch's tensors: not that of expandable segments."""
        probe = torch.empty(1, dtype=torch.uint8, device=self.where)
        try:
            self.export(probe.data_ptr())
        except CudaError:
            return False
        return True


def _captures(stream: torch.cuda.Stream) -> bool:
    with torch.cuda.stream(stream):
        return bool(torch.cuda.is_current_stream_capturing())


def word(tensor: torch.Tensor, index: int) -> int:
    """A word of a tensor of the host's, as it is in memory now."""
    return ctypes.c_int64.from_address(tensor.data_ptr() + 8 * index).value
