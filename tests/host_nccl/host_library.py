"""NCCL's C API as the tests call it: the host library's functions, with types of our own."""

from __future__ import annotations

import ctypes
from typing import Any

import sglang_host_nccl

P, C, N = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t


class UniqueId(ctypes.Structure):
    _fields_ = [("internal", ctypes.c_char * 128)]


_PARAMETERS: dict[str, tuple[Any, ...]] = {
    "ncclGetVersion": (P,),
    "ncclGetUniqueId": (P,),
    "ncclMemAlloc": (P, N),
    "ncclMemFree": (P,),
    "ncclCommInitRank": (P, C, UniqueId, C),
    "ncclCommInitRankConfig": (P, C, UniqueId, C, P),
    "ncclCommFinalize": (P,),
    "ncclCommDestroy": (P,),
    "ncclCommAbort": (P,),
    "ncclCommGetAsyncError": (P, P),
    "ncclCommCount": (P, P),
    "ncclCommUserRank": (P, P),
    "ncclCommWindowRegister": (P, P, N, P, C),
    "ncclCommWindowDeregister": (P, P),
    "ncclAllReduce": (P, P, N, C, C, P, P),
    "ncclReduce": (P, P, N, C, C, C, P, P),
    "ncclBroadcast": (P, P, N, C, C, P, P),
    "ncclAllGather": (P, P, N, C, P, P),
    "ncclReduceScatter": (P, P, N, C, C, P, P),
    "ncclSend": (P, N, C, C, P, P),
    "ncclRecv": (P, N, C, C, P, P),
    "ncclGroupStart": (),
    "ncclGroupEnd": (),
}


class Nccl:
    """The functions by their names without ``nccl``; each gives its result."""

    def __init__(self) -> None:
        self.addresses = sglang_host_nccl.functions()
        for name, parameters in _PARAMETERS.items():
            setattr(self, name.removeprefix("nccl"), ctypes.CFUNCTYPE(C, *parameters)(self.addresses[name]))
        self.error_string = ctypes.CFUNCTYPE(ctypes.c_char_p, C)(self.addresses["ncclGetErrorString"])
        self._last = ctypes.CFUNCTYPE(ctypes.c_char_p, P)(self.addresses["ncclGetLastError"])

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    @property
    def last_error(self) -> str:
        text: bytes = self._last(None)
        return text.decode()

    def unique_id(self) -> bytes:
        made = UniqueId()
        assert self.GetUniqueId(ctypes.byref(made)) == 0
        return bytes(made)

    def init(self, size: int, unique_id: bytes, rank: int) -> tuple[int, ctypes.c_void_p]:
        comm = P()
        given = UniqueId.from_buffer_copy(unique_id)
        return self.CommInitRank(ctypes.byref(comm), size, given, rank), comm
