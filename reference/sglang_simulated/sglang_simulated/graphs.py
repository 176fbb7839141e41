"""Graphs of the simulated device: operations recorded once, replayed on the same memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from sglang_simulated.arguments import changed, changed_by_name, leaves
from sglang_simulated.runtime import runtime
from sglang_simulated.streams import Stream, StreamContext, current_stream, default_stream

PoolHandle = tuple[int, int]

_pools = itertools.count(1)
_aten = torch.ops.aten
_ALLOCATIONS = (_aten.empty, _aten.empty_like, _aten.empty_strided, _aten.new_empty, _aten.new_empty_strided)
# Their results' shapes depend on values where an index says by truth which rows are wanted, not by number.
_INDEXING = frozenset({_aten.index.Tensor})
_TRUTHS = frozenset({torch.bool, torch.uint8})
_HOST_TAGS = frozenset({torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape})


@dataclass(frozen=True)
class _Step:
    """One recorded operation, on host tensors: those behind the simulated ones."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: tuple[torch.Tensor, ...]
    device_index: int

    def run(self) -> None:
        if torch.Tag.nondeterministic_seeded in self.func.tags:
            with runtime().random_numbers_of(self.device_index):
                again = self.func(*self.args, **self.kwargs)
        else:
            again = self.func(*self.args, **self.kwargs)
        for old, new in zip(self.results, _tensors(again), strict=True):
            if old.untyped_storage()._cdata != new.untyped_storage()._cdata:  # not written in place
                old.copy_(new)


@dataclass(frozen=True)
class _Work:
    """Work that a library has given a captured stream: its function, and the arguments that this was called with."""

    function: Any
    arguments: bytes

    def run(self) -> None:
        result = self.function(self.arguments)
        if result:
            raise RuntimeError(f"the work of a library failed in a graph's replay, with result {result}")


@dataclass(frozen=True)
class _Call:
    """A call of this plugin's own that has worked on host tensors: done again with every replay, on the same ones."""

    function: Callable[..., None]
    tensors: tuple[torch.Tensor, ...]

    def run(self) -> None:
        self.function(*self.tensors)


