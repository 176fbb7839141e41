"""A host library: NCCL's C API and semantics for machines without an accelerator, over shared memory.

It takes the same pointers, counts, codes, communicators and streams as NCCL, between the processes of one machine, so
that whatever is written against NCCL's API is really exercised where there is no GPU. It is no part of SGLang: the
reference binds to it under the name :data:`NAME`, and the simulated accelerator has it for its library.

    addresses = sglang_host_nccl.functions()
    get_version = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int))(addresses["ncclGetVersion"])

Each call is complete when it returns, unless its stream is that of a device which lives on the host itself and takes
work for later (:mod:`.streams`). A wait ends when the process waited for has ended, or after the seconds that
``SGLANG_HOST_MEMORY_TIMEOUT`` says. Rules: the C API of NCCL 2.32, https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/api.html
"""

from .library import NAME, VERSION, functions
from .streams import HostStream, Launch, Work

__all__ = ["NAME", "VERSION", "HostStream", "Launch", "Work", "functions"]
