"""How SGLang tells which accelerator it runs on when no plugin activates (SGLang 0.5.23, srt/platforms/__init__.py).

The order in which the detectors are asked is the contract table's, and differs between releases.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping


def _cpu() -> bool:
    # The CPU is never detected, only asked for, and with this one word.
    return os.environ.get("SGLANG_USE_CPU_ENGINE") == "1"


def _sail() -> bool:
    import torch

    return torch.cuda.is_available() and "ZW" in torch.cuda.get_device_name()


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available() and torch.version.hip is None


def _rocm() -> bool:
    import torch

    return torch.cuda.is_available() and torch.version.hip is not None


def _npu() -> bool:
    import torch

    return hasattr(torch, "npu") and bool(torch.npu.is_available())


def _xpu() -> bool:
    import torch

    return torch.xpu.is_available()


def _musa() -> bool:
    import torch

    if getattr(torch.version, "musa", None) is None:
        return False
    try:
        import torchada  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        return False
    return True


def _mps() -> bool:
    import torch

    return getattr(torch, "mps", None) is not None and torch.mps.is_available()


DETECTORS: Mapping[str, Callable[[], bool]] = {
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
