"""``sglang.srt.configs.device_config``: the device that a model is loaded onto.

Facts: SGLang 0.5.11 to 0.5.23, srt/configs/device_config.py.
"""

from __future__ import annotations

import torch

from .. import platforms
from .._contract import since

__all__ = ["SUPPORTED_DEVICES", "DeviceConfig"]

SUPPORTED_DEVICES = ["cuda", "xpu", "hpu", "cpu", "npu", "musa", "mps"]


class DeviceConfig:
    """A type of device, and the index of one."""

    device: torch.device | None
    gpu_id: int | None

    def __init__(self, device: str = "cuda", gpu_id: int = -1) -> None:
        """Raises RuntimeError for a type that is not supported.

        Before 0.5.13 an out-of-tree platform's is not, unless its plugin adds it to ``SUPPORTED_DEVICES``.
        """
        if device not in SUPPORTED_DEVICES and not (since("0.5.13") and platforms.current_platform.is_out_of_tree()):
            raise RuntimeError(f"{device!r} is no type of device that SGLang knows, nor an out-of-tree platform's")
        self.device_type = device
        self.device = torch.device(device)
        self.gpu_id = gpu_id
