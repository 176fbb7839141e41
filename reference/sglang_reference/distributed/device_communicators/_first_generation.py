"""SGLang's first generation of custom all-reduce: when a group has it, and which tensors it takes.

Facts: SGLang 0.5.11 to 0.5.23, srt/distributed/device_communicators/custom_all_reduce.py (``CustomAllreduce``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist

from sglang_reference._cuda_all_reduce import wanted
from sglang_reference._cuda_all_reduce.owner import Owner
from sglang_reference._custom_all_reduce import limits, settings, tensors
from sglang_reference._custom_all_reduce.generations import FIRST_SIZES
from sglang_reference._custom_all_reduce.topology import CUDA, ROCM
from sglang_reference._errors import not_covered

from ..._contract import TABLE
from .._devices import hardware, kind_of_device


class CustomAllreduce(Owner):
    """The object of a group, on CUDA. Where the group cannot have it, it is disabled on all ranks.

    Elsewhere the kernels are SGLang's own, and not covered: where a group may have it, making it raises NotCovered.
    """

    _SUPPORTED_WORLD_SIZES = list(FIRST_SIZES)
    _MAX_CAR_SIZE = limits.FIRST_MAX.get(hardware(), limits.FIRST_MAX[CUDA])

    def __init__(self, group: Any, device: int | str | torch.device, max_size: int = _MAX_CAR_SIZE) -> None:
        """Meet the group's other ranks. ``max_size``: the most bytes of a tensor that it takes."""
        from . import custom_all_reduce_utils as utils  # at this moment: a hook may replace its functions

        self._IS_CAPTURING = False
        self.disabled = self.original_disabled = True
        self.group = group
        self.device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        self.rank, self.world_size = dist.get_rank(group), dist.get_world_size(group)
        self.max_size = max_size
        self.full_nvlink = utils.can_use_custom_all_reduce_with_nvlink(
            group, self.device, self._SUPPORTED_WORLD_SIZES, type(self).__name__
        )
        if self.full_nvlink is None:
            self.why_disabled = "the devices or the size of the group do not allow it"
            return
        if kind_of_device() != CUDA:
            raise not_covered("the kernels of SGLang's first custom all-reduce")
        told = settings.read(os.environ, TABLE["release"])
        asked = wanted.first(self.world_size, max_size, told, linked=self.full_nvlink)
        self._connect(group, self.device, asked)
        self.original_disabled = self.disabled

    def should_custom_ar(self, inp: torch.Tensor) -> bool:
        """Whether it takes a tensor."""
        return not self.disabled and not _refusal(self, inp)

    def explain(self, inp: torch.Tensor) -> str:
        """Why it does not take a tensor; empty where it does."""
        return "it is disabled" if self.disabled else _refusal(self, inp)

    def custom_all_reduce(self, input: torch.Tensor) -> torch.Tensor | None:
        """The sum over all ranks, in a new tensor; None for a tensor that it does not take.

        Inside :meth:`capture`, but not in a graph, it is a warm-up: the tensor that is returned holds zeros.
        """
        communicator = self._communicator
        if communicator is None or not self.should_custom_ar(input):
            return None
        if self._IS_CAPTURING and not communicator.engine.device.capturing():
            return torch.zeros_like(input)
        return communicator.all_reduce(input)

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        """Around the capture of graphs, on all ranks: at its end the inputs of graphs are registered.

        An exception on one rank goes on there, and is a RuntimeError on the others.
        """
        self._IS_CAPTURING = True
        try:
            with self._communicator.capture() if self._communicator else contextlib.nullcontext():
                yield
        finally:
            self._IS_CAPTURING = False


def _refusal(engine: CustomAllreduce, inp: torch.Tensor) -> str:
    kind = kind_of_device()
    deterministic = kind == ROCM and settings.read(os.environ, TABLE["release"]).deterministic
    if not engine.full_nvlink and (engine.world_size > 2 or kind == ROCM) and not deterministic:
        return "the ranks are not linked"
    spans = limits.first_spans(engine.world_size, engine.max_size, deterministic=deterministic)
    return tensors.refusal(tensors.layout_of(inp), limits.Limits(spans, spans))
