"""SGLang's custom all-reduce on the simulated accelerator: small tensors are reduced by an engine of the device's own.

A group asks this before PyNCCL and torch.distributed (0.5.23, srt/distributed/parallel_state.py). Its engine is
``sglang_host_all_reduce``, which stands in for a vendor's kernels; where it is not installed, there is no such class.
"""
# mypy: disable-error-code="misc"

from __future__ import annotations

import contextlib
import os
import platform
import uuid
import weakref
from collections.abc import Iterator
from typing import Any

import torch

from sglang_simulated.meeting import place_in, told_by_all
from sglang_simulated.runtime import DeviceLike, runtime
from sglang_simulated.streams import current_stream
from sglang_simulated.tensor import SimTensor

SIZES = range(2, 9)
MAX_BYTES = 8 << 20
PACK = 16  # bytes that the device reads at once
TYPES = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64})


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
        """Say what this rank can do; make the engine where all can; keep it where all have made it."""
        said = told_by_all(self.group, (_machine(), self.max_size, uuid.uuid4().hex))
        self.why_disabled = _obstacle([(machine, most) for machine, most, _ in said])
        if self.why_disabled:
            return
        trouble = ""
        try:
            self._engine = _engine(said[0][2], self.rank, self.world_size)
        except Exception as error:  # whatever it is, the others must hear of it
            trouble = f"rank {self.rank} cannot make its engine: {error}"
        self.why_disabled = next(filter(None, told_by_all(self.group, trouble)), "")
        if self._engine is not None:
            self._finalizer = weakref.finalize(self, self._engine.close)
            if self.why_disabled:
                self.close()
        self.disabled = self.original_disabled = bool(self.why_disabled)

    def should_custom_ar(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is reduced here. It depends on what all ranks have alike: type, size and layout."""
        return not self.disabled and not refusal(tensor, self.max_size)

    def custom_all_reduce(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The sum over all ranks, in a new tensor of the same strides; None where it is not reduced here."""
        if not self.should_custom_ar(tensor) or not isinstance(tensor, SimTensor):
            return None
        out = torch.empty_like(tensor)
        assert isinstance(out, SimTensor)
        source, target = _row(tensor._host), _row(out._host)
        self._engine.all_reduce(source, target)
        graph = current_stream(self.device).graph
        if graph is not None:
            graph.record_call(self._engine.all_reduce, source, target)
        return out

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
    if tensor.device.type != "sim":
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


def _row(host: torch.Tensor) -> torch.Tensor:
    """The elements in the order in which they lie in memory."""
    return host.detach().as_strided((host.numel(),), (1,))


def _machine() -> str:
    """What tells apart the machines whose processes share no memory; empty where the engine is not installed."""
    from sglang_simulated.hardware import has_all_reduce

    if not has_all_reduce():
        return ""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        return f"{boot}/{os.stat('/proc/self/ns/ipc').st_ino}"
    except OSError:
        return platform.node()


def _obstacle(said: list[tuple[str, int]]) -> str:
    """Why these ranks cannot reduce by the engine; empty where they can. All have heard the same, and say the same."""
    if len(said) not in SIZES:
        return f"{len(said)} ranks are not between {SIZES[0]} and {SIZES[-1]}"
    without = [str(rank) for rank, (machine, _) in enumerate(said) if not machine]
    if without:
        return f"the engine is not installed for rank {', '.join(without)}"
    if len({machine for machine, _ in said}) > 1:
        return "the ranks are on several machines"
    return "" if len({most for _, most in said}) == 1 else "the ranks were given different maximums"


def _engine(name: str, rank: int, size: int) -> Any:
    import sglang_host_all_reduce

    return sglang_host_all_reduce.Engine(name, rank, size)
