"""Sums of torch tensors in host memory over the processes of one machine, by memory that these share.

    engine = Engine("a name", rank, size)
    engine.all_reduce(tensor, out)  # out holds the sum over all ranks, the same bits on each
    held = engine.empty((1024, 1024), torch.bfloat16)  # lies in shared memory: its sums need no copy first
    engine.close()

It knows nothing of SGLang, and stands on :mod:`sglang_host_memory` alone, whose troubles it lets through.
"""

from sglang_host_memory import TIMEOUT_VARIABLE, AbsentError, MachineError, MisfitError, StoppedError, TroubleError

from .arithmetic import DTYPES
from .engine import Engine
from .troubles import MismatchError, UnusableError

__all__ = [
    "DTYPES",
    "TIMEOUT_VARIABLE",
    "AbsentError",
    "Engine",
    "MachineError",
    "MisfitError",
    "MismatchError",
    "StoppedError",
    "TroubleError",
    "UnusableError",
]
