"""What a stream is to the host library: nothing, or a device on the host that takes work.

A stream's handle is NULL (or CUDA's legacy or per-thread default), and work is then done at once. Or it is the address
of a :class:`HostStream`, which a device that lives on the host gives its streams: work is then handed to ``launch``,
which does it when its turn has come, and again with every replay of a graph that has captured it, as a GPU does with
a kernel.
"""

from __future__ import annotations

import ctypes
from typing import Any

from .codes import Failure, Result

MAGIC = int.from_bytes(b"HOSTSTRM", "little")
_DEFAULTS = (None, 0, 1, 2)
_LOWEST = 4096  # nothing lies below: an address there is a number that somebody took for a handle

Work = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
"""Does work that its argument describes; gives an ``ncclResult_t``. The same function for all work, for good."""

Launch = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, Work, ctypes.c_void_p, ctypes.c_size_t)
"""``launch(stream, work, arguments, size)``: give work to a stream; gives an ``ncclResult_t``.

``arguments`` are ``size`` bytes that are there during this call only: who does the work later keeps a copy.
"""


class HostStream(ctypes.Structure):
    """What the handle of a host device's stream points to; ``launch`` is called with that handle."""

    _fields_ = [("magic", ctypes.c_uint64), ("launch", Launch)]

    magic: int
    launch: Any

    @staticmethod
    def of(launch: Any) -> HostStream:
        """One that hands work to this function; its address is the handle, while it lives."""
        return HostStream(MAGIC, launch)


def stream_at(handle: int | None) -> HostStream | None:
    """The stream of that handle; None where work is done at once. Raises Failure for what is no handle."""
    if handle in _DEFAULTS:
        return None
    if handle is None or handle < _LOWEST or handle % ctypes.alignment(HostStream):
        raise Failure(Result.INVALID_ARGUMENT, f"{handle:#x} is not the handle of a stream")
    stream = HostStream.from_address(handle)
    if stream.magic != MAGIC:
        raise Failure(Result.INVALID_ARGUMENT, f"what lies at {handle:#x} is not a stream of a device on the host")
    return stream
