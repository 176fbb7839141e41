"""Which built-in device SGLang's operators see, whatever the platform says.

Facts: SGLang 0.5.11 and 0.5.23, srt/utils/common.py.
"""

from __future__ import annotations

import os
import platform

import torch

_X86_OR_ARM = ("x86_64", "amd64", "i386", "i686", "aarch64", "arm64")


def is_cuda() -> bool:
    """Whether torch is built for CUDA and finds a device."""
    return torch.version.cuda is not None and torch.cuda.is_available()


def is_cpu() -> bool:
    """Whether SGLang is told to serve on the CPU."""
    return os.environ.get("SGLANG_USE_CPU_ENGINE", "0") == "1" and platform.machine().lower() in _X86_OR_ARM


def in_tree_key() -> str:
    """The device whose methods operators run: ``cuda``, ``hip``, ``npu``, ``xpu``, ``musa``, or empty for plain torch.

    The CPU runs plain torch: its own methods need kernels that the reference does not have.
    """
    if is_cuda():
        return "cuda"
    if torch.version.hip is not None:
        return "hip"
    for name in ("npu", "xpu"):
        device = getattr(torch, name, None)
        if device is not None and device.is_available():
            return name
    return "musa" if getattr(torch.version, "musa", None) is not None else ""
