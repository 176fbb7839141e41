"""Running parts of a check in processes of their own: forks of this one, or one that starts afresh.

There a part may change its process as it likes, and what only shows between processes shows.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from ..certificate.model import Finding
from ..probes.server import describe
from . import expect

Action = Callable[[], Any]

CANNOT_FORK = "not to be seen here: a process that has started the platform's device, or threads, is not to be forked"


@dataclass(frozen=True)
class Outcome:
    """What came of it: a value (plain data), or ``error``, the name of the exception's type, with its message.

    A process that ends without an answer has ``Ended`` for an error, one that does not end in time ``Hung``.
    """

    value: Any = None
    error: str = ""
    message: str = ""
    bases: tuple[str, ...] = ()
    traceback: str = ""
    finding: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.error}: {self.message}" if self.error else repr(self.value)

    def settled(self, call: str) -> Any:
        """The value; what broke a requirement there, or raised, hung or ended, is a violation here too."""
        if self.finding and "Violation" in self.bases:
            there = str(self.finding["call"])
            raise expect.Violation(Finding(**{**self.finding, "call": f"{call}: {there}" if there else call}))
        if "NotCovered" in self.bases:
            raise expect.NotCovered(self.message)
        if self.error:
            expected = "an answer" if self.error in ("Ended", "Hung") else "no error"
            seen = self.message if self.error in ("Ended", "Hung") else str(self)
            expect.fail(expected=expected, seen=seen, call=call, detail=self.traceback[-4000:])
        return self.value


def can_fork(platform: Any) -> bool:
    """Whether this process may fork without breaking the platform's device: one thread, no driver started in it."""
    torch = sys.modules.get("torch")
    module = getattr(torch, str(platform.device_type), None)
    started = getattr(module, "is_initialized", None)
    alone = len(os.listdir("/proc/self/task")) == 1
    return alone and (platform.device_type == "cpu" or not (callable(started) and started()))


def in_fork(action: Action, deadline: float = 20.0) -> Outcome:
    """What comes of the action in a fork of this process, which has ``deadline`` seconds."""
    return in_forks([action], deadline)[0]


def in_forks(actions: Sequence[Action], deadline: float = 20.0) -> list[Outcome]:
    """The same for several at once, each in a fork of its own."""
    forks = [_fork(action) for action in actions]
    moment = time.monotonic() + deadline
    try:
        texts = [_read(reader, moment) for _, reader in forks]
    finally:
        statuses = [_end(pid, reader) for pid, reader in forks]
    return [_outcome(text, status, deadline) for text, status in zip(texts, statuses, strict=True)]


def spawned(function: Callable[..., Any], *arguments: Any, deadline: float) -> Outcome:
    """What comes of a function in a process that starts afresh: with this one's environment, nothing imported.

    SGLang starts its workers so (multiprocessing's spawn). The function is one that can be imported, its arguments are
    plain data.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    text: str | None = None
    try:
        if ours.poll(deadline):
            with contextlib.suppress(EOFError):
                text = ours.recv_bytes().decode()
            process.join(1.0)
            text = text or ""
    finally:
        process.kill()
        process.join()
        ours.close()
    return _outcome(text, process.exitcode or 0, deadline)


def _fork(action: Action) -> tuple[int, int]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _answer(action, writer)
    os.close(writer)
    return pid, reader


def _answer(action: Action, writer: int) -> NoReturn:
    """In the fork: send what comes of the action, and end without Python's own clean-up."""
    text = _told(action)
    with contextlib.suppress(Exception), os.fdopen(writer, "w") as file:
        file.write(text)
    os._exit(0)


def _send(connection: Connection, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    """In the process that was spawned."""
    connection.send_bytes(_told(lambda: function(*arguments)).encode())


def _told(action: Action) -> str:
    try:
        return json.dumps({"value": action()})
    except BaseException as error:
        return json.dumps({"error": describe(error)})


def _read(reader: int, moment: float) -> str | None:
    """What a fork sent: nothing where it ended without a word, None where it had not ended at the moment given."""
    parts: list[bytes] = []
    while select.select([reader], [], [], max(0.0, moment - time.monotonic()))[0]:
        part = os.read(reader, 1 << 16)
        if not part:
            return b"".join(parts).decode()
        parts.append(part)
    return None


def _end(pid: int, reader: int) -> int:
    os.close(reader)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:  # what ran in this process has reaped it
        return 0


def _outcome(text: str | None, status: int, deadline: float) -> Outcome:
    if text is None:
        return Outcome(error="Hung", message=f"nothing after {deadline:g} s; it was killed")
    if not text:
        return Outcome(error="Ended", message=f"the process ended with {status}, without an answer")
    message = json.loads(text)
    if "value" in message:
        return Outcome(message["value"])
    raised = message["error"]
    return Outcome(
        error=raised["type"],
        message=raised["message"],
        bases=tuple(raised["bases"]),
        traceback=raised["traceback"],
        finding=raised["finding"],
    )
