"""The CUDA engine's device, on the host: memory that processes open to each other, and Triton's interpreter."""

from __future__ import annotations

import bisect
import ctypes
import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from sglang_reference._cuda_all_reduce.buffers import Place

_LOOKS_PER_SECOND = 5_000  # of the interpreter, when it has a core for itself


class HostDevice:
    """Memory that others open by the process and descriptor that it has here; graphs are lists of launches."""

    where = torch.device("cpu")

    def __init__(self) -> None:
        self.graph: list[Callable[[], None]] | None = None
        self.exported = 0
        self._maps: dict[int, tuple[mmap.mmap, int]] = {}

    def allocate(self, length: int) -> int:
        descriptor = os.memfd_create("cuda all-reduce", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, length)
        return self._mapped(descriptor, length)

    def _mapped(self, descriptor: int, length: int) -> int:
        memory = mmap.mmap(descriptor, length)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._maps[address] = memory, descriptor
        return address

    def free(self, address: int) -> None:
        memory, descriptor = self._maps.pop(address)
        os.close(descriptor)
        del memory  # unmapped with the last tensor on it

    close = free

    def export(self, address: int) -> Place:
        self.exported += 1
        starts = sorted(self._maps)
        at = bisect.bisect_right(starts, address) - 1
        if at < 0 or address >= starts[at] + len(self._maps[starts[at]][0]):
            raise RuntimeError(f"{address:#x} is in no memory that others can open")
        memory, descriptor = self._maps[starts[at]]
        return Place(f"{os.getpid()} {descriptor} {len(memory)}".encode(), address - starts[at])

    def open(self, handle: bytes) -> int:
        process, descriptor, length = map(int, handle.split())
        return self._mapped(os.open(f"/proc/{process}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC), length)

    @property
    def held(self) -> int:
        """How many pieces of memory are mapped."""
        return len(self._maps)

    def tensor(self, values: torch.Tensor, offset: int = 0) -> torch.Tensor:
        """The same values in memory that others can open."""
        address = self.allocate(offset + values.nbytes)
        out = torch.frombuffer(self._maps[address][0], dtype=values.dtype, count=values.numel(), offset=offset)
        return out.view(values.shape).copy_(values)

    def launch(self, kernel: Any, grid: int, arguments: Sequence[Any], options: Mapping[str, Any]) -> None:
        def run() -> None:
            kernel[(grid,)](*arguments, **options)

        if self.graph is None:
            run()
        else:
            self.graph.append(run)

    def identity(self) -> str:
        return str(os.getpid())

    def processors(self) -> int:
        return 2

    def can_export(self) -> bool:
        return True

    def capturing(self) -> bool:
        return self.graph is not None

    def synchronize(self) -> None:
        pass

    def reported(self) -> torch.Tensor:
        return torch.zeros(2, dtype=torch.int64)

    def looks(self, seconds: float) -> int:
        return max(1, int(seconds * _LOOKS_PER_SECOND))
