"""``sglang.srt.platforms.sail``: the built-in platform of T-HEAD's SAIL (SGLang 0.5.23, srt/platforms/sail.py)."""

from __future__ import annotations

from .._members import declares
from .cuda import CudaDeviceMixin
from .device_mixin import PlatformEnum
from .interface import SRTPlatform


class SailDeviceMixin(CudaDeviceMixin):
    """SAIL devices, through torch.cuda."""

    _enum = PlatformEnum.SAIL
    device_name = "sail"


@declares(capabilities=["supports_triton", "graph_capture", "piecewise_graph", "supports_pynccl"])
class SailSRTPlatform(SailDeviceMixin, SRTPlatform):
    """The built-in SAIL platform, used when torch.cuda's device names itself so and no plugin activates."""
