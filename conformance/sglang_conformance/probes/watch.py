"""Waiting for one probe: its results, its output, its end, its deadline, whichever comes.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from typing import Any

from .channel import Channel, ChannelError
from .result import GONE, Failure, Output, Result, ZygoteError, ending

_STACKS_GRACE = 0.3
_EXIT_GRACE = 0.5


class Watch:
    """Waits for one probe: its results, its output, its end, its deadline, whichever comes."""

    def __init__(self, pid: int, results: Channel, reader: int, *, keep: bool) -> None:
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError as error:  # unreaped, it would still be there: its parent is gone, and it with it
            raise ZygoteError(GONE) from error
        self._results = results
        self._reader = reader
        self._keep = keep
        self._output = Output()
        self._progress: list[str] = []
        self._started = time.monotonic()
        self._answer: dict[str, Any] | None = None
        self._killed = False
        os.set_blocking(reader, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(results, selectors.EVENT_READ, "results")
        self._selector.register(reader, selectors.EVENT_READ, "output")
        self._selector.register(self._pidfd, selectors.EVENT_READ, "end")

    def until(self, moment: float, deadline: float) -> Result:
        """Wait for the probe's answer and end, or kill it at the moment given (a monotonic time)."""
        if not self._wait(moment):
            send_signal(self._pidfd, signal.SIGUSR1)  # faulthandler writes every thread's stack to the output
            self._wait(time.monotonic() + _STACKS_GRACE, ignore_answer=True)
            self._kill()
            failure = Failure("hung", "Hung", f"still running after {deadline:g} s; it was killed")
            return self._result(failure=failure)
        if self._answer is None:
            return self._result(failure=Failure("exited", "Exited", "its process ended without an answer"))
        if "failure" in self._answer:
            return self._result(failure=Failure.raised(self._answer["failure"]))
        value = self._answer["value"]
        return self._result(value=(value, self._answer["threads"]) if self._keep else value)

    def completed(self, result: Result, status: int, orphans: int) -> Result:
        """The result, with what only the end of the process tells: how it ended, and what it left behind."""
        failure = result.failure
        if failure is not None and failure.kind == "exited":
            failure = ending(status)
        return Result(result.value, failure, self._output.text(), result.progress, result.seconds, orphans)

    def wait_for_end(self) -> None:
        """Wait until the probe has ended; kill it where it does not soon. What it left running runs on."""
        end = selectors.DefaultSelector()
        with end:
            end.register(self._pidfd, selectors.EVENT_READ)
            moment = time.monotonic() + _EXIT_GRACE
            while not (ended := end.select(0.005)) and time.monotonic() < moment and not self._killed:
                self._drain()
            if not ended:
                self._kill()
                end.select(_EXIT_GRACE)

    def close(self) -> None:
        """Make sure that the probe has ended (unless it is to be kept) and free what watching took."""
        if not self._keep or self._answer is None or "failure" in self._answer:
            self.wait_for_end()
        self._drain()
        self._selector.close()
        self._results.close()
        os.close(self._reader)
        os.close(self._pidfd)

    def _result(self, *, value: Any = None, failure: Failure | None = None) -> Result:
        seconds = time.monotonic() - self._started
        return Result(value, failure, self._output.text(), tuple(self._progress), seconds)

    def _wait(self, moment: float, *, ignore_answer: bool = False) -> bool:
        """Take in what comes until there is an answer or an end (True), or the moment is reached (False)."""
        while (left := moment - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                if key.data == "output":
                    self._drain()
                elif key.data == "end":
                    self._take_messages()
                    return True
                elif self._take_messages() and not ignore_answer:
                    return True
        return False

    def _take_messages(self) -> bool:
        """Read what the probe has sent so far; whether its answer is in."""
        while self._answer is None:
            try:
                received = self._results.receive(timeout=0.0)
            except ChannelError:
                return False
            if received is None:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(self._results)
                return False
            message = received[0]
            if isinstance(message, dict) and "progress" in message:
                self._progress.append(str(message["progress"]))
            elif isinstance(message, dict) and ("value" in message or "failure" in message):
                self._answer = message
        return True

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._reader, 1 << 16):
                self._output.add(data)
                if len(data) < 1 << 16:
                    return
            with contextlib.suppress(KeyError):
                self._selector.unregister(self._reader)

    def _kill(self) -> None:
        self._killed = True
        kill(self._pidfd)


def kill(pidfd: int) -> None:
    """Kill a process. Its children live on until it is reaped: the resource tracker frees what it had."""
    send_signal(pidfd, signal.SIGKILL)


def send_signal(pidfd: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)
