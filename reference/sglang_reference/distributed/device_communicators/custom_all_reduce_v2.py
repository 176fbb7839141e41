"""SGLang's second generation of custom all-reduce: which groups can have it, and its object.

Facts: SGLang 0.5.11 to 0.5.23, srt/distributed/device_communicators/custom_all_reduce_v2.py.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist

from sglang_reference._cuda_all_reduce import wanted
from sglang_reference._cuda_all_reduce.layout import Algorithm
from sglang_reference._cuda_all_reduce.owner import Owner
from sglang_reference._cuda_all_reduce.wanted import Sizes
from sglang_reference._custom_all_reduce import nvml
from sglang_reference._custom_all_reduce.generations import second_sizes
from sglang_reference._custom_all_reduce.limits import Limits
from sglang_reference._custom_all_reduce.settings import read
from sglang_reference._releases import within

from ..._contract import TABLE, since
from ..._released import Lifetime, absent
from ..parallel_state import in_the_same_node_as

_RELEASE: str = TABLE["release"]


class _Second(Owner):
    """The object of a group but for its constructor, whose parameters differ between releases.

    ``override_algo``: one of SGLang's algorithms, for all tensors that its memory holds; None by size, as tuned.
    """

    group: Any
    device: torch.device
    rank: int
    world_size: int
    max_pull_size: int
    max_push_size: int
    max_size: int
    override_algo: Any
    _tuned: wanted.Wanted
    _capture_started: bool = False

    def _start(self, group: Any, device: torch.device, sizes: Sizes) -> None:
        self.disabled = True
        if not can_use_custom_all_reduce_v2(group=group, device=device):
            self.why_disabled = "the devices or the size of the group do not allow it"
            return
        self.group, self.device = group, device
        self.rank, self.world_size = dist.get_rank(group), dist.get_world_size(group)
        self.override_algo = None
        capability = torch.cuda.get_device_capability()
        self._tuned = wanted.second(self.world_size, _RELEASE, capability, read(os.environ, _RELEASE), sizes)
        self._connect(group, device, self._tuned)
        self._note_sizes(self._tuned.limits)

    def _note_sizes(self, limits: Limits) -> None:
        self.max_pull_size, self.max_push_size = limits.pull_bytes, limits.push_bytes
        self.max_size = max(self.max_pull_size, self.max_push_size)

    def should_custom_ar(self, inp: torch.Tensor) -> bool:
        """Whether it takes a tensor."""
        return not self.disabled and not self.explain(inp)

    def explain(self, inp: torch.Tensor) -> str:
        """Why it does not take a tensor; empty where it does. Of the reference alone."""
        if self.disabled or self._communicator is None:
            return f"it is disabled: {self.why_disabled}"
        self._communicator.forced = None if self.override_algo is None else Algorithm[self.override_algo.name]
        return self._communicator.refusal(inp)

    def custom_all_reduce(self, input: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, in a new tensor. Raises AssertionError for a tensor that it does not take."""
        why = self.explain(input)
        assert not why, why
        assert self._communicator is not None
        return self._communicator.all_reduce(input)

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        """Around the capture of graphs, on all ranks: at its end the inputs of graphs are registered.

        An exception on one rank goes on there, and is a RuntimeError on the others.
        """
        self._capture_started = True
        with self._communicator.capture() if self._communicator else contextlib.nullcontext():
            yield

    # What only some releases have.

    def override_shot(self, shot: int | None) -> None:
        """Have pulls of all sizes take one shot, or two; None as tuned. Raises AssertionError for other numbers."""
        assert shot in (None, 1, 2), f"there are one and two shots, and not {shot}"
        tuned = self._tuned.limits
        self._take(tuned if shot is None else wanted.shot(tuned, shot))

    def uncap_pull_thresholds(self) -> None:
        """Take all that the buffer for pulls holds, also beyond the size from which NCCL is faster."""
        if self._communicator is not None:
            self._take(wanted.uncapped(self._limits()))

    def supports_push(self, *, nbytes: int, num_blocks: int) -> bool:
        """Whether the memory to push to holds so many bytes, and its words so many blocks."""
        if self.disabled or self._communicator is None:
            return False
        return 0 < nbytes <= self.max_push_size and 0 < num_blocks <= self._communicator.engine.layout.blocks

    def reserve_push_capacity(self, nbytes: int) -> None:
        """Have memory to push to for so many bytes, on all ranks, which call this together; sizes go by as they did.

        Does nothing where there is as much, or where the size is forced by the environment. Raises RuntimeError once a
        graph may hold the present memory.
        """
        if self.disabled or nbytes <= self.max_push_size:
            return
        if read(os.environ, _RELEASE).forced_push_kib is not None:
            return
        if self._capture_started:
            raise RuntimeError("room to push to must be reserved before graphs are captured")
        limits = replace(self._limits(), push_bytes=wanted.aligned(nbytes))
        super().close()
        self._connect(self.group, self.device, replace(self._tuned, limits=limits))
        self._note_sizes(limits)

    def uses_one_shot_push(self, nbytes: int) -> bool:
        """Whether so many bytes go by a one-shot push now."""
        return self._goes_by(Algorithm.ONE_SHOT_PUSH, nbytes)

    def uses_two_shot_push(self, nbytes: int) -> bool:
        """Whether so many bytes go by a two-shot push now."""
        return self._goes_by(Algorithm.TWO_SHOT_PUSH, nbytes)

    def _goes_by(self, algorithm: Algorithm, nbytes: int) -> bool:
        if self.disabled or self._communicator is None or nbytes <= 0 or nbytes % 16:
            return False
        if self.override_algo is not None:
            return bool(Algorithm[self.override_algo.name] is algorithm)
        return self._communicator.algorithm(nbytes) is algorithm

    def _limits(self) -> Limits:
        """Those that hold now."""
        assert self._communicator is not None, f"it is disabled: {self.why_disabled}"
        return self._communicator.limits

    def _take(self, limits: Limits) -> None:
        assert self._communicator is not None, f"it is disabled: {self.why_disabled}"
        self._communicator.limits = limits


