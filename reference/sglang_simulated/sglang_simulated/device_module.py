"""What ``torch.sim`` is: the functions that torch and SGLang expect of a device's module.

SGLang reaches it as ``torch.get_device_module("sim")``, for streams, events, memory and graphs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

import torch

from sglang_simulated.graphs import SimGraph, graph, graph_pool_handle, is_current_stream_capturing
from sglang_simulated.hardware import CAPABILITY, DEVICE_NAME, device_uuid
from sglang_simulated.memory import Ledger
from sglang_simulated.placing import make_current
from sglang_simulated.runtime import DeviceLike, runtime
from sglang_simulated.streams import Event, Stream, StreamContext, current_stream, default_stream, set_stream

Graph = SimGraph
stream = StreamContext

__all__ = [
    "DeviceProperties",
    "Event",
    "Graph",
    "Stream",
    "StreamContext",
    "current_device",
    "current_stream",
    "default_stream",
    "device",
    "device_count",
    "empty_cache",
    "get_amp_supported_dtype",
    "get_device_name",
    "get_device_properties",
    "get_rng_state",
    "get_rng_state_all",
    "graph",
    "graph_pool_handle",
    "is_available",
    "is_current_stream_capturing",
    "is_initialized",
    "manual_seed",
    "manual_seed_all",
    "max_memory_allocated",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "reset_peak_memory_stats",
    "set_device",
    "set_rng_state",
    "set_rng_state_all",
    "set_stream",
    "stream",
    "synchronize",
]


@dataclass(frozen=True)
class DeviceProperties:
    """What is fixed about a device; ``total_memory`` in bytes."""

    name: str
    major: int
    minor: int
    total_memory: int
    uuid: str


def is_available() -> bool:
    """Whether this machine has a simulated device."""
    return device_count() > 0


def is_initialized() -> bool:
    """Whether the device type is ready for use; it is, since this module is only reached when registered."""
    return True


def device_count() -> int:
    """How many simulated devices this machine has."""
    return runtime().hardware.devices


def current_device() -> int:
    """The index of this thread's current device."""
    return runtime().current_device()


def set_device(device: DeviceLike) -> None:
    """Make ``device`` this thread's current device; RuntimeError where this machine lacks it."""
    make_current(runtime().index_of(device))


class device:  # noqa: N801 - the name torch gives it in every device module
    """Inside it, the given device is this thread's current one; None leaves it as it is."""

    def __init__(self, device: DeviceLike) -> None:
        self.idx = None if device is None else runtime().index_of(device)
        self.prev_idx = -1

    def __enter__(self) -> None:
        self.prev_idx = current_device()
        if self.idx is not None:
            set_device(self.idx)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        set_device(self.prev_idx)


def get_device_properties(device: DeviceLike = None) -> DeviceProperties:
    """What is fixed about ``device``."""
    index = runtime().index_of(device)
    return DeviceProperties(DEVICE_NAME, *CAPABILITY, runtime().hardware.memory, device_uuid(index))


def get_device_name(device: DeviceLike = None) -> str:
    """The name that people know the device by."""
    runtime().index_of(device)
    return DEVICE_NAME


def synchronize(device: DeviceLike = None) -> None:
    """Wait until all work on ``device`` is complete; RuntimeError while its current stream is captured."""
    current_stream(device).synchronize()


def memory_allocated(device: DeviceLike = None) -> int:
    """Bytes that living tensors hold."""
    return _ledger(device).allocated


def max_memory_allocated(device: DeviceLike = None) -> int:
    """The most bytes that tensors held at once, since the start or the last :func:`reset_peak_memory_stats`."""
    return _ledger(device).peak


def reset_peak_memory_stats(device: DeviceLike = None) -> None:
    """Let :func:`max_memory_allocated` start again from now."""
    _ledger(device).reset_peak()


def memory_reserved(device: DeviceLike = None) -> int:
    """Bytes taken from the device: held by tensors, or kept for the next ones until :func:`empty_cache`."""
    return _ledger(device).reserved


def mem_get_info(device: DeviceLike = None) -> tuple[int, int]:
    """``(free, total)`` bytes of the device, where what is kept for later tensors counts as used."""
    ledger = _ledger(device)
    return ledger.total - ledger.reserved, ledger.total


def empty_cache() -> None:
    """Give the bytes that no tensor holds back, on every device."""
    for ledger in runtime().ledgers:
        ledger.empty_cache()


def manual_seed(seed: int) -> None:
    """Seed the current device's random numbers."""
    runtime().generators[current_device()].manual_seed(seed)


def manual_seed_all(seed: int) -> None:
    """Seed every device's random numbers; ``torch.manual_seed`` calls it."""
    runtime().manual_seed_all(seed)


def get_rng_state(device: DeviceLike = "sim") -> torch.Tensor:
    """The state of the device's random numbers, as a host tensor of bytes."""
    return runtime().generators[runtime().index_of(device)].get_state()


def set_rng_state(new_state: torch.Tensor, device: DeviceLike = "sim") -> None:
    """Put the device's random numbers back to a state that :func:`get_rng_state` gave."""
    runtime().generators[runtime().index_of(device)].set_state(new_state)


def get_rng_state_all() -> list[torch.Tensor]:
    """The states of all devices, in order."""
    return [get_rng_state(index) for index in range(device_count())]


def set_rng_state_all(new_states: Iterable[torch.Tensor]) -> None:
    """Put all devices' random numbers back to states that :func:`get_rng_state_all` gave."""
    for index, state in enumerate(new_states):
        set_rng_state(state, index)


def get_amp_supported_dtype() -> list[torch.dtype]:
    """The types that ``torch.autocast`` may choose on this device."""
    return [torch.float16, torch.bfloat16]


def _is_in_bad_fork() -> bool:
    """Whether a fork broke the device for this process; never, there is no driver state to break."""
    return False


def _ledger(device: DeviceLike) -> Ledger:
    return runtime().ledgers[runtime().index_of(device)]
