"""Work that may hang, done within a deadline."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Done(Generic[T]):
    """What came of it: a value, or the trouble that there was."""

    value: T | None = None
    trouble: str = ""


def in_time(action: Callable[[], T], seconds: float, discard: Callable[[T], object] | None = None) -> Done[T]:
    """What comes of an action, in a daemon thread of its own; what it raises, and hanging, is trouble.

    An action that hangs is left behind. Should it still come to a value one day, ``discard`` is given that.
    """
    lock = threading.Lock()
    done: list[Done[T]] = []
    abandoned = False

    def run() -> None:
        try:
            came = Done(action())
        except BaseException as error:  # also one that means to end the process: this is not its main thread
            came = Done(trouble=f"{type(error).__name__}: {error}")
        with lock:
            done.append(came)
            unwanted = abandoned
        if unwanted and came.value is not None and discard is not None:
            with contextlib.suppress(Exception):
                discard(came.value)

    thread = threading.Thread(target=run, name="in time", daemon=True)
    thread.start()
    thread.join(seconds)
    with lock:
        abandoned = not done
        return done[0] if done else Done(trouble=f"nothing came of it within {seconds:g} s")
