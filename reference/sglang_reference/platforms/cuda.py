"""``sglang.srt.platforms.cuda``: the built-in CUDA platform (SGLang 0.5.13 and 0.5.23, srt/platforms/cuda.py)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .._contract import since
from .._members import declares
from .._released import Parameters, Renamed, released
from ._shared import GET_DEVICE, pinned_for
from .device_mixin import DeviceCapability, DeviceMixin, PlatformEnum
from .interface import SRTPlatform

logger = logging.getLogger(__name__)

_VISIBLE = "CUDA_VISIBLE_DEVICES"


class CudaDeviceMixin(DeviceMixin):
    """NVIDIA devices, through torch.cuda."""

    _enum = PlatformEnum.CUDA
    device_name = "cuda"
    device_type = "cuda"

    def get_device_total_memory(self, device_id: int = 0) -> int:
        """The device's memory in bytes."""
        return int(torch.cuda.get_device_properties(device_id).total_memory)

    def get_current_memory_usage(self, device: torch.device | None = None) -> float:
        """The peak of what torch's allocator has handed out on the device, in bytes."""
        return float(torch.cuda.max_memory_allocated(device))

    def get_available_memory(self, device_id: int = 0) -> tuple[int, int]:
        """Free and total memory of the device, in bytes."""
        return torch.cuda.mem_get_info(device_id)

    @released(GET_DEVICE)
    def get_device(self, device_id: int = 0) -> torch.device:
        """The device of that index."""
        return torch.device("cuda", device_id)

    def set_device(self, device: torch.device) -> None:
        """Make ``device`` the current one."""
        torch.cuda.set_device(device)

    def get_device_name(self, device_id: int = 0) -> str:
        """The driver's name of the device."""
        return str(torch.cuda.get_device_name(device_id))

    def get_device_uuid(self, device_id: int = 0) -> str:
        """The driver's identifier of the device."""
        return str(torch.cuda.get_device_properties(device_id).uuid)

    def get_device_capability(self, device_id: int = 0) -> DeviceCapability:
        """The device's compute capability."""
        return DeviceCapability(*torch.cuda.get_device_capability(device_id))

    def empty_cache(self) -> None:
        """Give torch's cached memory back."""
        torch.cuda.empty_cache()

    def synchronize(self) -> None:
        """Wait for all work on the current device."""
        torch.cuda.synchronize()

    if since("0.5.16"):

        def is_pin_memory_available(self, device: torch.device | str | None = None) -> bool:
            """True, but for the CPU as the target."""
            return pinned_for(device)

    if since("0.5.20"):

        @contextmanager
        @released(Parameters(renamed={"device_id": Renamed("gpu_id", "0.5.22")}))
        def reindex_device_id(self, device_id: int) -> Iterator[int]:
            """Leave only this one of the visible devices visible, as device 0, for child processes started inside.

            ``CUDA_VISIBLE_DEVICES`` is restored also after an exception, which SGLang 0.5.23 does not do.
            """
            if os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
                logger.warning(
                    "CUDA_DEVICE_ORDER is not PCI_BUS_ID, so device numbers may not be the driver's; "
                    "set CUDA_DEVICE_ORDER=PCI_BUS_ID"
                )
            before = os.environ.get(_VISIBLE)
            os.environ[_VISIBLE] = before.split(",")[device_id] if before else str(device_id)
            try:
                yield 0
            finally:
                if before is None:
                    os.environ.pop(_VISIBLE, None)
                else:
                    os.environ[_VISIBLE] = before

    def get_torch_distributed_backend_str(self) -> str:
        """The backend of CUDA groups."""
        return "nccl"

    @classmethod
    def seed_everything(cls, seed: int | None = None) -> None:
        """Seed the host's generators and those of every device."""
        if seed is not None:
            super().seed_everything(seed)  # type: ignore[misc]
            torch.cuda.manual_seed_all(seed)


@declares(
    flags=["supports_fp8", "support_cuda_graph", "support_piecewise_cuda_graph"],
    capabilities=["supports_triton", "graph_capture", "piecewise_graph", "hicache_device_kernels", "supports_pynccl"],
)
class CudaSRTPlatform(CudaDeviceMixin, SRTPlatform):
    """The built-in CUDA platform, used when torch sees a CUDA device and no plugin activates."""
