"""Processes beside the probe's own: each a fork that runs one job, for what only shows between processes.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from ...certificate.model import Finding
from .. import expect

Job = Callable[[], Any]


@dataclass(frozen=True)
class _Child:
    pid: int
    end: int


def can_fork(platform: Any) -> bool:
    """Whether this process may fork without breaking the platform's device: one thread, no driver started in it."""
    torch = sys.modules.get("torch")
    module = getattr(torch, str(platform.device_type), None)
    started = getattr(module, "is_initialized", None)
    alone = len(os.listdir("/proc/self/task")) == 1
    return alone and (platform.device_type == "cpu" or not (callable(started) and started()))


def run(jobs: Sequence[Job], *, call: str, seconds: float = 8.0) -> list[Any]:
    """Run every job in a process of its own, all at once; what each returned, as plain JSON data.

    A job that breaks a requirement, raises, ends its process or is not done in ``seconds`` is a violation, which names
    the process by its place in ``jobs``.
    """
    children = [_spawn(job) for job in jobs]
    until = time.monotonic() + seconds
    try:
        messages = [_read(child, until) for child in children]
    finally:
        for child in children:
            _end(child)
    return [_value(message, f"process {place}: {call}", seconds) for place, message in enumerate(messages)]


def _spawn(job: Job) -> _Child:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _work(job, writer)
    os.close(writer)
    return _Child(pid, reader)


def _work(job: Job, writer: int) -> NoReturn:
    """In the child: run the job, send what came of it, and end without Python's own clean-up."""
    try:
        message = {"value": job()}
    except expect.Violation as violation:
        message = {"finding": violation.finding}
    except BaseException as error:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        message = {"error": f"{type(error).__name__}: {error}"[:300], "detail": text[-4000:]}
    with contextlib.suppress(Exception), os.fdopen(writer, "wb") as pipe:
        pipe.write(json.dumps(message, default=repr).encode())
    os._exit(0)


def _read(child: _Child, until: float) -> dict[str, Any]:
    """What the child sent before the deadline: empty where it ended without a word, ``late`` where it did not end."""
    data = b""
    while (left := until - time.monotonic()) > 0 and select.select([child.end], [], [], left)[0]:
        part = os.read(child.end, 1 << 16)
        if not part:
            message: dict[str, Any] = json.loads(data) if data else {}
            return message
        data += part
    return {"late": True}


def _end(child: _Child) -> None:
    os.close(child.end)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child.pid, 0)


def _value(message: dict[str, Any], call: str, seconds: float) -> Any:
    if "finding" in message:
        finding = Finding(**message["finding"])
        raise expect.Violation(Finding(**{**vars(finding), "call": f"{call}: {finding.call}".rstrip(": ")}))
    if "error" in message:
        expect.fail(expected="no error", seen=message["error"], call=call, detail=message["detail"])
    if "late" in message:
        expect.fail(expected="an answer before the deadline", seen=f"nothing after {seconds:g} s", call=call)
    if not message:
        expect.fail(expected="an answer", seen="the process ended without one", call=call)
    return message["value"]
