"""Memory that the processes of one machine share, and by which they meet, keep in step and wait for each other.

    segment = join("a name", rank, Layout(size=2, buffer=1 << 20))
    step = segment.begin()
    ...  # write what this rank gives to segment.buffer(rank, step)
    other = segment.agree(what, count)  # published; all have; they do the same, or one that does not is told
    ...  # read what others give from segment.buffer(other, step)
    segment.close()

What can go wrong is an exception of :mod:`.troubles`. A wait ends when the process waited for has ended, or after the
seconds given, or else those of ``TIMEOUT_VARIABLE``.
"""

from .layout import Layout
from .meeting import DEFAULT_TIMEOUT, TIMEOUT_VARIABLE, join
from .segment import Segment, order_memory
from .troubles import AbsentError, MachineError, MisfitError, StoppedError, TakenError, TroubleError

__all__ = [
    "DEFAULT_TIMEOUT",
    "TIMEOUT_VARIABLE",
    "AbsentError",
    "Layout",
    "MachineError",
    "MisfitError",
    "Segment",
    "StoppedError",
    "TakenError",
    "TroubleError",
    "join",
    "order_memory",
]
