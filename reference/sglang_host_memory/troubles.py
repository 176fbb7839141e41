"""What can go wrong between ranks that share memory."""

from __future__ import annotations


class TroubleError(Exception):
    """Any of these; its text says what has happened, and to which rank."""


class AbsentError(TroubleError):
    """A rank has not come in time, has ended, has left or has failed."""


class MisfitError(TroubleError):
    """A rank and the others do not fit together: they are not as many, or share memory of another shape."""


class TakenError(MisfitError):
    """Another process has this rank's place."""


class MachineError(TroubleError):
    """The machine refuses what is asked of it."""


class StoppedError(TroubleError):
    """Another thread of this process has ended the wait."""