class _SinceMaxSize(_Second):
    """As it is from 0.5.16 on."""

    def __init__(
        self,
        group: Any,
        device: torch.device,
        max_size: int | None = None,
        *,
        max_pull_size: int | None = None,
        max_push_size: int | None = None,
        max_pull_blocks: int | None = None,
        max_push_blocks: int | None = None,
    ) -> None:
        """``max_size`` bounds both buffers, by default as the environment says now; the others are exact.

        A pull of no bytes, or of no blocks, leaves only pushes. The numbers of blocks are the engine's to choose.
        """
        pull = 0 if max_pull_blocks == 0 and since("0.5.19") else max_pull_size
        self._start(group, device, Sizes(max_size, pull, max_push_size))


class _BeforeMaxSize(_Second):
    """As it was before 0.5.16."""

    def __init__(
        self,
        group: Any,
        device: torch.device,
        max_pull_size: int | None = None,
        max_push_size: int | None = None,
        max_pull_blocks: int | None = None,
        max_push_blocks: int | None = None,
    ) -> None:
        """The sizes are those of the buffers, in bytes. The numbers of blocks are the engine's to choose."""
        self._start(group, device, Sizes(None, max_pull_size, max_push_size))


_METHODS = {
    "override_shot": Lifetime(gone="0.5.16"),
    "uncap_pull_thresholds": Lifetime("0.5.16"),
    "reserve_push_capacity": Lifetime("0.5.23"),
    "supports_push": Lifetime("0.5.23"),
    "uses_one_shot_push": Lifetime("0.5.23"),
    "uses_two_shot_push": Lifetime("0.5.23"),
}
for _name in absent(_METHODS):
    delattr(_Second, _name)


class CustomAllReduceV2(_SinceMaxSize if since("0.5.16") else _BeforeMaxSize):  # type: ignore[misc]
    """The object of a group, on CUDA. Where the group cannot have it, it is disabled on all ranks."""


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
