"""The controller's side of probes: start the zygote, fork probes, watch them, end them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from . import zygote
from .channel import Channel, ChannelError, pair
from .world import World

START_DEADLINE = 120.0
_STACKS_GRACE = 0.3
_EXIT_GRACE = 0.5
_CLOSE_GRACE = 5.0
_GONE = "the warm process is gone; the code it ran may have killed it"
_KEPT_OUTPUT = 32 << 10

FailureKind = Literal["raised", "exited", "killed", "hung"]


class ZygoteError(RuntimeError):
    """The warm process could not be started, or is gone."""


@dataclass(frozen=True)
class Failure:
    """How a job failed: it raised, its process exited or was killed, or it was still running at its deadline.

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


class Warm:
    """A process that stands ready, single-threaded, and forks probes that start where it stands."""

    def __init__(self, channel: Channel, threads: int = 1) -> None:
        self._channel = channel
        self.threads = threads

    def run(
        self,
        job: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        world: World | None = None,
        deadline: float = 30.0,
    ) -> Result:
        """Fork a probe for one job and wait for its end, ``deadline`` seconds at most.

        Raises ZygoteError where the warm process itself is gone.
        """
        return self._fork(job, arguments, world, deadline, None)

    def warm(
        self,
        job: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        world: World | None = None,
        deadline: float = 60.0,
    ) -> tuple[Warm | None, Result]:
        """Fork a process that runs a job and then stands ready in its turn; None where the job failed."""
        ours, theirs = pair()
        result = self._fork(job, arguments, world, deadline, theirs)
        if result.failure is not None:
            ours.close()
            return None, result
        value, threads = result.value
        return Warm(ours, threads), Result(value, None, result.output, result.progress, result.seconds, result.orphans)

    def close(self) -> None:
        """Let the process end."""
        self._channel.close()

    def _fork(
        self,
        job: str,
        arguments: Mapping[str, Any] | None,
        world: World | None,
        deadline: float,
        control: Channel | None,
    ) -> Result:
        results, theirs = pair()
        reader, writer = os.pipe()
        given = [theirs.fileno(), writer] + ([control.fileno()] if control else [])
        request = {
            "do": "fork",
            "job": job,
            "arguments": dict(arguments or {}),
            "world": (world or World()).to_json(),
            "keep": control is not None,
        }
        try:
            pid = self._ask(request, given)["pid"]
            watch = _Watch(pid, results, reader, keep=control is not None)
        except BaseException:
            results.close()
            os.close(reader)
            raise
        finally:
            theirs.close()
            os.close(writer)
            if control:
                control.close()
        try:
            result = watch.until(time.monotonic() + deadline, deadline)
        finally:
            watch.close()
        if control is not None and result.failure is None:
            return result
        reaped = self._ask({"do": "reap", "pid": pid})
        return watch.completed(result, reaped["status"], reaped["orphans"])

    def _ask(self, request: Mapping[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        try:
            self._channel.send(request, descriptors)
            answer = self._channel.receive(timeout=START_DEADLINE)
        except OSError as error:
            raise ZygoteError(f"{_GONE} ({error})") from error
        if answer is None:
            raise ZygoteError(_GONE)
        return dict(answer[0])


class _Watch:
    """Waits for one probe: its results, its output, its end, its deadline, whichever comes."""

    def __init__(self, pid: int, results: Channel, reader: int, *, keep: bool) -> None:
        self._pid = pid
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError as error:  # unreaped, it would still be there: its parent is gone, and it with it
            raise ZygoteError(_GONE) from error
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
            self._signal(signal.SIGUSR1)  # faulthandler writes every thread's stack to the output
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
            failure = _ending(status)
        return Result(result.value, failure, self._output.text(), result.progress, result.seconds, orphans)

    def close(self) -> None:
        """Make sure that the probe has ended (unless it is to be kept) and free what watching took."""
        if not self._keep or self._answer is None or "failure" in self._answer:
            self._wait_for_end()
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

    def _wait_for_end(self) -> None:
        end = selectors.DefaultSelector()
        with end:
            end.register(self._pidfd, selectors.EVENT_READ)
            moment = time.monotonic() + _EXIT_GRACE
            while not end.select(0.005) and time.monotonic() < moment and not self._killed:
                self._drain()
            self._kill()
            end.select(_EXIT_GRACE)

    def _kill(self) -> None:
        """End the probe and all of its process group."""
        self._killed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)


def _ending(status: int) -> Failure:
    """The failure of a process that ended without an answer, from its exit status (negative: a signal)."""
    if status >= 0:
        return Failure("exited", "Exited", f"its process exited with status {status} before it was done")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return Failure("killed", "Killed", f"its process was killed by {name}")


@dataclass(frozen=True)
class Zygote:
    """The first warm process, started by this one; others may :func:`connect` to its address."""

    address: str
    process: subprocess.Popen[bytes]

    def close(self) -> None:
        """End it, and with it every process that came of it."""
        self.process.terminate()
        try:
            self.process.wait(_CLOSE_GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(modules: Sequence[str], environment: Mapping[str, str] | None = None) -> Zygote:
    """Start a zygote that imports the modules. Returns at once; the first :func:`connect` waits for the imports."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # An abstract address leaves nothing in the file system, whatever ends us. The zygote checks its callers' user.
    address = f"sglang-conformance-{secrets.token_hex(12)}"
    listener.bind("\0" + address)
    listener.listen(64)
    # Unlike -m and a script's path, this leaves no extra folder at the head of the import path.
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if p]; "
        "from sglang_conformance.probes.zygote import main; main(sys.argv[1:])"
    )
    own = {**os.environ, **zygote.ENVIRONMENT, **(environment or {})}
    restore = json.dumps({name: own.get(name) for name in zygote.ENVIRONMENT_AT_START})
    with listener:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(listener.fileno()), str(os.getpid()), restore, *modules],
            env={**own, **zygote.ENVIRONMENT_AT_START},
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
        )
    return Zygote(address, process)


def connect(address: str) -> Warm:
    """A warm process of one's own, forked from the zygote at that address.

    Raises ZygoteError where nobody listens there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect("\0" + address)
    except OSError as error:
        sock.close()
        raise ZygoteError(f"no warm process at {address!r}: {error}") from error
    return Warm(Channel(sock))
