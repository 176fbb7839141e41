"""The device half of the platform: what SGLang asks of a device, whatever runs on it."""
# mypy: disable-error-code="import-not-found, import-untyped, misc"

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch
from sglang.srt.platforms.device_mixin import DeviceCapability, DeviceMixin, PlatformEnum

from sglang_simulated import hardware
from sglang_simulated.runtime import DeviceLike, runtime

if TYPE_CHECKING:
    from torch.profiler import ProfilerActivity


class SimDeviceMixin(DeviceMixin):
    """Identity, memory and control of the simulated devices.

    It derives from SGLang's DeviceMixin, so that it can stand before SRTPlatform in the platform class and be
    heard. Only a method that hands out something of the device type registers it with torch; identity, names and
    memory are answered without.
    """

    # OOT, and nothing else: it is what SGLang's ``is_out_of_tree()`` and every branch for plugins go by.
    _enum: PlatformEnum = PlatformEnum.OOT
    # Class attributes, not set in __init__: SGLang reads them off the class too.
    device_name: str = "sim"
    device_type: str = "sim"

    # Memory, always in bytes.

    def get_device_total_memory(self, device_id: int = 0) -> int:
        """Bytes of memory that device ``device_id`` has."""
        return runtime().ledgers[runtime().index_of(device_id)].total

    def get_current_memory_usage(self, device: DeviceLike = None) -> float:
        """Bytes taken from ``device`` now, the current device when None; asking changes nothing.

        SGLang's docstring says peak, but SGLang computes free memory as total minus this (0.5.23,
        srt/utils/common.py), and sizes its KV cache by it: a peak that has passed would be lost to the cache. Bytes
        that the allocator keeps for later count as taken, as they do in :meth:`get_available_memory`.
        """
        return float(runtime().ledgers[runtime().index_of(device)].reserved)

    def get_available_memory(self, device_id: int = 0) -> tuple[int, int]:
        """``(free, total)`` bytes of device ``device_id``."""
        ledger = runtime().ledgers[runtime().index_of(device_id)]
        return ledger.total - ledger.reserved, ledger.total

    def empty_cache(self) -> None:
        """Give the bytes that no tensor holds back to the devices."""
        for ledger in runtime().ledgers:
            ledger.empty_cache()

    def is_pin_memory_available(self, device: DeviceLike = None) -> bool:
        """False: the simulated device has no pinned host memory. (Before 0.5.16 SGLang asks without a device.)"""
        return False

    # Device management.

    def get_device(self, device_id: int | None = 0) -> str:
        """The name that torch knows ``device_id`` by, or the type without an index for None.

        A text, not a torch.device: without ``--device`` SGLang asks for None and splits the answer at the colon
        (0.5.23, srt/arg_groups/serving_hook.py). Raises RuntimeError where this machine lacks the device.
        """
        _register()
        return "sim" if device_id is None else f"sim:{runtime().index_of(device_id)}"

    def set_device(self, device: DeviceLike) -> None:
        """Make ``device`` this thread's current one; RuntimeError where this machine lacks it."""
        _register()
        from sglang_simulated.placing import make_current

        make_current(runtime().index_of(device))

    def get_device_name(self, device_id: int = 0) -> str:
        """The name that people know the device by."""
        runtime().index_of(device_id)
        return hardware.DEVICE_NAME

    def get_device_uuid(self, device_id: int = 0) -> str:
        """An identifier that no two devices share, the same in every process."""
        return hardware.device_uuid(runtime().index_of(device_id))

    def get_device_capability(self, device_id: int = 0) -> DeviceCapability:
        """The device's generation, in the vendor's own counting: not a CUDA capability."""
        runtime().index_of(device_id)
        return DeviceCapability(*hardware.CAPABILITY)

    def synchronize(self) -> None:
        """Wait until all work on the current device is complete."""
        from sglang_simulated.streams import current_stream

        current_stream().synchronize()

    # Distributed.

    def get_torch_distributed_backend_str(self) -> str:
        """The string for ``init_process_group``: gloo for host tensors, simccl for the device's.

        Whoever asks is about to open a group with it, so the backend is registered by then. SGLang's weight cache
        asks without ``init_backend()`` having run (0.5.23, srt/weight_cache/daemon.py).
        """
        from sglang_simulated import distributed

        _register()
        distributed.register()
        return distributed.BACKEND_STRING

    # The rest.

    @classmethod
    def seed_everything(cls, seed: int | None = None) -> None:
        """Seed Python's, NumPy's, torch's and the devices' random numbers; None leaves them all."""
        if seed is None:
            return
        random.seed(seed)
        torch.manual_seed(seed)
        runtime().manual_seed_all(seed)  # torch does so only once the device type is registered
        try:
            import numpy as np
        except ImportError:
            return
        np.random.seed(seed % 2**32)

    def verify_quantization(self, quant: str) -> None:
        """Raise ValueError for a quantization method that the device has no kernels for."""
        supported: list[str] = getattr(self, "supported_quantization", [])
        if quant and quant not in supported:
            raise ValueError(
                f"quantization {quant!r} is not supported on {self.device_name}: "
                f"use one of {', '.join(supported) or 'none'}"
            )

    def get_torch_profiler_activity_str(self) -> str:
        """The member of torch's ProfilerActivity; SGLang looks it up by this name."""
        return "PrivateUse1"

    def get_torch_profiler_activity(self) -> ProfilerActivity:
        """The member itself: out-of-tree devices all share one."""
        return torch.profiler.ProfilerActivity.PrivateUse1


def _register() -> None:
    # Imported here: it brings in the tensors and kernels, which naming the platform does not need.
    from sglang_simulated.device import register

    register()
