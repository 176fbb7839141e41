"""One record for all processes of a run: the first that needs it makes it, the others wait and read it.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .launched import Launched

_LOOK_SECONDS = 0.05


def once(run: str, make: Callable[[], Launched], patience: float) -> Launched:
    """What ``make`` gives in the first process of the run to come here; made anew where that takes so many seconds.

    ``run`` is a name that no other run has, and that other users do not know. Call :func:`forget` at its end.
    """
    file = _file(run)
    with _alone(file.with_suffix(".lock"), time.monotonic() + patience) as alone:
        if alone and file.exists():
            found: Launched = pickle.loads(file.read_bytes())
            return found
        made = make()
        if alone:
            file.touch(mode=0o600)
            file.write_bytes(pickle.dumps(made))
        return made


def forget(run: str) -> None:
    """Remove the record."""
    for suffix in (".lock", ".launched"):
        _file(run).with_suffix(suffix).unlink(missing_ok=True)


def _file(run: str) -> Path:
    return Path(tempfile.gettempdir()) / f"{run}.launched"


@contextlib.contextmanager
def _alone(lock: Path, end: float) -> Iterator[bool]:
    """Whether no other process is in here meanwhile; not, where another still is at that time."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _locked(descriptor, end)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, end: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(_LOOK_SECONDS)
        else:
            return True
