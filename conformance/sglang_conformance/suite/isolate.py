"""Running a part of a check in a fork of its own, where it may change its process as it likes.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..probes.server import describe


@dataclass(frozen=True)
class Outcome:
    """What came of it: a value (plain data), or ``error``, the name of the exception's type, with its message."""

    value: Any = None
    error: str = ""
    message: str = ""
    bases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.error}: {self.message}" if self.error else repr(self.value)


def in_fork(action: Callable[[], Any], deadline: float = 20.0) -> Outcome:
    """Call the action in a forked process; its value must be plain data. Exits, signals and hangs are errors."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(action, writer)
    os.close(writer)
    try:
        text = _read(reader, deadline)
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if not text:
        return Outcome(error="Ended", message=f"the process ended with {os.waitstatus_to_exitcode(status)}")
    message = json.loads(text)
    if "error" in message:
        raised = message["error"]
        return Outcome(error=raised["type"], message=raised["message"], bases=tuple(raised["bases"]))
    return Outcome(message["value"])


def _child(action: Callable[[], Any], writer: int) -> None:
    try:
        message = json.dumps({"value": action()})
    except BaseException as error:
        message = json.dumps({"error": describe(error)})
    with os.fdopen(writer, "w") as file:
        file.write(message)
    os._exit(0)


def _read(reader: int, deadline: float) -> str:
    parts: list[bytes] = []
    while select.select([reader], [], [], deadline)[0]:
        part = os.read(reader, 1 << 16)
        if not part:
            return b"".join(parts).decode()
        parts.append(part)
    return ""
