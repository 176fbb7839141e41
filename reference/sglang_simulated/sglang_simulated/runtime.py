"""The state of the simulated devices in this process: memory, current device, streams, random numbers.

Nothing here is known to torch: :mod:`sglang_simulated.device` registers the device type. So questions about
memory or the current device can be answered without starting anything.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import torch

from sglang_simulated.hardware import Hardware, detect
from sglang_simulated.memory import Ledger, StorageTracker

if TYPE_CHECKING:
    from sglang_simulated.streams import Stream

DeviceLike: TypeAlias = "torch.device | str | int | None"
_DEVICE_NAME = re.compile(r"sim(?::(\d+))?")


class _Thread(threading.local):
    """What each thread has for itself: the current device, and the current stream of each device.

    ``indexed``: torch is told the current device's index (:mod:`sglang_simulated.placing`).
    """

    def __init__(self) -> None:
        self.device = 0
        self.indexed = False
        self.streams: dict[int, Stream] = {}


class Runtime:
    """All simulated devices of this process."""

    def __init__(self, hardware: Hardware) -> None:
        self.hardware = hardware
        lock = threading.RLock()
        self.ledgers = [Ledger(index, hardware.memory, lock) for index in range(hardware.devices)]
        self.tracker = StorageTracker(lock)
        self.default_streams: dict[int, Stream] = {}
        self.thread = _Thread()
        self.generators = [torch.Generator() for _ in range(hardware.devices)]

    def current_device(self) -> int:
        """The index of this thread's current device."""
        return self.thread.device

    def index_of(self, device: DeviceLike) -> int:
        """The index that ``device`` names; without an index, or as None, the current device's.

        Raises ValueError for a device of another type and RuntimeError for one that this machine lacks.
        """
        index = _parse(device)
        if index is None:
            index = self.current_device()
        if not 0 <= index < self.hardware.devices:
            raise RuntimeError(
                f"there is no device sim:{index}: this machine has {self.hardware.devices}, counted from 0"
            )
        return index

    def manual_seed_all(self, seed: int) -> None:
        """Seed the random numbers of every device."""
        for generator in self.generators:
            generator.manual_seed(seed)

    @contextmanager
    def random_numbers_of(self, index: int) -> Iterator[None]:
        """Let operations draw from device ``index``'s random numbers, and leave the host's as they were.

        The host's kernels do the work, and many take no generator, so its default one is lent the device's state.
        """
        lent, own = torch.default_generator, self.generators[index]
        host_state = lent.get_state()
        lent.set_state(own.get_state())
        try:
            yield
        finally:
            own.set_state(lent.get_state())
            lent.set_state(host_state)


@lru_cache(maxsize=1)
def runtime() -> Runtime:
    """The devices of this process, counted on the first call and fixed from then on, as a driver's are."""
    return Runtime(detect())


def _parse(device: DeviceLike) -> int | None:
    if device is None or isinstance(device, int):
        return device
    if isinstance(device, torch.device) and device.type == "sim":
        return device.index
    matched = _DEVICE_NAME.fullmatch(str(device))
    if matched is None:
        raise ValueError(f"{device!r} is not a simulated device: name one as 'sim', 'sim:0' or 0")
    return None if matched[1] is None else int(matched[1])
