"""``sglang.srt.utils.common``: the helpers through which SGLang's core asks the platform.

Only what an out-of-tree platform or the bare SRTPlatform meets is here; what SGLang does for its built-in devices
raises NotCovered. Facts: srt/utils/common.py of SGLang 0.5.11, 0.5.13, 0.5.21 and 0.5.23.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sglang_reference._errors import not_covered

from .. import platforms
from .._contract import TABLE, since
from .._released import Lifetime, absent
from . import _host_memory
from ._layers import add_prefix, make_layers

if TYPE_CHECKING:
    import torch

__all__ = [
    "add_prefix",
    "get_available_gpu_memory",
    "get_compiler_backend",
    "get_device",
    "get_device_memory_capacity",
    "get_num_new_pages",
    "is_pin_memory_available",
    "make_layers",
    "support_triton",
]

_GIB = 1 << 30
_MIB = 1 << 20
_OWN_BRANCH = frozenset({"cuda", "xpu", "hpu", "cpu", "npu", "musa", "mps"})
_WITHOUT_TRITON = ("torch_native", "intel_amx")


if since("0.5.13"):
    # As in SGLang from then on: importing this module resolves the platform, and its functions keep what it was then.
    from ..platforms import current_platform

    __all__ += ["current_platform"]

    def _platform() -> Any:
        return current_platform

else:

    def _platform() -> Any:
        return platforms.current_platform


def get_available_gpu_memory(
    device: str,
    gpu_id: int,
    distributed: bool = False,
    empty_cache: bool = True,
    cpu_group: torch.distributed.ProcessGroup | None = None,
) -> float:
    """Free memory in GiB: the platform's total of device ``gpu_id`` less its usage, which is asked without a device.

    On CPUs and CUDA devices, what the system and the driver say. With ``distributed``, the least of all ranks of
    ``cpu_group``. Raises ValueError for a device that is neither built in nor an out-of-tree platform's; NotCovered for
    other built-in ones.
    """
    free = _free_bytes(device, gpu_id, empty_cache)
    if distributed:
        import torch

        least = torch.tensor(free, dtype=torch.float32)
        torch.distributed.all_reduce(least, op=torch.distributed.ReduceOp.MIN, group=cpu_group)
        free = least.item()
    return float(free / _GIB)


def _free_bytes(device: str, gpu_id: int, empty_cache: bool) -> float:
    if device == "cpu":
        return _host_memory.free_bytes_per_node()
    if device == "cuda":
        import torch

        if empty_cache:
            torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(gpu_id)[0]
    if device in _OWN_BRANCH:
        raise not_covered(f"sglang.srt.utils.common.get_available_gpu_memory for {device}")
    platform = _platform()
    if not platform.is_out_of_tree():
        raise ValueError(
            f"{device!r} is no device that SGLang knows, and the platform {platform!r} is not out-of-tree; "
            "install the device's plugin, and let its platform have _enum = PlatformEnum.OOT"
        )
    free: float = platform.get_device_total_memory(gpu_id) - platform.get_current_memory_usage()
    return free


def get_num_new_pages(
    seq_lens: torch.Tensor, page_size: int, prefix_lens: torch.Tensor | None = None, decode: bool = False
) -> int:
    """How many pages these requests begin: from their prefixes to ``seq_lens``, or by their last token (``decode``).

    Both are tensors of the host, so that no device is waited for.
    """
    assert seq_lens.device.type == "cpu", "lengths are counted on the host"
    if decode or prefix_lens is None:
        assert decode, "lengths before are wanted, unless one token each is added"
        return int((seq_lens % page_size == 1).sum())
    begun, wanted = ((lens + page_size - 1) // page_size for lens in (prefix_lens, seq_lens))
    return int((wanted - begun).sum())


def get_device_memory_capacity(device: str | None = None) -> float | None:
    """The first device's memory in MiB, as an out-of-tree platform gives it; None where that is nothing.

    On CUDA devices the least of them, as the driver says; on CPUs that of a NUMA node. None for a device that SGLang
    does not know; NotCovered for other built-in ones.
    """
    platform = _platform()
    if platform.is_out_of_tree():
        total = platform.get_device_total_memory()
        return total / _MIB if total else None
    import torch

    if torch.cuda.is_available():
        return float(min(torch.cuda.mem_get_info(each)[1] for each in range(torch.cuda.device_count())) // _MIB)
    if device == "cpu":
        return _host_memory.capacity_in_mib()
    if device in _OWN_BRANCH:
        raise not_covered(f"sglang.srt.utils.common.get_device_memory_capacity for {device}")
    return None


def get_device(device_id: int | None = None) -> str:
    """The type of device to serve on where the user names none, with ``device_id`` as its index where that is given.

    The CPU for SGLang's own CPU platform, then CUDA wherever there is one; else what the platform answers, which is
    asked from 0.5.13 on. RuntimeError where that fails, or nobody is asked.
    """
    import torch

    platform = _platform()
    if not platform.is_out_of_tree() and platform.is_cpu():
        return "cpu"
    if torch.cuda.is_available():
        return "cuda" if device_id is None else f"cuda:{device_id}"
    if since("0.5.13"):
        try:
            device: str = platform.get_device(device_id)
        except Exception:
            raise RuntimeError("neither an accelerator that SGLang knows nor a platform plugin is available") from None
        return device
    raise RuntimeError("no accelerator that SGLang knows is available: name the device, as a platform calls it")


def is_pin_memory_available(device: torch.device | str | None = None) -> bool:
    """Whether host memory can be pinned for ``device``: the platform's answer, from 0.5.16 on; before, torch.cuda's.

    Confidential computing on NVIDIA devices, which forbids it in SGLang, is not looked for.
    """
    if since("0.5.16"):
        answer: bool = _platform().is_pin_memory_available(device)
        return answer
    import torch

    return torch.cuda.is_available() and (device is None or str(device) != "cpu")


def get_compiler_backend(mode: str | None = None) -> str:
    """The torch.compile backend: an out-of-tree platform's own, else ``inductor``; NotCovered on built-in devices."""
    platform = _platform()
    if platform.is_out_of_tree():
        backend: str = platform.get_compile_backend(mode)
        return backend
    import torch

    for name in ("mps", "hpu", "npu"):
        module = getattr(torch, name, None)
        if module is not None and module.is_available():
            raise not_covered(f"sglang.srt.utils.common.get_compiler_backend for {name}")
    return "inductor"


def support_triton(backend: str) -> bool:
    """Whether Triton kernels can serve the attention ``backend``, and the platform too where it declares that."""
    if TABLE["capabilities"] and not _platform().capabilities.supports_triton:
        return False
    return backend not in _WITHOUT_TRITON


if since("0.5.21"):
    __all__ += ["is_device_stream_capturing"]

    def is_device_stream_capturing(device: torch.device) -> bool:
        """Whether the current stream of ``device`` is in graph capture; False where the platform captures none."""
        import torch

        platform = _platform()
        if device.type != platform.device_type or (device.type == "cpu" and since("0.5.22")):
            return False
        captures = platform.capabilities.graph_capture if since("0.5.22") else platform.support_cuda_graph()
        return captures and bool(torch.get_device_module(device).is_current_stream_capturing())


_ABSENT = absent({"current_platform": Lifetime("0.5.13"), "is_device_stream_capturing": Lifetime("0.5.21")})
