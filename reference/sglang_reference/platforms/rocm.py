"""``sglang.srt.platforms.rocm``: the built-in ROCm platform (SGLang 0.5.13 and 0.5.23, srt/platforms/rocm.py)."""

from __future__ import annotations

from .._members import declares
from .cuda import CudaDeviceMixin
from .device_mixin import PlatformEnum
from .interface import SRTPlatform


class RocmDeviceMixin(CudaDeviceMixin):
    """AMD devices, which torch serves through torch.cuda and calls ``cuda`` too."""

    _enum = PlatformEnum.ROCM
    device_name = "rocm"


# Before 0.5.22 it leaves the flags at their defaults: nothing is declared.
@declares(
    capabilities=["supports_triton", "graph_capture", "piecewise_graph", "hicache_device_kernels", "supports_pynccl"]
)
class RocmSRTPlatform(RocmDeviceMixin, SRTPlatform):
    """The built-in ROCm platform, used when torch is built for HIP and sees a device, and no plugin activates."""
