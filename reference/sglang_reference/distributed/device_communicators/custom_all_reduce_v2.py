"""SGLang's second generation of custom all-reduce: which groups can have it, and its object.

Facts: SGLang 0.5.11 to 0.5.23, srt/distributed/device_communicators/custom_all_reduce_v2.py.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist

from sglang_reference._custom_all_reduce import nvml
from sglang_reference._custom_all_reduce.generations import second_sizes
from sglang_reference._custom_all_reduce.settings import read
from sglang_reference._errors import not_covered
from sglang_reference._releases import within

from ..._contract import TABLE, since
from ..parallel_state import in_the_same_node_as

_RELEASE: str = TABLE["release"]


class CustomAllReduceV2:
    """The object of a group. Where the group cannot have it, it is disabled."""

    def __init__(self, group: Any, device: torch.device, max_size: int | None = None) -> None:
        self.disabled = True
        self.group = group
        self.device = device
        if can_use_custom_all_reduce_v2(group, device):
            raise not_covered("the kernels of SGLang's second custom all-reduce")


def can_use_custom_all_reduce_v2(group: Any, device: torch.device) -> bool:
    """Whether a group can have it: a collective, whose answer is the same on all ranks.

    The sizes that are served go by the device's architecture, which is asked each time: no answer comes before what it
    is read from.
    """
    from . import custom_all_reduce_utils as utils  # at this moment: a hook may replace its functions

    size = dist.get_world_size(group)
    sizes = second_sizes(_RELEASE, torch.cuda.get_device_capability())
    if size not in sizes:
        return False
    if since("0.5.17") and not all(in_the_same_node_as(group, source_rank=0)):
        if read(os.environ, _RELEASE).unasked_across_nodes and within(_RELEASE, "0.5.17", "0.5.19"):
            return 2 <= size <= 8
        return utils.is_one_nvlink_clique(group, device) and _is_vmm_backed_allocator(device)
    linked = utils.can_use_custom_all_reduce_with_nvlink(group, device, list(sizes), CustomAllReduceV2.__name__)
    return linked is True


def _is_vmm_backed_allocator(device: torch.device) -> bool:
    """Whether torch's allocator hands out memory that can be mapped across a fabric."""
    return nvml.expandable(os.environ)
