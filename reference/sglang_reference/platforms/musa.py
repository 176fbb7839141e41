"""``sglang.srt.platforms.musa``: the built-in MUSA platform (SGLang 0.5.22 and 0.5.23, srt/platforms/musa.py)."""

from __future__ import annotations

from .._members import declares
from .cuda import CudaDeviceMixin
from .device_mixin import PlatformEnum
from .interface import SRTPlatform


class MusaDeviceMixin(CudaDeviceMixin):
    """Moore Threads devices, which torchada serves through torch.cuda."""

    _enum = PlatformEnum.MUSA
    device_name = "musa"
    device_type = "musa"

    def get_torch_distributed_backend_str(self) -> str:
        """The backend of MUSA groups."""
        return "mccl"


@declares(capabilities=["supports_triton", "graph_capture", "supports_pynccl"])
class MusaSRTPlatform(MusaDeviceMixin, SRTPlatform):
    """The built-in MUSA platform, used when torch is built for it, torchada is there, and no plugin activates."""
