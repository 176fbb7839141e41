"""``sglang.srt.model_executor.runner_backend.base_cuda_graph_backend``: what SGLang's runners ask of a backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from ..._released import Parameters, Renamed, released

__all__ = ["BaseCudaGraphBackend"]

CAPTURE = Parameters(renamed={"capture_inputs": Renamed("dummies", "0.5.17")})
"""The name of a parameter of ``capture_one``, by release."""

Session = AbstractContextManager[None] | Iterator[None]


class BaseCudaGraphBackend(ABC):
    """Captures what a function does as the graph of a key, and replays it.

    SGLang makes one as ``cls(runner, enable_memory_saver=...)``.
    """

    @abstractmethod
    def capture_session(self, stream: Any) -> Session:
        """Around all captures, which are on that stream."""

    @abstractmethod
    @released(CAPTURE)
    def capture_one(
        self,
        shape_key: Any,
        forward_fn: Callable[[], Any],
        capture_inputs: Any = None,
        post_warmup_hook: Callable[[], None] | None = None,
    ) -> None:
        """Capture what ``forward_fn`` does, after runs that warm up, each followed by the hook."""

    @abstractmethod
    def can_run(self, forward_batch: Any, shape_key: Any) -> bool:
        """Whether there is a graph of that key for the batch."""

    @abstractmethod
    def replay_session(self) -> Session:
        """Around a replay, and what comes before it."""

    @abstractmethod
    def replay(self, shape_key: Any, static_forward_batch: Any, **kwargs: Any) -> Any:
        """Replay the graph of that key; what it gives, in the memory of the capture."""

    @abstractmethod
    def cleanup(self) -> None:
        """Let go of all graphs."""
