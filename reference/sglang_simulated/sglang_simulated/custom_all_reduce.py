"""SGLang's custom all-reduce on the simulated accelerator: small tensors are reduced by an engine of the device's own.

A group asks this before PyNCCL and torch.distributed (0.5.23, srt/distributed/parallel_state.py). Its engine is
``sglang_host_all_reduce``, which stands in for a vendor's kernels; where it is not installed, there is no such class.
"""
# mypy: disable-error-code="misc"

from __future__ import annotations

import contextlib
import json
import mmap
import os
import platform
import uuid
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from sglang_simulated.hardware import has_all_reduce
from sglang_simulated.meeting import place_in, told_in_time
from sglang_simulated.runtime import DeviceLike, runtime
from sglang_simulated.streams import current_stream
from sglang_simulated.tensor import SimTensor

SIZES = range(2, 9)
MAX_BYTES = 8 << 20
PACK = 16  # bytes that the device reads at once
SECONDS = 20.0  # that the ranks wait for each other while they meet
TYPES = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64})


class Able(NamedTuple):
    """What a rank says before anything is made: its machine, its maximum, a name to meet at, or why it cannot."""

    machine: str
    max_size: int
    name: str
    trouble: str = ""


class SimCustomAllreduce:
    """A group's fast all-reduce. SGLang makes it with the group's gloo group and the device.

    The ranks decide together: all have it, or it is ``disabled`` on all, and the group goes by the next engine.
    ``device`` is the CPU before 0.5.23; ours is the current one.
    """

    def __init__(self, group: Any, device: DeviceLike = None, max_size: int = MAX_BYTES) -> None:
        self.group = group
        self.rank, self.world_size = place_in(group)
        self.device = torch.device("sim", runtime().current_device())
        self.max_size = max_size
        self.disabled = self.original_disabled = True
        self.why_disabled = ""
        self._engine: Any = None
        self._meet()

    def _meet(self) -> None:
        """Say what this rank can do; make the engine where all can; keep it where all have made it.

        Where a rank does not come in time, this one has none, and says so to those that come later.
        """
        try:
            told = told_in_time(self.group, json.dumps(self._able()), SECONDS)
            said = [Able(*json.loads(text)) for text in told]
            self.why_disabled = obstacle(said)
            if self.why_disabled:
                return  # on all ranks
            self._make(said[0].name)
        except TimeoutError as error:
            self.why_disabled = str(error)
        except Exception as error:
            self.why_disabled = f"rank {self.rank} cannot make its engine: {error}"
        try:
            told = told_in_time(self.group, self.why_disabled, SECONDS)
        except TimeoutError as error:
            told = [self.why_disabled, str(error)]
        self.why_disabled = "; ".join(dict.fromkeys(filter(None, told)))  # the causes of all, and what came of them
        if self.why_disabled:
            self.close()
        else:
            self.disabled = self.original_disabled = False

    def _able(self) -> Able:
        try:
            _try_memory()
            machine, trouble = _machine(), ""
        except Exception as error:  # the others wait for an answer
            machine, trouble = "", f"rank {self.rank}: {error}"
        return Able(machine, self.max_size, uuid.uuid4().hex, trouble)

    def _make(self, name: str) -> None:
        import sglang_host_all_reduce

        self._engine = sglang_host_all_reduce.Engine(name, self.rank, self.world_size, SECONDS)
        self._finalizer = weakref.finalize(self, self._engine.close)

    def should_custom_ar(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is reduced here. It depends on what all ranks have alike: type, size and layout."""
        return not self.disabled and not refusal(tensor, self.max_size)

    def custom_all_reduce(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The sum over all ranks, in a new tensor of the same strides; None where it is not reduced here."""
        if not self.should_custom_ar(tensor):
            return None
        out = torch.empty_like(tensor)
        source, target = _row(tensor), _row(out)
        self._sum(source, target)
        graph = current_stream(self.device).graph
        if graph is not None:
            graph.record_call(self._sum, source, target)
        return out

    def _sum(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """What a graph that has captured this does again."""
        self._engine.all_reduce(source, target)

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        """Around the capture of graphs. Nothing is to be registered: the engine copies what it reduces."""
        yield

    def explain(self, tensor: torch.Tensor) -> str:
        """Why a tensor is not reduced here; empty where it is."""
        return self.why_disabled or ("it is disabled" if self.disabled else refusal(tensor, self.max_size))

    def close(self) -> None:
        """Give the memory back. More than once does no harm."""
        self.disabled = self.original_disabled = True
        if self._engine is not None:
            self._finalizer()
            self._engine = None


def refusal(tensor: torch.Tensor, max_size: int) -> str:
    """Why a tensor is not reduced here; empty where it is."""
    size = tensor.numel() * tensor.element_size()
    if not isinstance(tensor, SimTensor):
        return f"it lies on {tensor.device}"
    if tensor.dtype not in TYPES:
        return f"there is no sum of {tensor.dtype}"
    if not 0 < size <= max_size:
        return f"{size} bytes are not between 1 and {max_size}"
    if size % PACK:
        return f"{size} bytes are no multiple of {PACK}"
    return "" if _fills_its_memory(tensor) else "its elements do not fill one piece of memory"


def _fills_its_memory(tensor: torch.Tensor) -> bool:
    """Whether the elements lie side by side, none twice, in whatever order."""
    reach = 1
    for stride, length in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if length > 1:
            if stride != reach:
                return False
            reach *= length
    return True


def _row(tensor: Any) -> torch.Tensor:
    """The elements in the order in which they lie in memory, which the host sees."""
    host: torch.Tensor = tensor._host
    return host.detach().as_strided((host.numel(),), (1,))


def _try_memory() -> None:
    """Make a little memory as the engine does, and drop it: OSError where this process can have none."""
    descriptor = os.memfd_create("sglang-simulated")
    try:
        os.ftruncate(descriptor, mmap.PAGESIZE)
        mmap.mmap(descriptor, mmap.PAGESIZE).close()
    finally:
        os.close(descriptor)


def _machine() -> str:
    """What tells apart the machines whose processes share no memory. RuntimeError without the engine."""
    if not has_all_reduce():
        raise RuntimeError("the engine is not installed")
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        return f"{boot}/{os.stat('/proc/self/ns/ipc').st_ino}"
    except OSError:
        return platform.node()


def obstacle(said: list[Able]) -> str:
    """Why these ranks cannot reduce by the engine; empty where they can. All have heard the same, and say the same."""
    if len(said) not in SIZES:
        return f"{len(said)} ranks are not between {SIZES[0]} and {SIZES[-1]}"
    trouble = next((each.trouble for each in said if each.trouble), "")
    if trouble:
        return trouble
    if len({each.machine for each in said}) > 1:
        return "the ranks are on several machines"
    return "" if len({each.max_size for each in said}) == 1 else "the ranks were given different maximums"
