"""The ways in which a platform's graphs are captured: by torch's module of the device, and by the platform's backend.

SGLang's own runners capture by a backend, which they make for themselves and which may be the platform's (0.5.23,
srt/model_executor/runner_backend/utils.py); a vendor's runner captures by the module.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol

from ...contract.model import Contract
from .. import expect
from ..aids import uncovered
from ..aids.construction import declares_graphs
from ..aids.lacking import raised_in_sglang
from . import module

Work = Callable[[], Any]
WARM_UPS = 2  # as many as SGLang's own backend has (0.5.23, full_cuda_graph_backend.py)
BACKEND = "get_full_graph_backend_cls"


@dataclass(frozen=True)
class Graph:
    """A graph that was captured. ``replay`` does its work again, and gives what the work gave, in the same memory."""

    replay: Work


class Way(Protocol):
    """One way of capturing graphs. ``words`` name it for people."""

    @property
    def words(self) -> str:
        """What captures."""

    def session(self, stream: Any) -> AbstractContextManager[None]:
        """A scope in which graphs are captured on this stream, in one pool of memory."""

    def capture(self, work: Work, size: int = 1) -> Graph:
        """Warm the work up and capture it, as the graph of a batch of that size."""

    def clear(self) -> None:
        """Let go of all graphs that were captured."""


def of(device: Any, platform: Any, contract: Contract) -> list[Way]:
    """The ways that a platform has. Declined where it declares no graphs, or there is no way."""
    if not declares_graphs(platform, contract):
        raise expect.Declined("the platform declares no graph capture")
    found: list[Way] = []
    with contextlib.suppress(expect.Declined, expect.NotCovered):
        found.append(ByModule(device))
    with contextlib.suppress(expect.Declined, expect.NotCovered, expect.Violation):
        found.append(by_backend(device, platform))  # what is wrong in its making is told of the backend alone
    if not found:
        raise expect.Declined(f"torch has no graphs of {device.type} to make, and the platform no backend for them")
    return found


class ByModule:
    """As vendors' runners capture: a graph of torch's, captured in the module's ``graph()``."""

    def __init__(self, device: Any) -> None:
        self._module, self._make = module.of(device), module.maker(device)
        pool = getattr(self._module, "graph_pool_handle", None)
        self._options = {} if pool is None else {"pool": pool()}
        self._stream: Any = None
        self._graphs: list[Any] = []
        self.words = f"torch.{device.type}.graph()"

    @contextlib.contextmanager
    def session(self, stream: Any) -> Iterator[None]:
        """Captures on this stream, in the pool of all graphs of this object."""
        self._stream = stream
        try:
            yield
        finally:
            self._stream = None

    def capture(self, work: Work, size: int = 1) -> Graph:
        """Capture the work; its ``size`` is of no account."""
        for _ in range(WARM_UPS):
            self._module.synchronize()
            work()
        graph = self._make()
        with self._module.graph(graph, stream=self._stream, **self._options):
            output = work()
        self._graphs.append(graph)

        def replay() -> Any:
            graph.replay()
            return output

        return Graph(replay)

    def clear(self) -> None:
        """Reset the graphs."""
        for graph in self._graphs:
            graph.reset()
        self._graphs.clear()


@dataclass(frozen=True)
class Key:
    """What tells a shape's graph from others, as SGLang's ShapeKey does (0.5.23, runner/shape_key.py)."""

    size: int
    stream_idx: int | None = None
    variant_label: str | None = None
    attention_variant: str | None = None


class ByBackend:
    """As SGLang's own runners capture: through the backend that the platform gives them."""

    def __init__(self, backend: Any, words: str) -> None:
        self.backend, self.words = backend, words
        self._numbers = itertools.count()

    def session(self, stream: Any) -> AbstractContextManager[None]:
        """The backend's capture session."""
        scope: AbstractContextManager[None] = self.backend.capture_session(stream)
        return scope

    def capture(self, work: Work, size: int = 1) -> Graph:
        """Capture the work under a key of its own."""
        key = key_of(size, str(next(self._numbers)))
        self.backend.capture_one(key, work, capture_inputs=None, post_warmup_hook=None)
        return Graph(lambda: replayed(self.backend, key))

    def clear(self) -> None:
        """Clean the backend up."""
        self.backend.cleanup()


@dataclass(frozen=True)
class Batch:
    """What stands for the batch that is to run."""

    batch_size: int


def replayed(backend: Any, key: Any) -> Any:
    """What a backend's replay gives, in the scope in which SGLang calls it. NotCovered where it wants more of a batch
    than there is here.
    """
    batch = Batch(key.size)
    with _sufficing(batch), backend.replay_session():
        return backend.replay(key, batch)


def can_run(backend: Any, key: Any) -> bool:
    """What a backend says of a key. NotCovered where it wants more of a batch than there is here."""
    batch = Batch(key.size)
    with _sufficing(batch):
        return bool(backend.can_run(batch, key))


def key_of(size: int, label: str | None = None) -> Any:
    """SGLang's own key where the backend's code has imported it, else one like it."""
    kind = getattr(sys.modules.get("sglang.srt.model_executor.runner.shape_key"), "ShapeKey", Key)
    return kind(size, variant_label=label)


@dataclass
class Runner:
    """What stands for SGLang's graph runner, which a backend is made with: what is known of the device."""

    device: str
    device_module: Any
    model_runner: Any
    enable_profile_cuda_graph: bool = False
    capture_bs: list[int] = field(default_factory=lambda: [1, 2, 4])


def by_backend(device: Any, platform: Any) -> ByBackend:
    """The platform's backend for SGLang's own runners.

    Declined where it gives none. NotCovered where the backend stands on a part of SGLang that is not here, or looks for
    something of the runner that only SGLang's own has.
    """
    if not hasattr(platform, BACKEND):  # before 0.5.21
        raise expect.Declined(f"there is no {BACKEND} in this release")
    answer = uncovered.answer_of(platform, BACKEND)
    if answer is None:
        raise expect.NotCovered(f"the class that {BACKEND} gives stands on a part of SGLang that is not here")
    if answer.value is None:
        raise expect.Declined(f"{BACKEND} gives no backend: SGLang's runners go by their own")
    model = SimpleNamespace(device=device.type, gpu_id=device.index or 0)
    runner = Runner(device.type, module.of(device), model)

    def made() -> Any:
        with _sufficing(runner, model):
            return answer.value(runner, enable_memory_saver=False)

    call = f"platform.{BACKEND}()(cuda_graph_runner, enable_memory_saver=False)"
    backend = expect.attempt(call, made, where=expect.place(answer.value)).value
    return ByBackend(backend, f"{type(backend).__name__}.capture_one")


@contextlib.contextmanager
def _sufficing(*stand_ins: Any) -> Iterator[None]:
    """A scope in which it is NotCovered to look for what these do not have, which stand for SGLang's own, or for a part
    of SGLang that is not here.
    """
    try:
        yield
    except AttributeError as error:
        if any(error.obj is each for each in stand_ins):
            text = f"the backend looks for what only SGLang's own has: {error}"
            raise expect.NotCovered(text) from error
        raise
    except ImportError as error:
        if raised_in_sglang(error):
            raise expect.NotCovered(f"the backend stands on a part of SGLang that is not here: {error}") from error
        raise
