"""What groups ask of the platform: which device they work on, and what its kind of device can do."""

from __future__ import annotations

from typing import Any

import torch

from .. import platforms
from .._contract import TABLE, since
from .._detection import DETECTORS
from ._switches import switches

# The devices that have an index, and torch's names for them.
_INDEXED = {"cuda": "cuda", "rocm": "cuda", "npu": "npu", "xpu": "xpu", "musa": "musa"}
_ASKS_PLATFORM = any(member["name"] == "get_group_coordinator_device" for member in TABLE["members"])


def kind_of_device() -> str:
    """The kind of the built-in device that is in use; empty for the CPU, and for an out-of-tree platform.

    As in SGLang the hardware decides, not the platform's word; but SGLang looks for it even where an out-of-tree
    platform or the CPU is active, and would give their groups a device that is not theirs.
    """
    platform = platforms.current_platform
    if platform.is_out_of_tree() or platform.is_cpu():
        return ""
    return hardware()


def hardware() -> str:
    """The kind of the built-in device that this machine has, whatever platform is active; empty for none."""
    return next((kind for kind in _INDEXED if DETECTORS[kind](torch)), "")


def _group_coordinator_device(local_rank: int) -> torch.device:
    """The device that the groups of this process work on.

    A built-in device has the local rank as its index. An out-of-tree platform is asked from 0.5.23 on; before, it gets
    the CPU.
    """
    kind = kind_of_device()
    if kind:
        only = kind in ("cuda", "rocm") and switches.SGLANG_ONE_VISIBLE_DEVICE_PER_PROCESS.get()
        return torch.device(_INDEXED[kind], 0 if only else local_rank)
    platform = platforms.current_platform
    if _ASKS_PLATFORM and platform.is_out_of_tree():
        device: torch.device = platform.get_group_coordinator_device(local_rank)
        return device
    return torch.device("cpu")


def get_torch_distributed_pg_options(group_name: str | None = None) -> Any:
    """The backend's options for a group of that name, or for all ranks; None, as for every device but SGLang's NPU."""
    return None


def wants_pynccl(backend: str) -> bool:
    """Whether a group is made with PyNCCL where nobody says otherwise; from 0.5.23 on a platform must declare it."""
    platform = platforms.current_platform
    if since("0.5.23") and platform.is_out_of_tree() and not platform.capabilities.supports_pynccl:
        return False
    return kind_of_device() not in ("npu", "xpu") and backend != "mooncake"


def can_part_decode_context() -> bool:
    """Whether SGLang lets the device in use have decode context parallelism: some built-in ones alone."""
    return kind_of_device() in {"cuda", "rocm"} | ({"npu", "xpu"} if since("0.5.22") else set())
