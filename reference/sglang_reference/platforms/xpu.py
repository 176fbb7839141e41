"""``sglang.srt.platforms.xpu``: the built-in XPU platform (SGLang 0.5.17 and 0.5.23, srt/platforms/xpu.py)."""

from __future__ import annotations

import logging

import torch

from .._members import declares
from .._released import released
from ._shared import GET_DEVICE, pinned_for
from .device_mixin import DeviceCapability, DeviceMixin, PlatformEnum
from .interface import SRTPlatform

logger = logging.getLogger(__name__)


class XpuDeviceMixin(DeviceMixin):
    """Intel devices, through torch.xpu."""

    _enum = PlatformEnum.XPU
    device_name = "xpu"
    device_type = "xpu"

    def get_device_total_memory(self, device_id: int = 0) -> int:
        """The device's memory in bytes."""
        return int(torch.xpu.get_device_properties(device_id).total_memory)

    def get_current_memory_usage(self, device: torch.device | None = None) -> float:
        """The peak of what torch's allocator has handed out on the device, in bytes."""
        return float(torch.xpu.max_memory_allocated(device))

    @released(GET_DEVICE)
    def get_device(self, device_id: int = 0) -> torch.device:
        """The device of that index."""
        return torch.device("xpu", device_id)

    def set_device(self, device: torch.device) -> None:
        """Make ``device`` the current one."""
        torch.xpu.set_device(device)

    def get_device_name(self, device_id: int = 0) -> str:
        """The driver's name of the device."""
        return str(torch.xpu.get_device_name(device_id))

    def get_device_uuid(self, device_id: int = 0) -> str:
        """The driver's identifier of the device."""
        return str(torch.xpu.get_device_properties(device_id).uuid)

    def get_device_capability(self, device_id: int = 0) -> DeviceCapability:
        """What SGLang's kernels say of the current device, whichever is asked about."""
        return DeviceCapability(*torch.ops.sgl_kernel.query_device.default(torch.xpu.current_device()))

    def empty_cache(self) -> None:
        """Give torch's cached memory back."""
        torch.xpu.empty_cache()

    def synchronize(self) -> None:
        """Wait for all work on the current device."""
        torch.xpu.synchronize()

    def get_available_memory(self, device_id: int = 0) -> tuple[int, int]:
        """What this process's tensors leave of the device's memory, and all of it, in bytes; nothing without XPUs.

        Raises ValueError for a device that is not there.
        """
        if not torch.xpu.is_available():
            return (0, 0)
        devices = torch.xpu.device_count()
        if not 0 <= device_id < devices:
            raise ValueError(f"there is no XPU {device_id}: {devices} are visible, counted from 0")
        current = torch.xpu.current_device()
        if current != device_id:
            logger.warning(
                "XPU %s is asked about while %s is current; torch may make a context on it", device_id, current
            )
        total = int(torch.xpu.get_device_properties(device_id).total_memory)
        return (total - torch.xpu.memory_allocated(device_id), total)

    def is_pin_memory_available(self, device: torch.device | str | None = None) -> bool:
        """True, but for the CPU as the target."""
        return pinned_for(device)

    @classmethod
    def seed_everything(cls, seed: int | None = None) -> None:
        """Seed the host's generators and those of every device."""
        if seed is not None:
            super().seed_everything(seed)  # type: ignore[misc]
            torch.xpu.manual_seed_all(seed)


@declares(
    flags=["support_cuda_graph", "support_piecewise_cuda_graph"],
    capabilities=["supports_triton", "graph_capture", "piecewise_graph"],
)
class XpuSRTPlatform(XpuDeviceMixin, SRTPlatform):
    """The built-in XPU platform, used when torch sees an XPU and no plugin activates."""
