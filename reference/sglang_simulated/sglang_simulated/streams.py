"""Streams and events of the simulated devices.

The simulated device runs each operation at once, so an operation is complete by the time the next line runs and
the order of one thread is the order of all its streams. What is modelled is all that a caller can see: which
stream is current for a thread and a device, identity, what an event was recorded on and when, and what may not be
done while a stream is being captured.
"""

from __future__ import annotations

import ctypes
import itertools
import time
import weakref
from typing import TYPE_CHECKING, Any

import torch

from sglang_simulated.placing import make_current
from sglang_simulated.runtime import DeviceLike, runtime

if TYPE_CHECKING:
    from sglang_simulated.graphs import SimGraph

_ids = itertools.count(1)  # 0 is every device's default stream


class Stream:
    """A queue of work on one device; ``stream_id`` 0 is the device's default stream.

    ``priority`` is recorded, as the device has nothing to schedule. Equal streams are the same queue.
    """

    def __init__(self, device: DeviceLike = None, priority: int = 0, *, stream_id: int | None = None) -> None:
        self.device_index = runtime().index_of(device)
        self.priority = priority
        self.stream_id = next(_ids) if stream_id is None else stream_id
        self.graph: SimGraph | None = None  # the graph that is capturing this stream
        self._handle: Any = None

    @property
    def device(self) -> torch.device:
        """The device whose work this stream orders."""
        return torch.device("sim", self.device_index)

    @property
    def sim_stream(self) -> int:
        """The handle by which the device's libraries know this stream; 0 for the default one.

        It holds while the stream lives. RuntimeError where there is no such library.
        """
        if self.stream_id == 0:
            return 0
        if self._handle is None:
            self._handle = _Handle(self)
        address: int = self._handle.address
        return address

    def query(self) -> bool:
        """Whether all work submitted to this stream is complete."""
        self._refuse_in_capture("query a stream")
        return True

    def synchronize(self) -> None:
        """Wait until all work submitted to this stream is complete."""
        self._refuse_in_capture("synchronize a stream")

    def record_event(self, event: Event | None = None) -> Event:
        """Record ``event``, or a new one, behind the work submitted so far."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Let later work of this stream wait for ``event``.

        As on other devices, waiting for an event of a stream under capture takes this stream into that capture.
        """
        if event.graph is not None and event.graph.capturing and self.graph is None:
            event.graph.join(self)

    def wait_stream(self, stream: Stream) -> None:
        """Let later work of this stream wait for all that ``stream`` was given so far."""
        self.wait_event(stream.record_event())

    def _refuse_in_capture(self, what: str) -> None:
        if self.graph is not None:
            raise RuntimeError(f"cannot {what} during graph capture: wait until the capture has ended")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stream):
            return NotImplemented
        return (self.device_index, self.stream_id) == (other.device_index, other.stream_id)

    def __hash__(self) -> int:
        return hash((self.device_index, self.stream_id))

    def __repr__(self) -> str:
        return f"<sim stream {self.stream_id} of sim:{self.device_index}>"


class _Handle:
    """What a library finds at a stream's handle: the function to which it gives its work.

    Work is done at once, and what is captured is done again with every replay, on the arguments that it had.
    """

    def __init__(self, stream: Stream) -> None:
        try:
            import sglang_host_nccl as library
        except ImportError:
            raise RuntimeError("no library of this device is installed: install sglang-conformance") from None
        held = weakref.ref(stream)

        def launch(_: int, work: Any, arguments: int, size: int) -> int:
            graph, kept = getattr(held(), "graph", None), ctypes.string_at(arguments, size)
            result: int = work(arguments)
            if graph is not None and result == 0:
                graph.record_work(work, kept)
            return result

        self._launch = library.Launch(launch)
        self._struct = library.HostStream.of(self._launch)
        self.address = ctypes.addressof(self._struct)


class Event:
    """A mark in a stream's work. Only an event made with ``enable_timing`` can tell elapsed times.

    ``blocking`` and ``interprocess`` are taken for the sake of common signatures; the latter is not supported.
    """

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        if interprocess:
            raise RuntimeError("the simulated device has no interprocess events: make the event without it")
        self.enable_timing = enable_timing
        self.blocking = blocking
        self.stream: Stream | None = None  # what it was last recorded on
        self.graph: SimGraph | None = None  # the capture it was recorded in
        self._seconds = 0.0

    def record(self, stream: Stream | None = None) -> None:
        """Mark the point that ``stream``, the current one by default, has reached."""
        self.stream = current_stream() if stream is None else stream
        self.graph = self.stream.graph
        self._seconds = time.perf_counter()

    def wait(self, stream: Stream | None = None) -> None:
        """Let later work of ``stream``, the current one by default, wait for this event."""
        (current_stream() if stream is None else stream).wait_event(self)

    def query(self) -> bool:
        """Whether the marked work is complete; True where nothing was recorded."""
        self._refuse_in_capture("query")
        return True

    def synchronize(self) -> None:
        """Wait for the marked work."""
        self._refuse_in_capture("synchronize")

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to ``end_event``; RuntimeError unless both are timed and recorded."""
        if not (self.enable_timing and end_event.enable_timing):
            raise RuntimeError("elapsed_time needs events made with enable_timing=True")
        if self.stream is None or end_event.stream is None:
            raise RuntimeError("elapsed_time needs both events to have been recorded")
        return (end_event._seconds - self._seconds) * 1e3

    def _refuse_in_capture(self, what: str) -> None:
        if self.graph is not None and self.graph.capturing:
            raise RuntimeError(f"cannot {what} an event recorded during graph capture before the capture has ended")


def default_stream(device: DeviceLike = None) -> Stream:
    """The default stream of ``device``, the current device when None: the same object for every thread."""
    here = runtime()
    index = here.index_of(device)
    known = here.default_streams.get(index)
    return known if known is not None else here.default_streams.setdefault(index, Stream(index, stream_id=0))


def current_stream(device: DeviceLike = None) -> Stream:
    """The stream that this thread's work on ``device`` goes to."""
    here = runtime()
    index = here.index_of(device)
    chosen: Stream | None = here.thread.streams.get(index)
    return default_stream(index) if chosen is None else chosen


def set_stream(stream: Stream) -> None:
    """Make ``stream`` this thread's current stream on its device, and that device the current one."""
    here = runtime()
    make_current(stream.device_index)
    here.thread.streams[stream.device_index] = stream


class StreamContext:
    """Inside it, ``stream`` and its device are current for this thread; None leaves all as it is."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream
        self._outer: list[tuple[int, Stream]] = []

    def __enter__(self) -> Stream | None:
        if self.stream is not None:
            self._outer.append((runtime().current_device(), current_stream(self.stream.device_index)))
            set_stream(self.stream)
        return self.stream

    def __exit__(self, *_exc: Any) -> None:
        if self.stream is not None:
            device, stream = self._outer.pop()
            set_stream(stream)
            make_current(device)
