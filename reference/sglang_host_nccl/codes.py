"""The numbers of NCCL's API, and what they stand for.

Facts: nccl.h of NCCL 2.32.3; the texts are those that ``ncclGetErrorString`` gives there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import NamedTuple

from sglang_host_memory import AbsentError, MachineError, MisfitError, StoppedError, TakenError, TroubleError

UNIQUE_ID_BYTES = 128
CONFIG_MAGIC = 0xCAFEBEEF
UNDEFINED = -(2**31)  # a field of ncclConfig_t that is left to the library


class Result(IntEnum):
    """``ncclResult_t``."""

    SUCCESS = 0
    UNHANDLED_CUDA_ERROR = 1
    SYSTEM_ERROR = 2
    INTERNAL_ERROR = 3
    INVALID_ARGUMENT = 4
    INVALID_USAGE = 5
    REMOTE_ERROR = 6
    IN_PROGRESS = 7
    TIMEOUT = 8


TEXTS: Mapping[int, str] = {
    Result.SUCCESS: "no error",
    Result.UNHANDLED_CUDA_ERROR: "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
    Result.SYSTEM_ERROR: "unhandled system error (run with NCCL_DEBUG=INFO for details)",
    Result.INTERNAL_ERROR: "internal error - please report this issue to the NCCL developers",
    Result.INVALID_ARGUMENT: "invalid argument (run with NCCL_DEBUG=WARN for details)",
    Result.INVALID_USAGE: "invalid usage (run with NCCL_DEBUG=WARN for details)",
    Result.REMOTE_ERROR: "remote process exited or there was a network error",
    Result.IN_PROGRESS: "NCCL operation in progress",
    Result.TIMEOUT: "timeout",
}
UNKNOWN_RESULT = "unknown result code"


class Failure(Exception):
    """A call that ends with a result other than success; its text is what ``ncclGetLastError`` tells."""

    def __init__(self, result: Result, text: str) -> None:
        super().__init__(text)
        self.result = result


# What is no trouble of the ranks' memory is a setting that cannot be used.
_TROUBLES: Mapping[type[Exception], Result] = {
    AbsentError: Result.REMOTE_ERROR,
    TakenError: Result.INVALID_USAGE,
    MisfitError: Result.INVALID_ARGUMENT,
    MachineError: Result.SYSTEM_ERROR,
    StoppedError: Result.INTERNAL_ERROR,
    ValueError: Result.INVALID_ARGUMENT,
}


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Let what goes wrong in the ranks' memory be raised as a Failure."""
    try:
        yield
    except (TroubleError, ValueError) as error:
        result = next(result for kind, result in _TROUBLES.items() if isinstance(error, kind))
        raise Failure(result, str(error)) from error


class Type(NamedTuple):
    """A type of ``ncclDataType_t``: torch's name for it, and the bytes of an element."""

    name: str
    size: int


TYPES: tuple[Type, ...] = (
    Type("int8", 1),
    Type("uint8", 1),
    Type("int32", 4),
    Type("uint32", 4),
    Type("int64", 8),
    Type("uint64", 8),
    Type("float16", 2),
    Type("float32", 4),
    Type("float64", 8),
    Type("bfloat16", 2),
    Type("float8_e4m3fn", 1),
    Type("float8_e5m2", 1),
)
"""By code."""

OPERATIONS: tuple[str, ...] = ("sum", "prod", "max", "min", "avg")
"""``ncclRedOp_t``, by code."""
