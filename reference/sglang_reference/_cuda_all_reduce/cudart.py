"""The few functions of CUDA's runtime and driver that the engine needs, through ctypes."""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Iterable
from pathlib import Path

_HANDLE_BYTES = 64
_LAZY_PEER_ACCESS = 1  # cudaIpcMemLazyEnablePeerAccess
_RELAXED = 2  # cudaStreamCaptureModeRelaxed
_NAMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12")
_DRIVER = "libcuda.so.1"


class CudaError(RuntimeError):
    """A call that CUDA refused, with its own words for why."""


class _Handle(ctypes.Structure):
    """cudaIpcMemHandle_t."""

    _fields_ = [("reserved", ctypes.c_ubyte * _HANDLE_BYTES)]


class Cudart:
    """CUDA's runtime: the library that torch has loaded where it has one, else the first that is found.

    Raises CudaError where there is none. Calls are about the current device of the thread, and raise CudaError.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._library = _load((*names, *_loaded(), *_NAMES))
        self._library.cudaGetErrorString.restype = ctypes.c_char_p

    def allocate(self, length: int) -> int:
        """The address of so many bytes of new memory, all zero."""
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(length))
        try:
            self._call("cudaMemset", address, 0, ctypes.c_size_t(length))
            self._call("cudaDeviceSynchronize")
        except CudaError:
            self.free(address.value or 0)
            raise
        return address.value or 0

    def free(self, address: int) -> None:
        """Give memory back."""
        self._call("cudaFree", ctypes.c_void_p(address))

    def export(self, address: int) -> bytes:
        """What other processes open the allocation by that an address lies in."""
        handle = _Handle()
        self._call("cudaIpcGetMemHandle", ctypes.byref(handle), ctypes.c_void_p(address))
        return bytes(handle.reserved)

    def open(self, handle: bytes) -> int:
        """The address of another process's allocation in this one."""
        if len(handle) != _HANDLE_BYTES:
            raise CudaError(f"a handle of memory has {_HANDLE_BYTES} bytes, this one has {len(handle)}")
        address = ctypes.c_void_p()
        by_value = _Handle.from_buffer_copy(handle)
        self._call("cudaIpcOpenMemHandle", ctypes.byref(address), by_value, ctypes.c_uint(_LAZY_PEER_ACCESS))
        return address.value or 0

    def close(self, address: int) -> None:
        """Let go of memory that was opened."""
        self._call("cudaIpcCloseMemHandle", ctypes.c_void_p(address))

    def relax_capture(self, mode: int = _RELAXED) -> int:
        """What this thread may do while it captures a graph, from now on: all, by default. Gives what it was."""
        exchanged = ctypes.c_int(mode)
        self._call("cudaThreadExchangeStreamCaptureMode", ctypes.byref(exchanged))
        return exchanged.value

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            self._library.cudaGetLastError()  # or the next call of anyone would tell of this one
            said = self._library.cudaGetErrorString(code).decode()
            raise CudaError(f"{name} failed: {said} (error {code})")


def allocation(address: int) -> tuple[int, int]:
    """Where the allocation begins that an address lies in, and its length in bytes. Raises CudaError."""
    base, length = ctypes.c_uint64(), ctypes.c_size_t()
    code = _driver().cuMemGetAddressRange_v2(ctypes.byref(base), ctypes.byref(length), ctypes.c_uint64(address))
    if code:
        text = ctypes.c_char_p()
        _driver().cuGetErrorString(code, ctypes.byref(text))
        said = (text.value or b"unknown").decode()
        raise CudaError(f"cuMemGetAddressRange failed: {said} (error {code})")
    return base.value, length.value


@functools.cache
def _driver() -> ctypes.CDLL:
    return _load((_DRIVER,))


def _load(names: Iterable[str]) -> ctypes.CDLL:
    why = []
    for name in dict.fromkeys(names):
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            why.append(str(error))
    raise CudaError(f"CUDA's library cannot be loaded: {'; '.join(why)}")


def _loaded() -> list[str]:
    """The paths of the runtimes that this process has loaded."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return []
    return sorted(set(re.findall(r"\S*/libcudart[^/\s]*\.so[\d.]*$", maps, re.MULTILINE)))
