"""A scheduler's process that was spawned: recorded from before anything of the vendor's is imported in it.

SGLang hands each process that it spawns a function (``Engine.run_scheduler_process_func``: 0.5.11 and 0.5.23,
srt/entrypoints/engine.py). What is handed here attaches a recorder as soon as it is unpickled there, which is before
the arguments are: these would import SGLang.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import faulthandler
import functools
import importlib
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contract.model import Contract
from ..hosts import serving
from ..probes.world import hide_distributions
from . import attaching, settled, shared_memory
from .recording import Recorder
from .trace import END, Role

_SCHEDULER = "sglang.srt.managers.scheduler"


class Attended:
    """What to spawn in place of SGLang's run_scheduler_process: the same, recorded into ``folder``.

    ``hidden`` are distributions that the process must not see, as the launching process does not. Twice in ``deadline``
    seconds the process writes down where it stands, for the case that it hangs there.
    """

    def __init__(self, folder: Path, table: Mapping[str, Any], hidden: Sequence[str], deadline: float) -> None:
        self.hidden = tuple(hidden)
        self._attend = str(folder), dict(table), self.hidden, deadline

    def __reduce__(self) -> tuple[Any, ...]:
        return _attend, self._attend

    def __call__(self, *arguments: Any, **named: Any) -> None:
        """Not where it was made: it is for processes that are spawned."""
        raise RuntimeError("a scheduler is to be spawned")


class Hidden:
    """What to spawn in place of a function of SGLang's: the same, where these distributions are not seen."""

    def __init__(self, function: Callable[..., None], hidden: Sequence[str]) -> None:
        self._hide = tuple(hidden), function.__module__, function.__qualname__

    def __reduce__(self) -> tuple[Any, ...]:
        return _hide, self._hide

    def __call__(self, *arguments: Any, **named: Any) -> None:
        """Not where it was made: it is for processes that are spawned."""
        raise RuntimeError("this function is to be spawned")


def facts_of(folder: Path, pid: int) -> Path:
    """The file into which a scheduler's process writes its arguments, when it is ready and when it ends."""
    return folder / f"{pid}.facts"


def stack_of(folder: Path, pid: int) -> Path:
    """The file into which it writes where it stands."""
    return folder / f"{pid}.stack"


def _attend(folder: str, table: Mapping[str, Any], hidden: Sequence[str], deadline: float) -> Any:
    stack = os.open(stack_of(Path(folder), os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    faulthandler.dump_traceback_later(0.45 * deadline, repeat=True, file=stack)
    shared_memory.note(Path(folder))
    if hidden:
        hide_distributions(hidden)
    attached = attaching.start(Role("scheduler"), Contract.from_json(table), Path(folder))
    return functools.partial(_run, attached, Path(folder))


def _hide(hidden: Sequence[str], module: str, name: str) -> Any:
    hide_distributions(hidden)
    return getattr(importlib.import_module(module), name)


def _run(attached: attaching.Attached, folder: Path, *arguments: Any, **named: Any) -> None:
    process = _Process(attached.recorder, facts_of(folder, os.getpid()))
    try:
        run = importlib.import_module(_SCHEDULER).run_scheduler_process
        given = process.given = inspect.signature(run).bind(*arguments, **named)
        ranks, sizes = given.arguments, settled.values(given.arguments["server_args"], ("tp_size",))
        attached.recorder.becomes(Role("worker", ranks["pp_rank"] * sizes["tp_size"] + ranks["tp_rank"]))
        ranks["pipe_writer"] = _Told(ranks["pipe_writer"], process.tell)
        with serving.scheduling(process.failed):
            run(*given.args, **given.kwargs)
    except SystemExit as leaving:  # the reference tells its launching process of an error, and leaves
        process.failed(leaving.__context__ or leaving)
        raise
    except BaseException as error:
        process.failed(error)
        raise
    finally:
        process.ends()
        shared_memory.note_held(folder)


@dataclass
class _Process:
    """What a scheduler's process says of itself."""

    recorder: Recorder
    facts: Path
    given: inspect.BoundArguments | None = None
    broken: bool = False

    def failed(self, error: BaseException) -> None:
        """An error ends it."""
        self.broken = True
        self.recorder.failed(error)

    def tell(self) -> None:
        """Its arguments, as they are now."""
        if self.given is not None:
            held = {**settled.values(self.given.arguments["server_args"]), **settled.overridden()}
            self.facts.write_text(json.dumps({"arguments": held}), encoding="utf-8")

    def ends(self) -> None:
        """It ends by itself, which it does not where SGLang kills it."""
        if not self.broken:
            self.recorder.mark(END)
        self.tell()


class _Told:
    """The pipe by which a scheduler's process says that it is ready; ``before`` is called before it does."""

    def __init__(self, pipe: Any, before: Callable[[], None]) -> None:
        self._pipe = pipe
        self._before = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)

    def send(self, message: Any) -> None:
        """Say it."""
        self._before()
        self._pipe.send(message)
