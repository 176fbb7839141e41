"""The processes of a server's ranks, and their owner: started, waited for, watched, and ended.

Facts: SGLang 0.5.11 and 0.5.23, srt/entrypoints/engine.py.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

from sglang_reference import _spawned

from .. import platforms
from .._arguments.resolving import settled
from .._contract import TABLE, server_arguments, since
from ..environ import EnvBool
from ..managers import _places

_LAST_WORDS_SECONDS = 10.0
"""How long a process that has told of its failure, or whose end is seen, may take to end."""


class _Switches:
    """A variable that counts here (0.5.11 and 0.5.23, srt/environ.py)."""

    SGLANG_ONE_VISIBLE_DEVICE_PER_PROCESS = EnvBool(False)


class Worker(NamedTuple):
    """A rank's process, and where it is heard."""

    name: str
    process: SpawnProcess
    reader: Connection[Any, Any]


class Workers:
    """The processes of all ranks."""

    def __init__(self) -> None:
        self.all: list[Worker] = []
        self._infos: dict[str, dict[str, Any]] = {}

    def start(self, server_args: Any, port_args: Any, function: Callable[..., Any]) -> None:
        """Start a process for each rank, stage by stage; each runs ``function``, SGLang's run_scheduler_process."""
        values = settled(server_args)
        for pp_rank in range(values.pp_size):
            for tp_rank in range(values.tp_size):
                index = values.base_gpu_id + pp_rank * values.tp_size + tp_rank * values.gpu_id_step
                with _reindexed(index) as gpu_id:
                    place = _places.place_of(server_args, gpu_id, tp_rank, pp_rank)
                    self._start_one((server_args, port_args, *_ranks(place)), f"PP{pp_rank} TP{tp_rank}", function)

    def _start_one(self, arguments: tuple[Any, ...], name: str, function: Callable[..., Any]) -> None:
        reader, writer = multiprocessing.get_context("spawn").Pipe(duplex=False)
        process = _spawned.start(TABLE, server_arguments(), function, arguments, writer, f"scheduler {name}")
        writer.close()
        self.all.append(Worker(name, process, reader))

    def wait_ready(self, seconds: float) -> list[dict[str, Any]]:
        """What each rank tells when it is ready. Raises RuntimeError where one fails, or is not in time."""
        end = time.monotonic() + seconds
        while len(self._infos) < len(self.all):
            left = end - time.monotonic()
            late = [worker for worker in self.all if worker.name not in self._infos]
            if left <= 0 or not wait([worker.reader for worker in late], left):
                names = ", ".join(worker.name for worker in late)
                raise RuntimeError(f"Initialization failed: {names} not ready after {seconds:g} seconds")
            self.check()
        return [self._infos[worker.name] for worker in self.all]

    def check(self) -> None:
        """Raise RuntimeError, with the cause, where a rank has failed or ended."""
        for worker in self.all:
            with contextlib.suppress(EOFError, OSError):
                while worker.reader.poll(0.0):
                    told = worker.reader.recv()
                    if told["status"] != "ready":
                        raise self._failed(worker, told)
                    self._infos[worker.name] = told
            if _ended(worker):
                raise self._failed(worker, {})

    def _failed(self, worker: Worker, told: dict[str, Any]) -> RuntimeError:
        worker.process.join(_LAST_WORDS_SECONDS)
        when = "while serving" if worker.name in self._infos else "during initialization"
        cause = told.get("error", "it said nothing")
        error = RuntimeError(
            f"Rank {worker.name} scheduler died {when} (exit code: {worker.process.exitcode}): {cause}"
            + (f"\n\n{told['traceback']}" if "traceback" in told else "")
        )
        if when == "during initialization":
            return RuntimeError(f"Initialization failed. {error}")
        return error

    def end(self, seconds: float) -> list[int | None]:
        """Wait until all have ended, kill those that have not; their exit codes."""
        end = time.monotonic() + seconds
        for worker in self.all:
            worker.process.join(max(0.0, end - time.monotonic()))
        for worker in self.all:
            if worker.process.is_alive():
                worker.process.kill()
        for worker in self.all:
            worker.process.join()
            worker.reader.close()
        codes = [worker.process.exitcode for worker in self.all]
        self.all.clear()
        return codes


def _ended(worker: Worker) -> bool:
    return bool(wait([worker.process.sentinel], 0.0))


def _ranks(place: _places.Place) -> tuple[Any, ...]:
    """A place as run_scheduler_process takes it, in order."""
    between = () if since("0.5.21") else (place.attn_cp_rank, place.moe_dp_rank, place.moe_ep_rank)
    return (place.gpu_id, place.tp_rank, *between, place.pp_rank, place.dp_rank)


def _reindexed(index: int) -> AbstractContextManager[int]:
    """The device's index as the process is to know it; from 0.5.20 on the platform's, where each sees its own alone."""
    if since("0.5.20") and _SWITCHES.SGLANG_ONE_VISIBLE_DEVICE_PER_PROCESS.get():
        reindexed: AbstractContextManager[int] = platforms.current_platform.reindex_device_id(index)
        return reindexed
    return _unchanged(index)


@contextlib.contextmanager
def _unchanged(index: int) -> Iterator[int]:
    yield index


_SWITCHES = _Switches()
