"""``sglang.srt.platforms.cpu``: the built-in CPU platform (SGLang 0.5.14 and 0.5.23, srt/platforms/cpu.py)."""

from __future__ import annotations

import enum
import functools
import gc
import platform

import psutil
import torch

from .._contract import since
from .._members import declares
from .._released import Lifetime, Parameters, released
from ._shared import GET_DEVICE
from .device_mixin import CpuArchEnum, DeviceCapability, DeviceMixin, PlatformEnum
from .interface import SRTPlatform


class CpuDeviceMixin(DeviceMixin):
    """The host's processor and memory as one device, whatever the index."""

    _enum = PlatformEnum.CPU
    device_name = "cpu"
    device_type = "cpu"

    if not since("0.5.22"):  # from then on, every platform has it

        @functools.cached_property
        def cpu_arch(self) -> enum.Enum:
            """The machine's architecture, looked up once."""
            found: enum.Enum = self.get_cpu_architecture()
            return found

    def get_device_total_memory(self, device_id: int = 0) -> int:
        """The machine's memory in bytes."""
        return int(psutil.virtual_memory().total)

    def get_current_memory_usage(self, device: torch.device | None = None) -> float:
        """What the whole machine uses, in bytes: total less usage is what is available to everyone."""
        memory = psutil.virtual_memory()
        return float(memory.total - memory.available)

    def get_available_memory(self, device_id: int = 0) -> tuple[int, int]:
        """Available and total memory of the machine, in bytes."""
        memory = psutil.virtual_memory()
        return (memory.available, memory.total)

    @released(GET_DEVICE)
    def get_device(self, device_id: int = 0) -> torch.device:
        """The CPU device, without an index: every rank shares it."""
        return torch.device("cpu")

    def set_device(self, device: torch.device) -> None:
        """Nothing to choose: torch.cpu.set_device does nothing."""
        torch.cpu.set_device(device)

    def get_device_name(self, device_id: int = 0) -> str:
        """``cpu``, with the architecture where it is known."""
        names = {CpuArchEnum.X86: "cpu (x86_64)", CpuArchEnum.ARM: "cpu (aarch64)"}
        return names.get(self.cpu_arch, "cpu")

    def get_device_uuid(self, device_id: int = 0) -> str:
        """The machine's architecture, since a CPU has no identifier."""
        return platform.machine()

    def get_device_capability(self, device_id: int = 0) -> DeviceCapability | None:
        """None: a CPU has no compute capability."""
        return None

    def empty_cache(self) -> None:
        """Collect garbage: there is no allocator cache to empty."""
        gc.collect()

    def synchronize(self) -> None:
        """Nothing to wait for: torch.cpu.synchronize does nothing."""
        torch.cpu.synchronize()

    def get_torch_distributed_backend_str(self) -> str:
        """The backend of CPU groups."""
        return "gloo"


@declares(capabilities=["graph_capture"])
class CpuSRTPlatform(CpuDeviceMixin, SRTPlatform):
    """The built-in CPU platform, used when ``SGLANG_USE_CPU_ENGINE`` is 1 and no plugin activates."""

    @released(Parameters({"device": Lifetime("0.5.16")}))
    def is_pin_memory_available(self, device: torch.device | str | None = None) -> bool:
        """False: there is no accelerator to pin memory for."""
        return False
