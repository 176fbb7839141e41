"""Steps that the ranks of a group take together: what one cannot do, none does, and nobody waits for ever."""

from __future__ import annotations

import base64
import pickle
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from .._custom_all_reduce.board import Board, texts

T = TypeVar("T")


class Gather(Protocol):
    """Gives every rank's value to all. All ranks gather equally often; values are what can be pickled."""

    def __call__(self, value: Any) -> list[Any]:
        """Every rank's value, by rank. Raises RuntimeError where one does not give it within the deadline."""

    def tell(self, value: Any) -> None:
        """Give a value in the same way, and go on without those of the others."""


class BoardGather:
    """Gathers on a board, on which nobody else writes, each time within so many seconds."""

    def __init__(self, board: Board, rank: int, size: int, seconds: float) -> None:
        self._board = board
        self._rank = rank
        self._size = size
        self._seconds = seconds
        self._turn = 0

    def __call__(self, value: Any) -> list[Any]:
        """Every rank's value, by rank. Raises RuntimeError where one does not give it within the deadline."""
        self.tell(value)
        keys = [self._key(rank) for rank in range(self._size)]
        began = time.monotonic()
        told = texts(self._board, keys, self._seconds, lambda: False)
        for rank, text in enumerate(told):
            if text is None:
                seconds = time.monotonic() - began
                raise RuntimeError(f"rank {rank} of {self._size} has said nothing for {seconds:.3g} s")
        return [pickle.loads(base64.b64decode(text)) for text in told if text is not None]

    def tell(self, value: Any) -> None:
        """Give a value in the same way, and go on without those of the others."""
        self._turn += 1
        self._board.settle(self._key(self._rank), base64.b64encode(pickle.dumps(value)).decode())

    def _key(self, rank: int) -> str:
        return f"{self._turn}/{rank}"


def together(gather: Gather, what: str, action: Callable[[], T]) -> list[T]:
    """Do something on every rank; every rank's result. Where it fails on one, all raise RuntimeError that names it."""
    result, error = None, None
    try:
        result = action()
    except Exception as caught:  # whatever it is: a rank that left here would keep all others waiting
        error = caught
    told = gather((_words(error), result))
    for rank, (trouble, _) in enumerate(told):
        if trouble:
            raise RuntimeError(f"{what} failed on rank {rank} of {len(told)}: {trouble}") from error
    return [result for _, result in told]


def not_together(gather: Gather, error: BaseException) -> None:
    """Tell the others, who do or will do something together, that this rank cannot; without waiting for them."""
    gather.tell((_words(error), None))


def _words(error: BaseException | None) -> str:
    return "" if error is None else f"{type(error).__name__}: {error}"
