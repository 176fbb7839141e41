"""The controller's side of probes: start the zygote, fork probes, watch them, end them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import zygote
from .channel import Channel, pair
from .result import GONE, Result, ZygoteError
from .watch import Watch, kill
from .world import World

START_DEADLINE = 120.0
_CLOSE_GRACE = 5.0
_MOST_UNHEARD = 32
"""Answers that may wait to be heard: what sends them must never wait for room, as it then reads no more."""


@dataclass(frozen=True)
class Child:
    """A process that was started and lives on: where it is watched, spoken to and heard.

    ``results`` is where its job's end is told (and its progress), ``reader`` gives its output.
    """

    pid: int
    pidfd: int
    control: Channel
    results: Channel
    reader: int


class Starting:
    """A process that was asked for, to live on: forked while whoever asked does something else."""

    def __init__(self, warm: Warm, control: Channel, results: Channel, reader: int) -> None:
        self._warm = warm
        self._control = control
        self._results = results
        self._reader = reader
        self._taken = False
        self.pid = 0
        """0 until the warm process has told it."""

    def child(self) -> Child:
        """Wait until it is there. To be taken once, as it is the caller's from then on.

        Raises ZygoteError where it cannot be had, or was taken before.
        """
        if self._taken:
            raise ZygoteError("a process that was asked for is taken once")
        try:
            if not self.pid:
                self._warm.hear_of(self)
            child = Child(self.pid, os.pidfd_open(self.pid), self._control, self._results, self._reader)
        except OSError as error:
            self._let_go()
            raise ZygoteError(GONE if isinstance(error, ProcessLookupError) else str(error)) from error
        except ZygoteError:
            self._let_go()
            raise
        self._taken = True
        return child

    def _let_go(self) -> None:
        self._taken = True
        for channel in (self._control, self._results):
            channel.close()
        os.close(self._reader)


@dataclass(frozen=True)
class Ending:
    """How a process had ended (its status; negative: the signal), and how many it left behind."""

    status: int
    orphans: int


class Warm:
    """A process that stands ready, single-threaded, and forks probes that start where it stands."""

    def __init__(self, channel: Channel, threads: int = 1) -> None:
        self._channel = channel
        self._asked_for: deque[Starting] = deque()  # answered in this order, before what is asked after them
        self._lost = ""
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

    def start(
        self,
        job: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        world: World | None = None,
        descriptors: Sequence[int] = (),
    ) -> Starting:
        """Ask for a fork for a job that lives on and speaks over a channel of its own, and do not wait for it.

        It is given copies of ``descriptors``, two at most. Whoever starts it takes it, and ends it with :meth:`end`.
        """
        while len(self._asked_for) >= _MOST_UNHEARD:
            self.hear_of(self._asked_for[0])
        ours, theirs = pair()
        try:
            results, reader = self._request(job, arguments, world, (theirs.fileno(), *descriptors), keep=False)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        starting = Starting(self, ours, results, reader)
        self._asked_for.append(starting)
        return starting

    def hear_of(self, starting: Starting) -> None:
        """Wait for the answer to what was asked for, and to what had been before it."""
        while not starting.pid:
            answer = self._hear()
            self._asked_for.popleft().pid = answer["pid"]

    def end(self, child: Child) -> Ending:
        """Kill a started process with all of its process group, and free what it took; how it had ended."""
        kill(child.pidfd)
        for channel in (child.control, child.results):
            channel.close()
        os.close(child.reader)
        os.close(child.pidfd)
        reaped = self._ask({"do": "reap", "pid": child.pid})
        return Ending(reaped["status"], reaped["orphans"])

    def _fork(
        self,
        job: str,
        arguments: Mapping[str, Any] | None,
        world: World | None,
        deadline: float,
        control: Channel | None,
    ) -> Result:
        keep = control is not None
        try:
            results, reader = self._request(job, arguments, world, (control.fileno(),) if control else (), keep=keep)
        finally:
            if control:
                control.close()
        try:
            pid = self._answer()["pid"]
            watch = Watch(pid, results, reader, keep=keep)
        except BaseException:
            results.close()
            os.close(reader)
            raise
        try:
            result = watch.until(time.monotonic() + deadline, deadline)
            if keep and result.failure is None:
                return result
            watch.wait_for_end()
            # While the reader is open: what the probe left running does not end by a closed pipe.
            reaped = self._ask({"do": "reap", "pid": pid})
        finally:
            watch.close()
        return watch.completed(result, reaped["status"], reaped["orphans"])

    def _request(
        self,
        job: str,
        arguments: Mapping[str, Any] | None,
        world: World | None,
        more: Sequence[int],
        *,
        keep: bool,
    ) -> tuple[Channel, int]:
        """Ask for a fork, and leave the answer for later: the channel of its results, the descriptor of its output."""
        results, theirs = pair()
        reader, writer = os.pipe()
        request = {
            "do": "fork",
            "job": job,
            "arguments": dict(arguments or {}),
            "world": (world or World()).to_json(),
            "keep": keep,
        }
        try:
            self._tell(request, [theirs.fileno(), writer, *more])
        except BaseException:
            results.close()
            os.close(reader)
            raise
        finally:
            theirs.close()
            os.close(writer)
        return results, reader

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._tell(request)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        """The answer to the latest question; those before it come first."""
        if self._asked_for:
            self.hear_of(self._asked_for[-1])
        return self._hear()

    def _tell(self, request: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        if self._lost:  # once it has not answered in time, what it says belongs to nobody knows which question
            raise ZygoteError(self._lost)
        try:
            self._channel.send(request, descriptors)
        except OSError as error:
            raise self._gone(error) from error

    def _hear(self) -> dict[str, Any]:
        if self._lost:
            raise ZygoteError(self._lost)
        try:
            answer = self._channel.receive(timeout=START_DEADLINE)
        except OSError as error:
            raise self._gone(error) from error
        if answer is None:
            raise self._gone()
        return dict(answer[0])

    def _gone(self, error: OSError | None = None) -> ZygoteError:
        self._lost = f"{GONE} ({error})" if error else GONE
        return ZygoteError(self._lost)


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
