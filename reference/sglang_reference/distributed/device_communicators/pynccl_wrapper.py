"""``sglang.srt.distributed.device_communicators.pynccl_wrapper``: NCCL's C API, bound by ctypes.

Whatever has NCCL's functions can be bound: NCCL itself, a vendor's library of the same API, or the host library
(``sglang_host_nccl``), which needs no accelerator and stands under the path ``host``. Facts: SGLang 0.5.11 to 0.5.23,
srt/distributed/device_communicators/pynccl_wrapper.py; nccl.h of NCCL 2.30 and 2.32.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..._released import Lifetime, absent, withdraw
from .._devices import kind_of_device
from ._nccl_types import NCCL_API_MAGIC as NCCL_API_MAGIC
from ._nccl_types import NCCL_CONFIG_UNDEF_INT as NCCL_CONFIG_UNDEF_INT
from ._nccl_types import NCCL_CONFIG_UNDEF_PTR as NCCL_CONFIG_UNDEF_PTR
from ._nccl_types import NCCL_CONFIG_VERSION as NCCL_CONFIG_VERSION
from ._nccl_types import NCCL_CTA_POLICY_ZERO as NCCL_CTA_POLICY_ZERO
from ._nccl_types import (
    buffer_type,
    cudaStream_t,
    ncclComm_t,
    ncclConfig_t,
    ncclDataType_t,
    ncclDataTypeEnum,
    ncclRedOp_t,
    ncclRedOpTypeEnum,
    ncclResult_t,
    ncclUniqueId,
    ncclWindow_t,
)

logger = logging.getLogger(__name__)

__all__ = [
    "NCCLLibrary",
    "buffer_type",
    "cudaStream_t",
    "ncclComm_t",
    "ncclConfig_t",
    "ncclDataTypeEnum",
    "ncclRedOpTypeEnum",
    "ncclUniqueId",
]

PATH_VARIABLE = "SGLANG_NCCL_SO_PATH"
HOST_LIBRARY = "host"

# The libraries of the devices that SGLang has built in, as their own torch brings them along.
_NAMES = {"cuda": "libnccl.so.2", "rocm": "librccl.so.1", "musa": "libmccl.so.2"}


@dataclass
class Function:
    """A function of the C API: its name, and the types of what it gives and takes."""

    name: str
    restype: Any
    argtypes: list[Any]


def _function(name: str, *argtypes: Any, restype: Any = ncclResult_t) -> Function:
    return Function(name, restype, list(argtypes))


_BUFFERS = (buffer_type, buffer_type, ctypes.c_size_t, ncclDataType_t)
_ON = (ncclComm_t, cudaStream_t)
_COMM = ctypes.POINTER(ncclComm_t)

# What a library may lack: it is asked for only where it is used.
_OPTIONAL = (
    _function("ncclGetLastError", ncclComm_t, restype=ctypes.c_char_p),
    _function("ncclCommAbort", ncclComm_t),
    _function("ncclCommGetAsyncError", ncclComm_t, ctypes.POINTER(ncclResult_t)),
    _function("ncclCommInitRankConfig", _COMM, ctypes.c_int, ncclUniqueId, ctypes.c_int, ctypes.POINTER(ncclConfig_t)),
)


def find_nccl_library() -> str:
    """The path or name of the library to bind to: what ``SGLANG_NCCL_SO_PATH`` says, else that of the device in use.

    A plugin whose device has a library of its own replaces this by a hook, and so comes before both. Raises ValueError
    where the device has none: as SGLang gives an out-of-tree platform NCCL where torch was built for CUDA, which then
    aborts (https://github.com/sgl-project/sglang/issues/24267), the reference gives it nothing unasked.
    """
    path = os.environ.get(PATH_VARIABLE)
    if path:
        return path
    name = _NAMES.get(kind_of_device())
    if name is None:
        raise ValueError(
            f"the device in use has no library with NCCL's API: name one in {PATH_VARIABLE}, "
            "or replace find_nccl_library by a hook"
        )
    return name


_own_find = find_nccl_library


class Found(NamedTuple):
    """Which library a binding is to: ``name`` as given, ``by`` whom, the ``path`` it lies at, its ``version``."""

    name: str
    by: str
    path: str
    version: str


class _Place(ctypes.Structure):
    """``Dl_info``."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


def _load(name: str) -> tuple[Mapping[str, int], str]:
    """The addresses of a library's functions by their names, and the file that it is."""
    if name == HOST_LIBRARY:
        import sglang_host_nccl

        return sglang_host_nccl.functions(), sglang_host_nccl.__file__ or ""
    library = ctypes.CDLL(name)
    found = {each.name: getattr(library, each.name, None) for each in _known_functions()}
    addresses = {
        each: ctypes.cast(function, ctypes.c_void_p).value or 0 for each, function in found.items() if function
    }
    place = _Place()
    told = ctypes.CDLL(None).dladdr(ctypes.c_void_p(next(iter(addresses.values()), 0)), ctypes.byref(place))
    return addresses, os.fsdecode(place.file) if told and place.file else ""


@functools.cache
def _bound(name: str) -> tuple[Mapping[str, Any], str]:
    """A library's functions, bound, and the file that it is; raises OSError where there is none."""
    addresses, path = _load(name)
    known = {each.name: ctypes.CFUNCTYPE(each.restype, *each.argtypes) for each in _known_functions()}
    return {each: prototype(addresses[each]) for each, prototype in known.items() if each in addresses}, path


class NCCLLibrary:
    """A library with NCCL's API. Its methods are NCCL's functions, and raise RuntimeError with the library's own words.

    ``so_file`` is a path or a name; without it :func:`find_nccl_library` says. Raises OSError where it cannot be
    loaded or lacks a function. ``whose`` stands in what errors say.
    """

    exported_functions = [
        _function("ncclGetErrorString", ncclResult_t, restype=ctypes.c_char_p),
        _function("ncclGetVersion", ctypes.POINTER(ctypes.c_int)),
        _function("ncclGetUniqueId", ctypes.POINTER(ncclUniqueId)),
        _function("ncclCommInitRank", _COMM, ctypes.c_int, ncclUniqueId, ctypes.c_int),
        _function("ncclAllReduce", *_BUFFERS, ncclRedOp_t, *_ON),
        _function("ncclAllGather", *_BUFFERS, *_ON),
        _function("ncclReduce", *_BUFFERS, ncclRedOp_t, ctypes.c_int, *_ON),
        _function("ncclReduceScatter", *_BUFFERS, ncclRedOp_t, *_ON),
        _function("ncclSend", *_BUFFERS[1:], ctypes.c_int, *_ON),
        _function("ncclRecv", *_BUFFERS[1:], ctypes.c_int, *_ON),
        _function("ncclBroadcast", *_BUFFERS, ctypes.c_int, *_ON),
        _function("ncclCommDestroy", ncclComm_t),
        _function("ncclGroupStart"),
        _function("ncclGroupEnd"),
    ]
    exported_functions_symm_mem = [
        _function(
            "ncclCommWindowRegister",
            ncclComm_t,
            buffer_type,
            ctypes.c_size_t,
            ctypes.POINTER(ncclWindow_t),
            ctypes.c_int,
        ),
        _function("ncclCommWindowDeregister", ncclComm_t, ncclWindow_t),
        _function("ncclMemAlloc", ctypes.POINTER(buffer_type), ctypes.c_size_t),
        _function("ncclMemFree", buffer_type),
    ]

    def __init__(self, so_file: str | None = None) -> None:
        by = "the caller" if so_file else _who_finds()
        name = so_file or find_nccl_library()
        try:
            self._funcs, path = _bound(name)
            lacking = [each.name for each in self.exported_functions if each.name not in self._funcs]
            if lacking:
                raise OSError(f"{path or name} has no {', '.join(lacking)}")
        except OSError as error:
            logger.error("the NCCL library %s, named by %s, cannot be used: %s", name, by, error)
            raise
        self.whose = ""
        self._name, self._by, self._path = name, by, path

    @property
    def found(self) -> Found:
        """Which library this is. Of the reference alone."""
        return Found(self._name, self._by, self._path, self.ncclGetVersion())

    def ncclGetErrorString(self, result: int) -> str:
        """What a result means."""
        text: bytes = self._funcs["ncclGetErrorString"](result)
        return text.decode("utf-8")

    def NCCL_CHECK(self, result: int, call: str = "") -> None:
        """Raise RuntimeError for a result other than success: the call, what it means, what the library adds."""
        if result == 0:
            return
        last = self._funcs.get("ncclGetLastError")
        detail = last(None).decode("utf-8", "replace") if last is not None else ""
        where = " in ".join(part for part in ("NCCL error", call) if part)
        who = f" on {self.whose}" if self.whose else ""
        raise RuntimeError(f"{where}{who}: {self.ncclGetErrorString(result)}{f' ({detail})' if detail else ''}")

    def _call(self, name: str, *arguments: Any) -> None:
        function = self._funcs.get(name)
        if function is None:
            raise RuntimeError(f"the NCCL library {self._path or self._name} has no function {name}")
        result = function(*arguments)
        if result:
            self.NCCL_CHECK(result, name)

    def ncclGetRawVersion(self) -> int:
        """The library's version as one number, as 21903."""
        version = ctypes.c_int()
        self._call("ncclGetVersion", ctypes.byref(version))
        return version.value

    def ncclGetVersion(self) -> str:
        """The library's version as text, as 2.19.3."""
        raw = self.ncclGetRawVersion()
        major, rest = divmod(raw, 10000) if raw >= 10000 else divmod(raw, 1000)  # four digits up to 2.8
        return f"{major}.{rest // 100}.{rest % 100}"

    def ncclGetUniqueId(self) -> ncclUniqueId:
        """A new id for a communicator."""
        unique_id = ncclUniqueId()
        self._call("ncclGetUniqueId", ctypes.byref(unique_id))
        return unique_id

    def ncclCommInitRank(self, world_size: int, unique_id: ncclUniqueId, rank: int) -> ctypes.c_void_p:
        """Join the communicator of an id: waits for all its ranks."""
        comm = ncclComm_t()
        self._call("ncclCommInitRank", ctypes.byref(comm), world_size, unique_id, rank)
        return comm

    def ncclCommInitRankConfig(
        self, world_size: int, unique_id: ncclUniqueId, rank: int, config: ncclConfig_t | None = None
    ) -> ctypes.c_void_p:
        """The same, for a communicator of that configuration; by default of none."""
        comm, given = ncclComm_t(), config or ncclConfig_t.create()
        self._call("ncclCommInitRankConfig", ctypes.byref(comm), world_size, unique_id, rank, ctypes.byref(given))
        return comm

    def ncclAllReduce(self, *arguments: Any) -> None:
        """``sendbuff, recvbuff, count, datatype, op, comm, stream``."""
        self._call("ncclAllReduce", *arguments)

    def ncclReduce(self, *arguments: Any) -> None:
        """``sendbuff, recvbuff, count, datatype, op, root, comm, stream``."""
        self._call("ncclReduce", *arguments)

    def ncclReduceScatter(self, *arguments: Any) -> None:
        """``sendbuff, recvbuff, recvcount, datatype, op, comm, stream``."""
        self._call("ncclReduceScatter", *arguments)

    def ncclAllGather(self, *arguments: Any) -> None:
        """``sendbuff, recvbuff, sendcount, datatype, comm, stream``."""
        self._call("ncclAllGather", *arguments)

    def ncclSend(self, *arguments: Any) -> None:
        """``sendbuff, count, datatype, peer, comm, stream``."""
        self._call("ncclSend", *arguments)

    def ncclRecv(self, *arguments: Any) -> None:
        """``recvbuff, count, datatype, peer, comm, stream``."""
        self._call("ncclRecv", *arguments)

    def ncclBroadcast(self, *arguments: Any) -> None:
        """``sendbuff, recvbuff, count, datatype, root, comm, stream``."""
        self._call("ncclBroadcast", *arguments)

    def ncclCommDestroy(self, comm: ctypes.c_void_p) -> None:
        """Give a communicator back; all its ranks do, in one order."""
        self._call("ncclCommDestroy", comm)

    def ncclCommAbort(self, comm: ctypes.c_void_p) -> None:
        """Give a communicator back that cannot go on, whatever the other ranks do. Of the reference alone."""
        self._call("ncclCommAbort", comm)

    def ncclCommGetAsyncError(self, comm: ctypes.c_void_p) -> int:
        """The result that a communicator's work has come to. Of the reference alone."""
        result = ncclResult_t()
        self._call("ncclCommGetAsyncError", comm, ctypes.byref(result))
        return result.value

    def ncclCommWindowRegister(
        self, comm: ctypes.c_void_p, buff: ctypes.c_void_p, size: int, win_flags: int
    ) -> ctypes.c_void_p:
        """Let a communicator know ``size`` bytes that all its ranks have at their own addresses; gives the window."""
        window = ncclWindow_t()
        self._call("ncclCommWindowRegister", comm, buff, size, ctypes.byref(window), win_flags)
        return window

    def ncclCommWindowDeregister(self, comm: ctypes.c_void_p, window: ctypes.c_void_p) -> None:
        """Let a communicator forget a window."""
        self._call("ncclCommWindowDeregister", comm, window)

    def ncclMemAlloc(self, size: int) -> int | None:
        """The address of so many bytes that can be registered."""
        pointer = buffer_type()
        self._call("ncclMemAlloc", ctypes.byref(pointer), size)
        return pointer.value

    def ncclMemFree(self, ptr: int) -> None:
        """Give memory back that :meth:`ncclMemAlloc` gave."""
        self._call("ncclMemFree", buffer_type(ptr))

    def ncclGroupStart(self) -> None:
        """Keep this thread's calls until :meth:`ncclGroupEnd`, and then do them all at once."""
        self._call("ncclGroupStart")

    def ncclGroupEnd(self) -> None:
        """End a group of calls."""
        self._call("ncclGroupEnd")


def _known_functions() -> list[Function]:
    return [*NCCLLibrary.exported_functions, *NCCLLibrary.exported_functions_symm_mem, *_OPTIONAL]


def _who_finds() -> str:
    """Who says which library to use where the caller does not."""
    if find_nccl_library is not _own_find:
        return "the platform's hook on find_nccl_library"
    return PATH_VARIABLE if os.environ.get(PATH_VARIABLE) else "the device in use"


_CONFIG = Lifetime("0.5.17")
for _method in absent(
    {
        "ncclCommInitRankConfig": _CONFIG,
        "ncclMemAlloc": Lifetime("0.5.23"),
        "ncclMemFree": Lifetime("0.5.23"),
    }
):
    delattr(NCCLLibrary, _method)

_ABSENT = withdraw(
    globals(),
    {
        "NCCL_API_MAGIC": _CONFIG,
        "NCCL_CONFIG_UNDEF_INT": _CONFIG,
        "NCCL_CONFIG_UNDEF_PTR": _CONFIG,
        "NCCL_CONFIG_VERSION": _CONFIG,
        "NCCL_CTA_POLICY_ZERO": Lifetime("0.5.23"),
        "ncclConfig_t": _CONFIG,
    },
)
