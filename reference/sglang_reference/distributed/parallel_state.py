"""``sglang.srt.distributed.parallel_state``: which torch.distributed backend serves a device.

Facts: SGLang 0.5.11 and 0.5.23, srt/distributed/parallel_state.py.
"""

from __future__ import annotations

from .. import platforms
from .. import utils as utils  # SGLang's module imports it too, which from 0.5.23 on resolves the platform
from .._contract import TABLE, distributed_backends
from ..platforms import device_mixin

__all__ = ["get_default_distributed_backend"]

_DEVICE_TO_DISTRIBUTED_BACKEND: dict[str, str] = (
    device_mixin._DEVICE_TO_DISTRIBUTED_BACKEND if TABLE["backends"]["asks_platform"] else distributed_backends()
)


def get_default_distributed_backend(device: str) -> str:
    """The backend for groups on ``device``: the active platform's own answer, the table's, or the fallback.

    The platform is asked, in releases that ask it, when ``device`` is its ``device_type`` or its ``device_name``; what
    it raises is not caught.
    """
    backends = TABLE["backends"]
    platform = platforms.current_platform if backends["asks_platform"] else None
    if platform is not None and device in (platform.device_type, platform.device_name):
        answer: str = platform.get_torch_distributed_backend_str()
        return answer
    fallback: str = backends["fallback"]
    return _DEVICE_TO_DISTRIBUTED_BACKEND.get(device, fallback)
