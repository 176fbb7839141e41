"""``sglang.srt.platforms.mps``: the platform of Apple's GPUs (SGLang 0.5.22 and 0.5.23, srt/platforms/mps.py)."""

from __future__ import annotations

import torch

from .device_mixin import DeviceMixin, PlatformEnum
from .interface import SRTPlatform


class MpsDeviceMixin(DeviceMixin):
    """The one Apple GPU of the machine, through torch.mps; it shares the machine's memory."""

    _enum = PlatformEnum.MPS
    device_name = "mps"
    device_type = "mps"

    def get_device_total_memory(self, device_id: int = 0) -> int:
        """What Metal recommends that a process use, in bytes; RuntimeError where torch or Metal does not say."""
        recommended = getattr(torch.mps, "recommended_max_memory", None)
        if not callable(recommended):
            raise RuntimeError(
                "torch.mps.recommended_max_memory is needed to size the pools; install torch 2.13 or later"
            )
        total = int(recommended())
        if total <= 0:
            raise RuntimeError(
                f"torch.mps gave the non-positive Metal working-set size {total}; nothing can be sized by it"
            )
        return total

    def get_current_memory_usage(self, device: torch.device | None = None) -> float:
        """What the driver has allocated for this process, in bytes."""
        return float(torch.mps.driver_allocated_memory())

    def get_device(self, local_rank: int = 0) -> torch.device:
        """The device, without an index; ValueError for any but the first (or -1, none in particular)."""
        if local_rank not in (-1, 0):
            raise ValueError(f"MPS has one device, and local_rank={local_rank} is not it")
        return torch.device("mps")

    def set_device(self, device: torch.device) -> None:
        """Nothing to choose; ValueError for a device of another kind."""
        if str(device).partition(":")[0] != "mps":
            raise ValueError(f"the MPS platform cannot select {device}")

    def get_device_name(self, device_id: int = 0) -> str:
        """Metal's name of the device."""
        return str(torch.backends.mps.get_name())

    def get_device_uuid(self, device_id: int = 0) -> str:
        """A fixed text: Metal has no identifier."""
        return "mps:0"

    def get_device_capability(self, device_id: int = 0) -> None:
        """None: an Apple GPU has no compute capability."""

    def empty_cache(self) -> None:
        """Give torch's cached memory back, where torch can."""
        give_back = getattr(torch.mps, "empty_cache", None)
        if callable(give_back):
            give_back()

    def synchronize(self) -> None:
        """Wait for all work on the device, where torch can."""
        wait = getattr(torch.mps, "synchronize", None)
        if callable(wait):
            wait()


class MpsSRTPlatform(MpsDeviceMixin, SRTPlatform):
    """The built-in MPS platform, used when torch sees an Apple GPU and no plugin activates."""

    def get_default_attention_backend(self) -> str:
        """SGLang's attention in plain torch."""
        return "torch_native"
