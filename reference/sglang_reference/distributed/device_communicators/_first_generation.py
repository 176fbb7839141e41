"""SGLang's first generation of custom all-reduce: when a group has it, and which tensors it takes.

Facts: SGLang 0.5.11 to 0.5.23, srt/distributed/device_communicators/custom_all_reduce.py (``CustomAllreduce``).
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist

from sglang_reference._custom_all_reduce import limits, settings, tensors
from sglang_reference._custom_all_reduce.generations import FIRST_SIZES
from sglang_reference._custom_all_reduce.topology import ROCM
from sglang_reference._errors import not_covered

from ..._contract import TABLE
from .._devices import kind_of_device


class CustomAllreduce:
    """The object of a group. Its kernels are SGLang's own, and not covered: where a group may have it, making it raises
    NotCovered; where it may not, it is disabled.
    """

    _SUPPORTED_WORLD_SIZES = list(FIRST_SIZES)
    _MAX_CAR_SIZE = limits.FIRST_MAX.get(kind_of_device(), limits.FIRST_MAX["cuda"])

    def __init__(self, group: Any, device: Any, max_size: int = _MAX_CAR_SIZE) -> None:
        from . import custom_all_reduce_utils as utils  # at this moment: a hook may replace its functions

        self.disabled = self.original_disabled = True
        self.group = group
        self.device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        self.rank, self.world_size = dist.get_rank(group), dist.get_world_size(group)
        self.max_size = max_size
        self.full_nvlink = utils.can_use_custom_all_reduce_with_nvlink(
            group, self.device, self._SUPPORTED_WORLD_SIZES, type(self).__name__
        )
        if self.full_nvlink is not None:
            raise not_covered("the kernels of SGLang's first custom all-reduce")

    def should_custom_ar(self, inp: torch.Tensor) -> bool:
        """Whether it takes a tensor."""
        return not self.disabled and not _refusal(self, inp)

    def explain(self, inp: torch.Tensor) -> str:
        """Why it does not take a tensor; empty where it does."""
        return "it is disabled" if self.disabled else _refusal(self, inp)

    def capture(self) -> AbstractContextManager[None]:
        """Around the capture of a graph. One that is disabled registers nothing."""
        return nullcontext()

    def close(self) -> None:
        """Give back what it holds: nothing, while it is disabled."""


def _refusal(engine: CustomAllreduce, inp: torch.Tensor) -> str:
    kind = kind_of_device()
    deterministic = kind == ROCM and settings.read(os.environ, TABLE["release"]).deterministic
    if not engine.full_nvlink and (engine.world_size > 2 or kind == ROCM) and not deterministic:
        return "the ranks are not linked"
    spans = limits.first_spans(engine.world_size, engine.max_size, deterministic=deterministic)
    return tensors.refusal(tensors.layout_of(inp), limits.Limits(spans, spans))
