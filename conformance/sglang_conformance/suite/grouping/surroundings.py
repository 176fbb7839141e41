"""What of its process joining must not need and not change: the environment, and torch's settings.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

Values = Mapping[str, str | None]

_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_SIZE", "MASTER_ADDR", "MASTER_PORT")
WITHOUT: Values = dict.fromkeys(_NAMES)
# As a launcher of containers sets them, for its own count of machines.
OF_ANOTHER: Values = {"RANK": "7", "WORLD_SIZE": "9", "MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "9"}


def told(values: Values) -> str:
    """The values in words."""
    if not any(values.values()):
        return f"without {', '.join(values)} in the environment"
    return " ".join(f"{name}={value}" for name, value in values.items())


@contextmanager
def environment(values: Values) -> Iterator[None]:
    """For a while these variables; None: it is not set."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def seen() -> dict[str, Any]:
    """What there is of it now, by name."""
    import torch

    return {
        "environment": dict(os.environ),
        "default dtype": str(torch.get_default_dtype()),
        "default device": str(torch.get_default_device()),
        "gradients": torch.is_grad_enabled(),
        "number of torch's threads": torch.get_num_threads(),
        "working directory": os.getcwd(),
        "threads to wait for at the end": _awaited(),
    }


def changes(before: Any, after: Any) -> str:
    """What is another than before, in words; empty where nothing is."""
    if not isinstance(before, dict):
        return "" if before == after else f"{after!r}, and before {before!r}"
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return ", ".join(f"{name}={after.get(name)!r}, and before {before.get(name)!r}" for name in names)


def _awaited() -> list[str]:
    """The threads that hold up the end of the process; those of Python's own executors are ended before it."""
    executors = getattr(sys.modules.get("concurrent.futures.thread"), "_threads_queues", ())
    return sorted(each.name for each in threading.enumerate() if not each.daemon and each not in executors)


def _set(values: Values) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