class SimGraph:
    """A captured graph: the operations one capture saw, and the memory they ran on.

    Replay runs them again on the same tensors, so new data is fed by copying it into the tensors that the capture
    read, and results appear in the tensors it gave back. The memory stays held until :meth:`reset`.
    """

    def __init__(self) -> None:
        self.capturing = False
        self._steps: list[_Step | _Work | _Call] = []
        self._streams: list[Stream] = []
        self._pool: PoolHandle | None = None
        self._ready = False

    def capture_begin(self, pool: PoolHandle | None = None, capture_error_mode: str = "global") -> None:
        """Begin to record this thread's current stream; RuntimeError on a default stream, or inside a capture.

        ``pool`` is kept and given back by :meth:`pool`; graphs share no memory here. ``capture_error_mode`` is
        taken for the sake of the common signature: only the captured streams are watched.
        """
        stream = current_stream()
        if stream == default_stream(stream.device_index):
            raise RuntimeError("capture on a stream of its own, not the default one: use torch.sim.graph(...)")
        if stream.graph is not None or self.capturing:
            raise RuntimeError("a capture is already under way: end it before another begins")
        self.reset()
        self._pool = graph_pool_handle() if pool is None else pool
        self.capturing = True
        self.join(stream)

    def capture_end(self) -> None:
        """End the capture; the graph can then be replayed. RuntimeError unless the same stream is current."""
        if not self.capturing or current_stream() is not self._streams[0]:
            raise RuntimeError("capture_end belongs on the stream on which capture_begin was called")
        self.abandon()
        self._ready = True

    def abandon(self) -> None:
        """Release the captured streams, without making the graph ready."""
        for stream in self._streams:
            stream.graph = None
        self._streams.clear()
        self.capturing = False

    def join(self, stream: Stream) -> None:
        """Take ``stream`` into the capture."""
        stream.graph = self
        self._streams.append(stream)

    def replay(self) -> None:
        """Run the recorded operations again; RuntimeError where no capture was completed."""
        if not self._ready:
            raise RuntimeError("this graph holds no completed capture: capture before replaying")
        if is_current_stream_capturing():
            raise RuntimeError("a graph cannot be replayed during graph capture")
        with torch.no_grad():
            for step in self._steps:
                step.run()

    def reset(self) -> None:
        """Forget the capture and let go of its memory."""
        self._steps.clear()
        self._ready = False

    def pool(self) -> PoolHandle:
        """The handle of the memory pool; RuntimeError before a capture."""
        if self._pool is None:
            raise RuntimeError("a graph has a pool once it has been captured")
        return self._pool

    def refuse_host_data(self, func: Any, leaves: list[Any], to_host: bool) -> None:
        """Raise RuntimeError for an operation that moves data between host and device: a graph cannot hold it.

        A zero-dimensional host tensor is let through: it is a number, whose value at capture time the graph keeps.
        """
        from_host = any(isinstance(x, torch.Tensor) and x.device.type == "cpu" and x.dim() > 0 for x in leaves)
        by_number = func in _INDEXING and all(x.dtype not in _TRUTHS for x in leaves[1:] if x is not None)
        if to_host or from_host or (_HOST_TAGS & set(func.tags) and not by_number):
            raise RuntimeError(
                f"{func} needs the host's values during graph capture: copy inputs in before the capture, "
                "and read results after a replay"
            )

    def record(self, func: Any, args: Any, kwargs: Any, result: Any, device_index: int) -> None:
        """Keep one operation that has just run on host tensors, unless it only allocated or only made a view."""
        results = tuple(tensor.detach() for tensor in _tensors(result))
        inputs = {tensor.untyped_storage()._cdata for tensor in _tensors(args, *kwargs.values())}
        only_views = all(tensor.untyped_storage()._cdata in inputs for tensor in results)
        if func.overloadpacket in _ALLOCATIONS or (only_views and not func._schema.is_mutable):
            return
        self._steps.append(_Step(func, args, kwargs, results, device_index))

    def record_work(self, function: Any, arguments: bytes) -> None:
        """Keep work of a library that has just been done."""
        self._steps.append(_Work(function, arguments))

    def record_call(self, function: Callable[..., None], *tensors: torch.Tensor) -> None:
        """Keep a call that has just been made with these host tensors."""
        self._steps.append(_Call(function, tensors))


def as_now(args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The arguments with their tensors aliased, for :meth:`SimGraph.record`: same memory, the shapes of this moment.

    A later in-place operation on the original, such as ``squeeze_``, would change what a replay sees.
    """
    return changed(_alias, args), changed_by_name(_alias, kwargs)


def _alias(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, torch.Tensor) else leaf


class graph:  # noqa: N801 - torch.cuda.graph's name, which SGLang calls on the device module
    """Capture what runs inside on ``stream``, or on a stream of its own, into ``cuda_graph``.

    The parameter's name is torch's: SGLang 0.5.23 passes it by keyword (srt/model_executor/runner_backend).
    Where the body raises, the capture is abandoned and the error goes through.
    """

    def __init__(
        self,
        cuda_graph: SimGraph,
        pool: PoolHandle | None = None,
        stream: Stream | None = None,
        capture_error_mode: str = "global",
    ) -> None:
        self._graph = cuda_graph
        self._pool = pool
        self._context = StreamContext(Stream() if stream is None else stream)
        self._mode = capture_error_mode

    def __enter__(self) -> None:
        self._context.__enter__()
        try:
            self._graph.capture_begin(self._pool, self._mode)
        except BaseException:
            self._context.__exit__()
            raise

    def __exit__(self, kind: type[BaseException] | None, *_exc: Any) -> None:
        try:
            if kind is None:
                self._graph.capture_end()
            else:
                self._graph.abandon()
                self._graph.reset()
        finally:
            self._context.__exit__()


def graph_pool_handle() -> PoolHandle:
    """A handle that names a graph memory pool."""
    return (0, next(_pools))


def is_current_stream_capturing() -> bool:
    """Whether this thread's current stream is being captured."""
    return current_stream().graph is not None


def _tensors(*values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in leaves(values) if isinstance(leaf, torch.Tensor)]
