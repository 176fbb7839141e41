"""What came of a probe: a value, or a structured failure, with what it printed.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FailureKind = Literal["raised", "exited", "killed", "hung", "stopped", "lost"]
GONE = "the warm process is gone; the code it ran may have killed it"
_KEPT_OUTPUT = 32 << 10


class ZygoteError(RuntimeError):
    """The warm process could not be started, or is gone."""


@dataclass(frozen=True)
class Failure:
    """How a job failed: it raised, its process exited or was killed, or it was still running at its deadline.

    A rank may also have been stopped, because another one had failed, or be lost with its machine.

    ``type`` and ``message`` say what was raised (or, in words, how the process ended); ``frames`` are the traceback's
    (file, line, function), outermost first; ``finding`` is what a check attached to the exception, or None.
    """

    kind: FailureKind
    type: str
    message: str
    bases: tuple[str, ...] = ()
    frames: tuple[tuple[str, int, str], ...] = ()
    traceback: str = ""
    notes: tuple[str, ...] = ()
    finding: Mapping[str, Any] | None = None

    @classmethod
    def raised(cls, error: Mapping[str, Any]) -> Failure:
        """The failure of a job that raised, from what its process said of the exception."""
        return cls(
            "raised",
            error["type"],
            error["message"],
            tuple(error["bases"]),
            tuple((file, line, name) for file, line, name in error["frames"]),
            error["traceback"],
            tuple(error["notes"]),
            error["finding"],
        )


@dataclass(frozen=True)
class Result:
    """What came of one probe. ``output`` is what it printed, head and tail; ``progress`` what it said on its way."""

    value: Any = None
    failure: Failure | None = None
    output: str = ""
    progress: tuple[str, ...] = ()
    seconds: float = 0.0
    orphans: int = 0


def ending(status: int) -> Failure:
    """The failure of a process that ended without an answer, from its exit status (negative: a signal)."""
    if status >= 0:
        return Failure("exited", "Exited", f"its process exited with status {status} before it was done")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return Failure("killed", "Killed", f"its process was killed by {name}")


@dataclass
class Output:
    """The head and the tail of what a probe prints, however much that is."""

    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    dropped: int = 0

    def add(self, data: bytes) -> None:
        """Take in what was read."""
        room = _KEPT_OUTPUT - len(self.head)
        self.head += data[:room]
        self.tail += data[room:] if room > 0 else data
        excess = len(self.tail) - _KEPT_OUTPUT
        if excess > 0:
            del self.tail[:excess]
            self.dropped += excess

    def text(self) -> str:
        """All that was kept, as text."""
        gap = f"\n[... {self.dropped} bytes not kept ...]\n".encode() if self.dropped else b""
        return bytes(self.head + gap + self.tail).decode("utf-8", "replace")


def readable(text: str, lines: int = 40) -> str:
    """A text cut in the middle to so many lines."""
    rows = text.rstrip().splitlines()
    if len(rows) <= lines:
        return "\n".join(rows)
    half = lines // 2
    return "\n".join([*rows[:half], f"[... {len(rows) - 2 * half} lines ...]", *rows[-half:]])
