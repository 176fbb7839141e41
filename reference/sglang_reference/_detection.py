"""How SGLang tells which accelerator it runs on when no plugin activates (SGLang 0.5.23, srt/platforms/__init__.py).

The order in which the detectors are asked is the contract table's, and differs between releases. Each is given torch,
as the module that asks it has it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any


def _cpu(torch: Any) -> bool:
    # The CPU is never detected, only asked for, and with this one word.
    return os.environ.get("SGLANG_USE_CPU_ENGINE") == "1"


def _sail(torch: Any) -> bool:
    return bool(torch.cuda.is_available() and "ZW" in torch.cuda.get_device_name())


def _cuda(torch: Any) -> bool:
    return bool(torch.cuda.is_available() and torch.version.hip is None)


def _rocm(torch: Any) -> bool:
    return bool(torch.cuda.is_available() and torch.version.hip is not None)


def _npu(torch: Any) -> bool:
    return hasattr(torch, "npu") and bool(torch.npu.is_available())


def _xpu(torch: Any) -> bool:
    return bool(torch.xpu.is_available())


def _musa(torch: Any) -> bool:
    if getattr(torch.version, "musa", None) is None:
        return False
    try:
        import torchada  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        return False
    return True


def _mps(torch: Any) -> bool:
    return getattr(torch, "mps", None) is not None and bool(torch.mps.is_available())


DETECTORS: Mapping[str, Callable[[Any], bool]] = {
    "cpu": _cpu,
    "sail": _sail,
    "cuda": _cuda,
    "rocm": _rocm,
    "npu": _npu,
    "xpu": _xpu,
    "musa": _musa,
    "mps": _mps,
}
"""Whether this machine has the hardware of a built-in platform, by the platform's name in the contract table."""

CLASSES: Mapping[str, str] = {
    "cpu": "CpuSRTPlatform",
    "sail": "SailSRTPlatform",
    "cuda": "CudaSRTPlatform",
    "rocm": "RocmSRTPlatform",
    "npu": "NPUSRTPlatform",
    "xpu": "XpuSRTPlatform",
    "musa": "MusaSRTPlatform",
    "mps": "MpsSRTPlatform",
}
"""The class of a built-in platform, in the module of the platform's name."""
