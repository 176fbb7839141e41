"""The defaults of the base classes that compute something, by the member's name.

What merely raises, returns a constant or does nothing is in the contract table and needs no code. A function here takes
what the member takes, with the defaults of its signature filled in; for an attribute it takes nothing and gives the
value. Facts: SGLang 0.5.11 and 0.5.23, srt/platforms/device_mixin.py and srt/platforms/interface.py. SGLang's modules
are imported inside the functions, so that :func:`sglang_reference.install` can look up names without loading any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from .platforms.device_mixin import DeviceMixin

_X86 = ("x86_64", "amd64", "i386", "i686")
_ARM = ("arm64", "aarch64")


def _identity(*names: str) -> Callable[[DeviceMixin], bool]:
    """An identity query: whether the platform's ``_enum`` is one of ``names``, of those that the release has."""

    def query(self: DeviceMixin) -> bool:
        from .platforms.device_mixin import PlatformEnum

        kinds = PlatformEnum.__members__
        return any(self._enum == kinds[name] for name in names if name in kinds)

    return query


def _reindex_device_id(self: DeviceMixin, device_id: int) -> Iterator[int]:
    yield device_id


def _get_torch_distributed_backend_str(self: DeviceMixin) -> str:
    from ._contract import TABLE
    from .platforms import device_mixin

    fallback: str = TABLE["backends"]["fallback"]
    return device_mixin._DEVICE_TO_DISTRIBUTED_BACKEND.get(self.device_type, fallback)


def _inference_mode(cls: type[DeviceMixin]) -> torch.inference_mode:
    import torch

    return torch.inference_mode(mode=True)


def _seed_everything(cls: type[DeviceMixin], seed: int | None) -> None:
    if seed is None:
        return
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _cpu_arch(self: DeviceMixin) -> Any:
    return self.get_cpu_architecture()


def _get_cpu_architecture(cls: type[DeviceMixin]) -> Any:
    import platform

    from .platforms.device_mixin import CpuArchEnum

    machine = platform.machine().lower()
    if machine in _X86:
        return CpuArchEnum.X86
    return CpuArchEnum.ARM if machine in _ARM else CpuArchEnum.UNSPECIFIED


def _capabilities() -> Any:
    from .platforms.interface import PlatformCapabilities

    return PlatformCapabilities()


def _get_kv_pool_cls(self: DeviceMixin, *, kind: str) -> type | None:
    """The class of a hook that earlier releases had, with one warning for each class and hook; else None."""
    from .platforms import interface

    hook = interface._LEGACY_KV_POOL_HOOKS[kind]
    legacy: Callable[[], type | None] | None = getattr(self, hook, None)
    if legacy is None:
        return None
    served = (type(self), hook)
    if served not in interface._warned_legacy_kv_pool_hooks:
        interface._warned_legacy_kv_pool_hooks.add(served)
        interface.logger.warning(
            "%s still overrides the deprecated %s(), which is served for now; override get_kv_pool_cls(kind=%r)",
            type(self).__name__,
            hook,
            kind,
        )
    return legacy()


def _get_group_coordinator_device(self: DeviceMixin, local_rank: int) -> torch.device:
    import torch

    return torch.device("cpu")


BEHAVIOURS: Mapping[str, Callable[..., Any]] = {
    "is_cuda": _identity("CUDA"),
    "is_rocm": _identity("ROCM"),
    "is_cpu": _identity("CPU"),
    "is_xpu": _identity("XPU"),
    "is_musa": _identity("MUSA"),
    "is_npu": _identity("NPU"),
    "is_tpu": _identity("TPU"),
    "is_mps": _identity("MPS"),
    "is_sail": _identity("SAIL"),
    "is_cuda_alike": _identity("CUDA", "ROCM", "MUSA", "SAIL"),
    "is_out_of_tree": _identity("OOT"),
    "reindex_device_id": _reindex_device_id,
    "get_torch_distributed_backend_str": _get_torch_distributed_backend_str,
    "inference_mode": _inference_mode,
    "seed_everything": _seed_everything,
    "cpu_arch": _cpu_arch,
    "get_cpu_architecture": _get_cpu_architecture,
    "capabilities": _capabilities,
    "get_kv_pool_cls": _get_kv_pool_cls,
    "get_group_coordinator_device": _get_group_coordinator_device,
}
