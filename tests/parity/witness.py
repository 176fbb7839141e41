"""What a world leaves behind besides values: log records, warnings, and what vendors' code says of itself."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .plain import outcome


class Witness(logging.Handler):
    """Takes down log records (logger, level, whether with a traceback) and what is told to it, step by step."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._logs: list[list[Any]] = []
        self._events: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take down a record, without its words."""
        self._logs.append([record.name, record.levelname, bool(record.exc_info)])

    def tell(self, *event: Any) -> None:
        """Take down that something was run."""
        self._events.append(list(event))

    def step(self, name: str, call: Callable[[], Any]) -> dict[str, Any]:
        """Make a call: its outcome, and all that was taken down on the way."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            came = outcome(call)
        told = {
            "step": name,
            **came,
            "events": self._events,
            "logs": self._logs,
            "warnings": [each.category.__name__ for each in caught],
        }
        self._events, self._logs = [], []
        return told


@contextmanager
def witness() -> Iterator[Witness]:
    """A witness of all that SGLang logs, for a while."""
    handler, logger = Witness(), logging.getLogger("sglang")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
