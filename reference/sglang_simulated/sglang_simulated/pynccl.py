"""PyNCCL on the simulated accelerator: SGLang's communicator, with our device and our library under it.

SGLang's class speaks of ``torch.cuda`` and loads NCCL (0.5.23, srt/distributed/device_communicators/pynccl.py). What
it does with tensors fits every library of NCCL's API, so only its making and its stream are ours, by hooks on these two
methods. The library is ``sglang_host_nccl``, which stands in for a vendor's own; where it is not installed, the
platform does not declare PyNCCL, and SGLang goes by torch.distributed.
"""
# mypy: disable-error-code="import-not-found, import-untyped, misc"

from __future__ import annotations

import contextlib
import ctypes
import weakref
from typing import Any, NamedTuple

import torch

from sglang_simulated.hardware import has_library
from sglang_simulated.meeting import place_in, told_by_all
from sglang_simulated.runtime import runtime
from sglang_simulated.streams import Stream, StreamContext, current_stream


def make(communicator: Any, group: Any, device: Any, *_: Any, **__: Any) -> None:
    """Instead of ``PyNcclCommunicator.__init__``: meet the group's other ranks in a communicator of our library.

    All ranks say first whether they have it: one that went on alone would wait for the others without end. What else
    SGLang gives speaks of a library's path and of NCCL's own settings; ``device`` is the CPU before 0.5.23.
    """
    communicator.group = group
    communicator.rank, communicator.world_size = place_in(group)
    communicator.available, communicator.disabled = False, True
    communicator.device = torch.device("sim", runtime().current_device())
    if communicator.world_size == 1 or not all(told_by_all(group, has_library())):
        return
    communicator.nccl = library = _library(f"rank {communicator.rank} of {communicator.world_size}")
    communicator.nccl_version = library.ncclGetRawVersion()
    communicator.unique_id = _shared_id(group, communicator.rank, library)
    communicator.comm = library.ncclCommInitRank(communicator.world_size, communicator.unique_id, communicator.rank)
    weakref.finalize(communicator, _give_back, library, communicator.comm).atexit = False
    communicator.available = True
    with communicator.change_state(enable=True), StreamContext(Stream(communicator.device)):
        communicator.all_reduce(torch.zeros(1, device=communicator.device))  # opens what the first one opens


class _Handle(NamedTuple):
    """A stream as SGLang's communicator looks at it."""

    cuda_stream: int


def resolve_stream(communicator: Any) -> _Handle:
    """In place of ``PyNcclCommunicator._resolve_stream``: the stream current on our device at this moment."""
    return _Handle(current_stream(communicator.device).sim_stream)


def _library(whose: str) -> Any:
    """SGLang's binding of NCCL's API, to our library's functions; what its errors say, with the rank whose they are."""
    from sglang.srt.distributed.device_communicators.pynccl_wrapper import NCCLLibrary

    import sglang_host_nccl

    addresses = sglang_host_nccl.functions()
    last_error = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(addresses["ncclGetLastError"])

    class SimLibrary(NCCLLibrary):
        """Bound to addresses, where SGLang's own loads a file."""

        def __init__(self) -> None:
            self._funcs = {
                each.name: ctypes.CFUNCTYPE(each.restype, *each.argtypes)(addresses[each.name])
                for each in (*self.exported_functions, *self.exported_functions_symm_mem)
            }

        def NCCL_CHECK(self, result: int, call: str = "") -> None:  # noqa: N802 - SGLang's name
            """Raise RuntimeError for a result other than success."""
            if result:
                detail = last_error(None).decode(errors="replace")
                raise RuntimeError(f"NCCL error on {whose}: {self.ncclGetErrorString(result)} ({detail})")

    return SimLibrary()


def _shared_id(group: Any, rank: int, library: Any) -> Any:
    """The first rank's id, on all."""
    from sglang.srt.distributed.device_communicators.pynccl_wrapper import ncclUniqueId

    told = told_by_all(group, bytes(library.ncclGetUniqueId()) if rank == 0 else b"")
    return ncclUniqueId.from_buffer_copy(told[0])


def _give_back(library: Any, comm: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the host may have given it back already
        library.ncclCommDestroy(comm)
