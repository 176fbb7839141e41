"""The functions of NCCL's C API, as C functions: an address for each name, as a shared library gives them."""

from __future__ import annotations

import ctypes
import functools
import mmap
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from . import unique_id
from .codes import CONFIG_MAGIC, TEXTS, UNDEFINED, UNIQUE_ID_BYTES, UNKNOWN_RESULT, Failure, Result
from .communicator import Communicator
from .operations import HEAD_BYTES, Kind, Operation, pack, packed_length, unpack
from .streams import Work, stream_at

NAME = "host"
"""What stands for this library where a path to one is expected."""

VERSION = 23203
"""What ``ncclGetVersion`` answers: the version whose API this is."""

_MOST_RANKS = 64


class UniqueId(ctypes.Structure):
    """``ncclUniqueId``."""

    _fields_ = [("internal", ctypes.c_char * UNIQUE_ID_BYTES)]


class _Config(ctypes.Structure):
    """The beginning of ``ncclConfig_t``, which every version has."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("magic", ctypes.c_uint),
        ("version", ctypes.c_uint),
        ("blocking", ctypes.c_int),
    ]


class _Pending(NamedTuple):
    """An operation that waits for the end of its group."""

    handle: int
    operation: Operation
    stream: int | None


class _Thread(threading.local):
    """What each thread has under way: how deep it is in group calls, what these hold, and the first error in them."""

    def __init__(self) -> None:
        self.depth = 0
        self.pending: list[_Pending] = []
        self.failure: Failure | None = None


@dataclass
class Library:
    """The state of the library in one process."""

    communicators: dict[int, Communicator] = field(default_factory=dict)
    memory: dict[int, mmap.mmap] = field(default_factory=dict)
    last_error: ctypes.Array[ctypes.c_char] = field(default_factory=lambda: ctypes.create_string_buffer(b"", 1024))
    _thread: _Thread = field(default_factory=_Thread)
    _next: int = 0x1000

    def __post_init__(self) -> None:
        self._work = Work(self._guarded(self._do))

    def functions(self) -> dict[str, Any]:
        """Each function by its name."""
        calls = {name: (kinds, getattr(self, method)) for name, (kinds, method) in _CALLS.items()}
        for name, (kinds, make) in _OPERATIONS.items():
            calls[name] = ((*kinds, _P, _P), partial(self.give, name, make))
        made = {name: ctypes.CFUNCTYPE(_I, *kinds)(self._guarded(call)) for name, (kinds, call) in calls.items()}
        return made | {
            "ncclGetErrorString": ctypes.CFUNCTYPE(_P, _I)(_text_of),
            "ncclGetLastError": ctypes.CFUNCTYPE(_P, _P)(lambda _: ctypes.addressof(self.last_error)),
        }

    def _guarded(self, function: Callable[..., None]) -> Callable[..., int]:
        """Its result as a code: nothing may be raised into C."""

        @functools.wraps(function)
        def call(*arguments: Any) -> int:
            try:
                function(*arguments)
            except Failure as failure:
                self._note(failure)
                return failure.result
            except BaseException as error:
                self._note(Failure(Result.INTERNAL_ERROR, f"{type(error).__name__}: {error}"))
                return Result.INTERNAL_ERROR
            return Result.SUCCESS

        return call

    def _note(self, failure: Failure) -> None:
        self.last_error.value = str(failure).encode()[: len(self.last_error) - 1]

    # The library as a whole.

    def get_version(self, version: int | None) -> None:
        """``ncclGetVersion``."""
        _write(ctypes.c_int, version, VERSION, "ncclGetVersion: version")

    def get_unique_id(self, target: int | None) -> None:
        """``ncclGetUniqueId``."""
        address = _require_pointer(target, "ncclGetUniqueId: uniqueId")
        ctypes.memmove(address, unique_id.make(), UNIQUE_ID_BYTES)

    def allocate(self, pointer: int | None, size: int) -> None:
        """``ncclMemAlloc``."""
        _require_pointer(pointer, "ncclMemAlloc: ptr")
        memory = mmap.mmap(-1, max(size, 1))
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self.memory[address] = memory
        _write(ctypes.c_void_p, pointer, address, "ncclMemAlloc: ptr")

    def free(self, address: int | None) -> None:
        """``ncclMemFree``."""
        if address and self.memory.pop(address, None) is None:
            raise Failure(Result.INVALID_ARGUMENT, f"ncclMemFree: {address:#x} is not what ncclMemAlloc gave")

    # Communicators.

    def init(self, pointer: int | None, size: int, name: UniqueId, rank: int) -> None:
        """``ncclCommInitRank``."""
        _require_pointer(pointer, "ncclCommInitRank: comm")
        if not 1 <= size <= _MOST_RANKS:
            raise Failure(Result.INVALID_ARGUMENT, f"ncclCommInitRank: {size} ranks, where 1 to {_MOST_RANKS} can be")
        if not 0 <= rank < size:
            raise Failure(Result.INVALID_ARGUMENT, f"ncclCommInitRank: rank {rank} is none of {size}")
        made = Communicator(f"nccl-{unique_id.name_of(bytes(name))}", rank, size)
        self._next += 8
        self.communicators[self._next] = made
        _write(ctypes.c_void_p, pointer, self._next, "ncclCommInitRank: comm")

    def init_with_config(self, pointer: int | None, size: int, name: UniqueId, rank: int, config: int | None) -> None:
        """``ncclCommInitRankConfig``. A communicator is ready when this returns, also where it need not be."""
        if config:
            given = _Config.from_address(config)
            if given.magic != CONFIG_MAGIC or given.size < ctypes.sizeof(_Config):
                raise Failure(Result.INVALID_ARGUMENT, "ncclCommInitRankConfig: config was not initialized")
            if given.blocking not in (0, 1, UNDEFINED):
                raise Failure(
                    Result.INVALID_ARGUMENT, f"ncclCommInitRankConfig: blocking is {given.blocking}, not 0 or 1"
                )
        self.init(pointer, size, name, rank)

    def finalize(self, handle: int | None) -> None:
        """``ncclCommFinalize``: there is nothing under way."""
        self._communicator(handle, "ncclCommFinalize")

    def destroy(self, handle: int | None) -> None:
        """``ncclCommDestroy``."""
        if handle:
            self._communicator(handle, "ncclCommDestroy").close()
            del self.communicators[handle]

    def abort(self, handle: int | None) -> None:
        """``ncclCommAbort``."""
        if handle:
            self._communicator(handle, "ncclCommAbort").abort()
            del self.communicators[handle]

    def get_async_error(self, handle: int | None, result: int | None) -> None:
        """``ncclCommGetAsyncError``."""
        error = self._communicator(handle, "ncclCommGetAsyncError").error
        _write(ctypes.c_int, result, error, "ncclCommGetAsyncError: asyncError")

    def count(self, handle: int | None, count: int | None) -> None:
        """``ncclCommCount``."""
        _write(ctypes.c_int, count, self._communicator(handle, "ncclCommCount").size, "ncclCommCount: count")

    def user_rank(self, handle: int | None, rank: int | None) -> None:
        """``ncclCommUserRank``."""
        _write(ctypes.c_int, rank, self._communicator(handle, "ncclCommUserRank").rank, "ncclCommUserRank: rank")

    def register_window(
        self, handle: int | None, buffer: int | None, size: int, window: int | None, flags: int
    ) -> None:
        """``ncclCommWindowRegister``; the memory is as good without, so that nothing but the handle is kept."""
        communicator = self._communicator(handle, "ncclCommWindowRegister")
        _require_pointer(buffer, "ncclCommWindowRegister: buff")
        self._next += 8
        _write(ctypes.c_void_p, window, self._next, "ncclCommWindowRegister: win")
        communicator.windows[self._next] = size

    def deregister_window(self, handle: int | None, window: int | None) -> None:
        """``ncclCommWindowDeregister``."""
        if self._communicator(handle, "ncclCommWindowDeregister").windows.pop(window or 0, None) is None:
            raise Failure(Result.INVALID_ARGUMENT, "ncclCommWindowDeregister: there is no such window")

    def _communicator(self, handle: int | None, call: str) -> Communicator:
        found = self.communicators.get(_require_pointer(handle, f"{call}: comm"))
        if found is None:
            raise Failure(Result.INVALID_ARGUMENT, f"{call}: {handle:#x} is no communicator, or one no more")
        return found

    # Operations.

    def give(self, call: str, make: Callable[..., Operation], *arguments: Any) -> None:
        """Do what ``make`` makes of the arguments but the last two, communicator and stream; in a group, at its end."""
        *given, handle, stream = arguments
        thread = self._thread
        try:
            communicator = self._communicator(handle, call)
            operation = make(*given)
            operation.require(communicator.rank, communicator.size)
        except Failure as failure:
            if thread.depth and thread.failure is None:
                thread.failure = failure
            raise
        if thread.depth:
            thread.pending.append(_Pending(handle, operation, stream))
        elif stream is None:
            communicator.run((operation,))
        else:
            self._launch(handle, [operation], stream)

    def begin_group(self) -> None:
        """``ncclGroupStart``."""
        self._thread.depth += 1

    def end_group(self) -> None:
        """``ncclGroupEnd``: do what the group holds; where a call of it has failed, nothing, and fail as it did."""
        thread = self._thread
        if not thread.depth:
            raise Failure(Result.INVALID_USAGE, "ncclGroupEnd: not in a group call.")
        thread.depth -= 1
        if thread.depth:
            return
        pending, failure = thread.pending, thread.failure
        thread.pending, thread.failure = [], None
        if failure is not None:
            raise failure
        # One communicator after the other, in an order that is the same on all ranks: that in which they were made.
        for handle in sorted({each.handle for each in pending}):
            mine = [each for each in pending if each.handle == handle]
            self._launch(handle, [each.operation for each in mine], mine[0].stream)

    def _launch(self, handle: int, operations: list[Operation], stream: int | None) -> None:
        device = stream_at(stream)
        if device is None:
            self._communicator(handle, "launch").run(operations)
            return
        arguments = pack(handle, operations)
        result = device.launch(stream, self._work, arguments, len(arguments))
        if result:
            raise Failure(Result(result), self.last_error.value.decode(errors="replace"))

    def _do(self, arguments: int) -> None:
        """Do the work that :func:`.pack` has described."""
        length = packed_length(ctypes.string_at(arguments, HEAD_BYTES))
        handle, operations = unpack(ctypes.string_at(arguments, length))
        self._communicator(handle, "launch").run(operations)


def _require_pointer(pointer: int | None, what: str) -> int:
    if not pointer:
        raise Failure(Result.INVALID_ARGUMENT, f"{what} argument is NULL")
    return pointer


def _write(kind: Any, pointer: int | None, value: int, what: str) -> None:
    kind.from_address(_require_pointer(pointer, what)).value = value


@functools.cache
def _texts() -> dict[int, Any]:
    return {code: ctypes.create_string_buffer(text.encode()) for code, text in {**TEXTS, -1: UNKNOWN_RESULT}.items()}


def _text_of(result: int) -> int:
    return ctypes.addressof(_texts()[result if result in TEXTS else -1])


_P, _I, _N = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t

_CALLS: Mapping[str, tuple[Any, str]] = {
    "ncclGetVersion": ((_P,), "get_version"),
    "ncclGetUniqueId": ((_P,), "get_unique_id"),
    "ncclMemAlloc": ((_P, _N), "allocate"),
    "ncclMemFree": ((_P,), "free"),
    "ncclCommInitRank": ((_P, _I, UniqueId, _I), "init"),
    "ncclCommInitRankConfig": ((_P, _I, UniqueId, _I, _P), "init_with_config"),
    "ncclCommFinalize": ((_P,), "finalize"),
    "ncclCommDestroy": ((_P,), "destroy"),
    "ncclCommAbort": ((_P,), "abort"),
    "ncclCommGetAsyncError": ((_P, _P), "get_async_error"),
    "ncclCommCount": ((_P, _P), "count"),
    "ncclCommUserRank": ((_P, _P), "user_rank"),
    "ncclCommWindowRegister": ((_P, _P, _N, _P, _I), "register_window"),
    "ncclCommWindowDeregister": ((_P, _P), "deregister_window"),
    "ncclGroupStart": ((), "begin_group"),
    "ncclGroupEnd": ((), "end_group"),
}


# The parameters before communicator and stream, and what is made of them.
_OPERATIONS: Mapping[str, tuple[tuple[Any, ...], Callable[..., Operation]]] = {
    "ncclAllReduce": ((_P, _P, _N, _I, _I), lambda s, t, n, kind, op: _of(Kind.ALL_REDUCE, s, t, n, kind, op)),
    "ncclReduce": ((_P, _P, _N, _I, _I, _I), lambda s, t, n, kind, op, root: _of(Kind.REDUCE, s, t, n, kind, op, root)),
    "ncclBroadcast": ((_P, _P, _N, _I, _I), lambda s, t, n, kind, root: _of(Kind.BROADCAST, s, t, n, kind, 0, root)),
    "ncclAllGather": ((_P, _P, _N, _I), lambda s, t, n, kind: _of(Kind.ALL_GATHER, s, t, n, kind)),
    "ncclReduceScatter": ((_P, _P, _N, _I, _I), lambda s, t, n, kind, op: _of(Kind.REDUCE_SCATTER, s, t, n, kind, op)),
    "ncclSend": ((_P, _N, _I, _I), lambda s, n, kind, peer: _of(Kind.SEND, s, 0, n, kind, 0, peer)),
    "ncclRecv": ((_P, _N, _I, _I), lambda t, n, kind, peer: _of(Kind.RECV, 0, t, n, kind, 0, peer)),
}


def _of(kind: Kind, source: int | None, target: int | None, *rest: int) -> Operation:
    return Operation(kind, source or 0, target or 0, *rest)


@functools.cache
def _made() -> dict[str, Any]:
    return Library().functions()


@functools.cache
def functions() -> Mapping[str, int]:
    """The address of each function of this process's library, by its name in NCCL's C API."""
    return {name: ctypes.cast(function, ctypes.c_void_p).value or 0 for name, function in _made().items()}
