"""The warm side: a single-threaded process that forks probes on request.

A request names a job, ``package.module:function``, called in the fork as ``function(probe, **arguments)``. What it
returns goes back as JSON. With ``keep`` it returns ``(state, value)``: the fork keeps the state, sends the value, and
from then on serves requests of its own. Without, a third descriptor is a channel that the job itself may speak over,
and any further ones are its to use.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NoReturn

from .channel import Channel
from .world import World

ORPHANS_GRACE = 1.0
"""Seconds to end by oneself: multiprocessing's resource tracker frees shared memory and ends, soon after its parent."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Probe:
    """What a job is given: the state of the warm process it was forked from, and a way to say how far it is.

    ``control`` is a channel to whoever started it, ``descriptors`` what came with it; for jobs that live longer.
    """

    state: Any
    progress: Callable[[str], None]
    control: Channel | None = None
    descriptors: tuple[int, ...] = ()


def serve(channel: Channel, state: Any) -> NoReturn:
    """Answer requests until the other end closes, then end the process."""
    adopt_orphans()
    running: set[int] = set()
    while (received := channel.receive()) is not None:
        request, descriptors = received
        if request["do"] == "reap":
            status, orphans = _reap(request["pid"], running)
            running.discard(request["pid"])
            channel.send({"status": status, "orphans": orphans})
            continue
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            channel.close()
            _be_probe(request, descriptors, state, parent)
        running.add(pid)
        for descriptor in descriptors:
            os.close(descriptor)
        channel.send({"pid": pid})
    os._exit(0)


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel signal this process when its parent ends; ends it at once where the parent is gone already."""
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(0)


def adopt_orphans() -> None:
    """Have what descendants leave behind fall to this process, also what left their session."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


_LIBC = ctypes.CDLL(None)


def _prctl(option: int, value: int) -> None:
    _LIBC.prctl(option, value, 0, 0, 0)


def _reap(pid: int, running: Collection[int]) -> tuple[int, int]:
    """Wait for a probe's end, and end what it left behind: its exit status, and how many had to be killed."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # unreaped, its process group's number is still its own
    orphans = end_orphans(running, ORPHANS_GRACE)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), orphans


def end_orphans(running: Collection[int] = (), grace: float = 0.0) -> int:
    """Kill and reap every child but those running (the others fell to this process); return how many had to be killed.

    Those that end by themselves within ``grace`` seconds are none of them.
    """
    ended = 0
    moment = time.monotonic() + grace
    # A killed orphan's own children fall to us in turn, so look until there is nothing new.
    while orphans := [pid for pid in _children() if pid not in running]:
        for pid in orphans:
            if not _ends(pid, moment):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                ended += 1
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
    return ended


def _ends(pid: int, moment: float) -> bool:
    """Whether a child ends by itself before the moment given (a monotonic time)."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], max(0.0, moment - time.monotonic()))[0])
    finally:
        os.close(descriptor)


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN: rely on the process group alone
        return []


def _be_probe(request: dict[str, Any], descriptors: list[int], state: Any, parent: int) -> NoReturn:
    try:
        os.setsid()
        die_with_parent(parent)
        results, output, *rest = descriptors
        _redirect(output)
        channel = Channel.from_descriptor(results)
        kept = _answer(request, state, channel, rest)
        _flush()
        if kept is not None and rest:
            channel.close()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            serve(Channel.from_descriptor(rest[0]), kept[0])
    except BaseException:
        traceback.print_exc()
        _flush()
        os._exit(70)
    os._exit(0)


def _redirect(output: int) -> None:
    devnull = os.open(os.devnull, os.O_RDONLY)
    os.dup2(devnull, 0)
    os.close(devnull)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # Kept open under a number of its own: vendor code may close or redirect 2.
    faulthandler.enable(file=output)
    faulthandler.register(signal.SIGUSR1, file=output, all_threads=True, chain=False)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _answer(request: dict[str, Any], state: Any, channel: Channel, rest: list[int]) -> tuple[Any] | None:
    """Run the job and send what came of it; where the job made a new state to keep, return that."""
    keep = request["keep"]
    new_state = None
    try:
        World.from_json(request["world"]).enter()
        module, _, name = request["job"].partition(":")
        function = getattr(importlib.import_module(module), name)
        probe = Probe(state, lambda text: channel.send({"progress": text}), *([] if keep else _control(rest)))
        value = function(probe, **request["arguments"])
        if keep:
            new_state, value = value
            gc.collect()
            gc.freeze()  # what is warm stays shared: the collector of a fork must not touch it
        message = {"value": value, "threads": len(os.listdir("/proc/self/task"))}
    except BaseException as error:
        message, keep = {"failure": describe(error)}, False
    _flush()
    try:
        channel.send(message)
    except (TypeError, ValueError, RecursionError) as error:  # what the job returned is not plain data
        channel.send({"failure": describe(error)})
        return None
    return (new_state,) if keep else None


def _control(rest: list[int]) -> list[Any]:
    return [Channel.from_descriptor(rest[0]), tuple(rest[1:])] if rest else []


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as plain data: type, message, traceback, notes, and the finding that a check attached to it."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "type": type(error).__name__,
        "bases": [c.__name__ for c in type(error).__mro__],
        "message": _text(error),
        "frames": [[f.filename, f.lineno or 0, f.name] for f in frames],
        "traceback": "".join(traceback.format_exception(type(error), error, error.__traceback__))[-20_000:],
        "notes": [str(note) for note in getattr(error, "__notes__", [])],
        "finding": _finding(error),
    }


def _finding(error: BaseException) -> Any:
    """What a check attached to the error; None for what a vendor's own error may hold under that name."""
    finding = getattr(error, "finding", None)
    try:
        json.dumps(finding)
    except (TypeError, ValueError, RecursionError):
        return None
    return finding


def _text(error: BaseException) -> str:
    try:
        return str(error)[:2_000]
    except Exception as second:
        return f"<its __str__ raised {type(second).__name__}>"
