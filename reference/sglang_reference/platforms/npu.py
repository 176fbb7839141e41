"""``sglang.srt.platforms.npu``: the platform of Ascend NPUs (SGLang 0.5.20 and 0.5.23, srt/platforms/npu.py)."""

from __future__ import annotations

from typing import Any

import torch

from .._contract import since
from .._members import declares
from ._shared import pinned_for
from .device_mixin import DeviceCapability, DeviceMixin, PlatformEnum
from .interface import SRTPlatform


def _npu() -> Any:
    """The device module that torch_npu puts into torch."""
    return torch.npu  # type: ignore[attr-defined]


class NPUDeviceMixin(DeviceMixin):
    """Ascend devices, through torch.npu."""

    _enum = PlatformEnum.NPU
    device_name = "npu"
    device_type = "npu"

    def get_device_total_memory(self, device_id: int = 0) -> int:
        """The device's memory in bytes."""
        return int(_npu().get_device_properties(device_id).total_memory)

    def get_current_memory_usage(self, device: torch.device | None = None) -> float:
        """The peak of what torch's allocator has handed out on the device, in bytes."""
        return float(_npu().max_memory_allocated(device))

    def get_device(self, local_rank: int) -> torch.device:
        """The device of that index; it kept the older name when the other platforms took ``device_id``."""
        return torch.device("npu", local_rank)

    def set_device(self, device: torch.device) -> None:
        """Make ``device`` the current one."""
        _npu().set_device(device)

    def get_device_name(self, device_id: int = 0) -> str:
        """The driver's name of the device."""
        return str(_npu().get_device_name(device_id))

    def get_device_uuid(self, device_id: int = 0) -> str:
        """The driver's identifier of the device."""
        return str(_npu().get_device_properties(device_id).uuid)

    def get_device_capability(self, device_id: int = 0) -> DeviceCapability:
        """(0, 0): what torch.npu would say speaks of a CUDA device."""
        return DeviceCapability(0, 0)

    def empty_cache(self) -> None:
        """Give torch's cached memory back."""
        _npu().empty_cache()

    def synchronize(self) -> None:
        """Wait for all work on the current device."""
        _npu().synchronize()

    def get_available_memory(self, device_id: int = 0) -> tuple[int, int]:
        """Free and total memory of the device, in bytes."""
        free, total = _npu().mem_get_info(device_id)
        return (free, total)

    def is_pin_memory_available(self, device: torch.device | str | None = None) -> bool:
        """True, but for the CPU as the target; never in 0.5.20."""
        return since("0.5.21") and pinned_for(device)

    @classmethod
    def seed_everything(cls, seed: int | None = None) -> None:
        """Seed the host's generators and those of every device."""
        if seed is not None:
            super().seed_everything(seed)  # type: ignore[misc]
            if hasattr(torch, "npu"):
                torch.npu.manual_seed_all(seed)


@declares(flags=["supports_fp8", "support_cuda_graph"], capabilities=["supports_triton", "graph_capture"])
class NPUSRTPlatform(NPUDeviceMixin, SRTPlatform):
    """The built-in NPU platform, used when torch.npu sees a device and no plugin activates."""

    def get_default_attention_backend(self) -> str:
        """SGLang's attention for Ascend."""
        return "ascend"

    def get_dispatch_key_name(self) -> str:
        """The key of SGLang's operators for Ascend."""
        return "npu"
