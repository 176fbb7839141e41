"""Messages from the thread that listens to the agents, for the thread that waits for them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any


class Mailbox:
    """A queue between two threads that the reader can wait on with a selector. The reader closes it."""

    def __init__(self) -> None:
        self._messages: deque[Mapping[str, Any]] = deque()
        self._lock = threading.Lock()
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """The descriptor, which is readable while there are messages."""
        return self._descriptor

    def put(self, message: Mapping[str, Any]) -> None:
        """Add a message; what comes after the end is dropped."""
        with self._lock:
            if self._descriptor >= 0:
                self._messages.append(message)
                os.eventfd_write(self._descriptor, 1)

    def take(self) -> list[Mapping[str, Any]]:
        """All messages that are there, in order."""
        with self._lock:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._descriptor)
            taken = list(self._messages)
            self._messages.clear()
            return taken

    def close(self) -> None:
        """Free the descriptor."""
        with self._lock:
            os.close(self._descriptor)
            self._descriptor = -1
