"""A group's all-reduce on CUDA devices: made by all ranks or by none, and taking tensors as its generation does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from .._custom_all_reduce import limits as names
from .._custom_all_reduce import tensors
from .._custom_all_reduce.board import board_of
from .._custom_all_reduce.consensus import Deadlines, Seat, establish
from .._custom_all_reduce.generations import Rung, Verdict
from .._custom_all_reduce.limits import Limits
from .device import CudaDevice, Device
from .engine import Engine, kernels
from .gathering import BoardGather, together
from .layout import PACK, Algorithm, Layout
from .wanted import Wanted, all_by

BY_NAME: Mapping[str, Algorithm] = {
    names.ONE_SHOT_PUSH: Algorithm.ONE_SHOT_PUSH,
    names.TWO_SHOT_PUSH: Algorithm.TWO_SHOT_PUSH,
    names.ONE_SHOT_PULL: Algorithm.ONE_SHOT_PULL,
    names.TWO_SHOT_PULL: Algorithm.TWO_SHOT_PULL,
    names.ONE_STAGE: Algorithm.ONE_SHOT_PULL,
    names.TWO_STAGE: Algorithm.TWO_SHOT_PULL,
}
"""What the kernels have for each of SGLang's algorithms; multicast is none of them."""

DEADLINES = Deadlines(work=60.0, others=30.0)
_MOST_BLOCKS = 64


@dataclass(frozen=True)
class Connected:
    """What came of it: the communicator, or None and the reason, the same on all ranks."""

    communicator: Communicator | None
    why: str


class Communicator:
    """One rank's object of the group's all-reduce."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self.engine = engine
        self.limits = limits
        self.forced: Algorithm | None = None

    def refusal(self, tensor: torch.Tensor) -> str:
        """Why a tensor is not taken; empty where it is."""
        layout = tensors.layout_of(tensor)
        if self.forced is None:
            return tensors.refusal(layout, self.limits, graph=self.engine.registers_now())
        name = next(name for name, each in BY_NAME.items() if each is self.forced)
        return tensors.refusal(layout, all_by(self.forced, name, self.engine.layout, self.limits))

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of every rank's tensor, in a new one; of a tensor that is taken. Raises ValueError for others."""
        if tensor.numel() == 0:
            return torch.empty_like(tensor)
        nbytes = tensor.numel() * tensor.element_size()
        algorithm = self.forced or self.algorithm(nbytes)
        if algorithm is None:
            raise ValueError(f"no algorithm takes {nbytes} bytes")
        source = tensor if tensor.data_ptr() % PACK == 0 else tensor.clone()
        out = torch.empty_like(source)
        self.engine.all_reduce(source, out, algorithm)
        return out

    def algorithm(self, nbytes: int) -> Algorithm | None:
        """By what so many bytes go now, by their size alone; None where nothing takes them."""
        return BY_NAME.get(self.limits.algorithm(nbytes, graph=self.engine.registers_now()))

    def capture(self) -> contextlib.AbstractContextManager[None]:
        """While graphs are captured: :meth:`.engine.Engine.capture`."""
        return self.engine.capture()

    def close(self, *, alone: bool = False) -> None:
        """Give all memory back, together with the other ranks, or without waiting for them."""
        self.engine.close(alone=alone)


def connect(
    group: Any,
    device: torch.device,
    wanted: Wanted,
    *,
    deadlines: Deadlines = DEADLINES,
    make_device: Callable[[torch.device], Device] = CudaDevice,
) -> Connected:
    """Make the group's communicator, on all ranks or on none; each comes back within twice the deadlines.

    All ranks call it together, with the same limits. ``group`` is one of torch's with a store, whatever its backend.
    """
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    if device.type == "cuda" and device.index is None:  # which is another one in another thread
        device = torch.device("cuda", torch.cuda.current_device())
    gather = BoardGather(board_of(group, "cuda all-reduce"), rank, size, deadlines.work)

    def make() -> Communicator:
        return _make(rank, size, device, wanted, gather, make_device)

    seat = Seat(board_of(group, "cuda all-reduce, established"), rank, size, deadlines)
    asked = Verdict((Rung(wanted.generation, ""),))
    made = establish(seat, asked, {wanted.generation: make}, lambda communicator: communicator.close(alone=True))
    return Connected(made.engine, "" if made.engine is not None else made.verdict.reason)


def _make(
    rank: int,
    size: int,
    device: torch.device,
    wanted: Wanted,
    gather: BoardGather,
    make_device: Callable[[torch.device], Device],
) -> Communicator:
    found: list[Device] = []

    def look() -> tuple[str, int, bool]:
        kernels()
        found.append(make_device(device))
        return found[0].identity(), found[0].processors(), wanted.register and found[0].can_export()

    told = together(gather, "looking at the device", look)
    identities = [identity for identity, _, _ in told]
    if not wanted.linked and len(set(identities)) > 1:
        raise RuntimeError("no NVLink joins the devices, and their flags need its atomic operations")
    sharing = max(map(identities.count, identities))
    blocks = max(1, min(_MOST_BLOCKS, *(processors // sharing for _, processors, _ in told)))
    register = all(exports for _, _, exports in told)
    layout = Layout(size, blocks, wanted.limits.push_bytes, wanted.limits.pull_bytes)
    engine = Engine(rank, layout, found[0], gather, register=register)
    return Communicator(engine, wanted.limits)
