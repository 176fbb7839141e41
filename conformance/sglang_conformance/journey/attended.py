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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..contract.model import Contract
from ..probes.world import hide_distributions
from . import attaching, settled
from .trace import END, Role

_SCHEDULER = "sglang.srt.managers.scheduler"


class Attended:
    """What to spawn in place of SGLang's run_scheduler_process: the same, recorded into ``folder``.

    ``hidden`` are distributions that the process must not see, as the launching process does not. Twice in ``deadline``
    seconds the process writes down where it stands, for the case that it hangs there.
    """

    def __init__(self, folder: Path, table: Mapping[str, Any], hidden: Sequence[str], deadline: float) -> None:
        self._attend = str(folder), dict(table), tuple(hidden), deadline

    def __reduce__(self) -> tuple[Any, ...]:
        return _attend, self._attend

    def __call__(self, *arguments: Any, **named: Any) -> None:
        """Not where it was made: it is for processes that are spawned."""
        raise RuntimeError("a scheduler is to be spawned")


def facts_of(folder: Path, pid: int) -> Path:
    """The file into which a scheduler's process writes what it ended with."""
    return folder / f"{pid}.facts"


def stack_of(folder: Path, pid: int) -> Path:
    """The file into which it writes where it stands."""
    return folder / f"{pid}.stack"


def _attend(folder: str, table: Mapping[str, Any], hidden: Sequence[str], deadline: float) -> Any:
    stack = os.open(stack_of(Path(folder), os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    faulthandler.dump_traceback_later(0.45 * deadline, repeat=True, file=stack)
    if hidden:
        hide_distributions(hidden)
    attached = attaching.start(Role("scheduler"), Contract.from_json(table), Path(folder))
    return functools.partial(_run, attached, Path(folder))


def _run(attached: attaching.Attached, folder: Path, *arguments: Any, **named: Any) -> None:
    recorder = attached.recorder
    given: Mapping[str, Any] = {}
    try:
        run = importlib.import_module(_SCHEDULER).run_scheduler_process
        given = inspect.signature(run).bind(*arguments, **named).arguments
        sizes = settled.values(given["server_args"], ("tp_size",))
        recorder.becomes(Role("worker", given["pp_rank"] * sizes["tp_size"] + given["tp_rank"]))
        run(*arguments, **named)
    except SystemExit as leaving:  # the reference tells its launching process of an error, and leaves
        recorder.failed(leaving.__context__ or leaving)
        raise
    except BaseException as error:
        recorder.failed(error)
        raise
    else:
        recorder.mark(END)
    finally:
        if given:
            told = {"arguments": settled.values(given["server_args"])}
            facts_of(folder, os.getpid()).write_text(json.dumps(told), encoding="utf-8")
