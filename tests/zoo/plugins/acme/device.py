"""What Acme's device can do, for every subsystem of SGLang."""

from __future__ import annotations

import gc
import random

import torch
from sglang.srt.platforms.device_mixin import DeviceMixin, PlatformEnum

TOTAL = 16 << 30


class AcmeDeviceMixin(DeviceMixin):
    _enum = PlatformEnum.OOT
    device_name = "acme"
    device_type = "cpu"

    def get_device_total_memory(self, device_id: int = 0) -> int:
        return TOTAL

    def get_current_memory_usage(self, device: torch.device | None = None) -> float:
        return float(_used())

    def get_available_memory(self, device_id: int = 0) -> tuple[int, int]:
        return TOTAL - _used(), TOTAL

    def is_pin_memory_available(self, device: object = None) -> bool:
        return False

    def get_device(self, device_id: int | None = 0) -> str:
        return "cpu"

    def set_device(self, device: torch.device) -> None:
        torch.cpu.set_device(device)

    def get_device_name(self, device_id: int = 0) -> str:
        return "Acme One"

    def get_device_uuid(self, device_id: int = 0) -> str:
        return f"ACME-0000-{device_id:04d}"

    def get_device_capability(self, device_id: int = 0) -> None:
        return None

    def empty_cache(self) -> None:
        gc.collect()

    def synchronize(self) -> None:
        torch.cpu.synchronize()

    def get_torch_distributed_backend_str(self) -> str:
        return "gloo"

    def get_torch_profiler_activity_str(self) -> str:
        return "CPU"

    def get_torch_profiler_activity(self) -> torch.profiler.ProfilerActivity:
        return torch.profiler.ProfilerActivity.CPU

    @classmethod
    def seed_everything(cls, seed: int | None = None) -> None:
        if seed is not None:
            random.seed(seed)
            torch.manual_seed(seed)


def _used() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return min(pages * 4096, TOTAL)
