"""One rank's part in all-reduces by the kernels: at once, or captured in a graph and done again by each replay."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import torch

from .._custom_all_reduce import tensors
from .buffers import Place, Shared
from .device import Device, word
from .gathering import Gather, not_together, together
from .layout import PACK, Algorithm, Layout, launch

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
WAIT_SECONDS = 600.0
MAX_ROWS = 131072  # registered inputs, each 8 bytes a rank


class _Input(NamedTuple):
    """An input that other ranks read where it lies: its address, its length in bytes, and who reads it how."""

    address: int
    nbytes: int
    algorithm: str


class Engine:
    """The rank's part. All ranks make theirs together, and call the same operations in the same order.

    ``gather`` joins the ranks. ``wait_seconds``: about how long a kernel waits for another
    rank before it gives up; the next call then raises RuntimeError. ``register``: inputs of graphs are read where they
    lie, which needs memory that others can open; else they are copied first, as those of eager calls are.

    Raises ImportError without Triton, RuntimeError on all ranks where one has not got what it needs.
    """

    def __init__(
        self,
        rank: int,
        layout: Layout,
        device: Device,
        gather: Gather,
        *,
        wait_seconds: float = WAIT_SECONDS,
        register: bool = True,
        rows: int = MAX_ROWS,
    ) -> None:
        self.rank, self.layout, self.device = rank, layout, device
        self._kernels = kernels()
        self._gather = gather
        self._registers = register
        self._looks = device.looks(wait_seconds)
        self._constants = _constants(layout)
        self._lock = threading.Lock()
        self._collecting = False
        self._captured: list[_Input] = []
        self._used_rows = 0
        self._shared: Shared | None = Shared(device, gather, rank, layout.total_bytes)
        try:
            together(gather, "making the tables of addresses", lambda: self._make_tables(rows))
        except BaseException:
            self.close(alone=True)
            raise

    def _make_tables(self, rows: int) -> None:
        """The addresses of all ranks' memory, room for those of registered inputs, and the kernels' report."""
        assert self._shared is not None
        table = self.layout.table(self._shared.addresses)
        self._table = torch.tensor(table, dtype=torch.int64, device=self.device.where)
        self._rows = torch.zeros((rows, self.layout.world), dtype=torch.int64, device=self.device.where)
        self._report = self.device.reported()
        self.device.synchronize()

    def all_reduce(self, source: torch.Tensor, target: torch.Tensor, algorithm: Algorithm) -> None:
        """Write the sum of every rank's ``source`` into ``target``.

        ``target`` may be ``source``, but not for a pull inside :meth:`capture`, where others read the input. Both are
        dense, in the same order, on the engine's device, at addresses that are multiples of 16. Raises ValueError for
        tensors that are not, or are longer than the memory holds, RuntimeError after a rank has failed to come, or once
        the engine is closed.
        """
        self.check()
        self._require(source, target)
        nbytes = source.numel() * source.element_size()
        with self._lock:
            registered = not algorithm.pushes and self.registers_now()
            if registered and source.data_ptr() == target.data_ptr():
                raise ValueError("the sum cannot go where the other ranks read the input")
            plan = launch(self.layout, algorithm, nbytes, source.element_size(), registered)
            inputs: tuple[Any, ...] = ()
            if not algorithm.pushes:
                row = self._row(source, nbytes, algorithm) if registered else self._table
                inputs = (row,)
            options: dict[str, Any] = {} if algorithm.pushes else {"STAGED": not registered}
            options |= self._constants | {"TILE": plan.tile, "PACK": plan.pack, "WIDE": source.element_size() == 2}
            numbers = (plan.packs, self.layout.push_bytes, self.rank, self._looks, self._report.data_ptr())
            kernel = getattr(self._kernels, algorithm.name.lower())
            arguments = (self._table, *inputs, source, target, *numbers)
            self.device.launch(kernel, plan.grid, arguments, options | {"num_warps": plan.warps})

    def registers_now(self) -> bool:
        """Whether a pull that is called now has its input read where it lies, as one that a graph holds."""
        return self._registers and self._collecting and self.device.capturing()

    def _require(self, source: torch.Tensor, target: torch.Tensor) -> None:
        if source.dtype not in DTYPES or target.dtype != source.dtype:
            raise ValueError(f"the kernels sum {', '.join(map(str, DTYPES))}, not {source.dtype} into {target.dtype}")
        if source.shape != target.shape or _order(source) != _order(target):
            raise ValueError(f"the input has strides {source.stride()}, the output {target.stride()}, or other sizes")
        if not (source.is_contiguous() or tensors.dense(tensors.layout_of(source))):
            raise ValueError(
                f"the input has sizes {tuple(source.shape)} and strides {source.stride()}, which leaves gaps"
            )
        for tensor in (source, target):
            if tensor.device != self.device.where:
                raise ValueError(f"the engine works on {self.device.where}, and a tensor is on {tensor.device}")
            if tensor.data_ptr() % PACK:
                raise ValueError(f"a tensor begins at {tensor.data_ptr():#x}, which is no multiple of {PACK}")

    def check(self) -> None:
        """Raise RuntimeError where the engine is closed, or where a kernel has waited in vain for another rank."""
        if self._shared is None:
            raise RuntimeError("the all-reduce engine is closed")
        late = word(self._report, 0)
        if late:
            raise RuntimeError(
                f"rank {late - 1} did not come to all-reduce number {word(self._report, 1)} "
                f"while rank {self.rank} waited for it; the group's results from there on are not to be used"
            )

    # Graphs.

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        """While graphs are captured, which all ranks do together; at the end their inputs are registered.

        A graph must not be replayed before that, its inputs' memory must stay, and its replays and other operations
        must follow one another on the device, as on one stream. An exception of one rank's goes on there, and the
        others get RuntimeError at their end of the scope; what was captured is of no use then.
        """
        try:
            self.check()
            self._collecting = True
            yield
        except BaseException as error:
            self._collecting = False
            self._captured.clear()
            with contextlib.suppress(Exception):  # what is wrong is told by what is raised here
                not_together(self._gather, error)
            raise
        self._collecting = False
        captured, self._captured = self._captured, []
        self._register(captured)

    def _row(self, source: torch.Tensor, nbytes: int, algorithm: Algorithm) -> torch.Tensor:
        """The row in which the kernel will find all ranks' inputs."""
        at = self._used_rows + len(self._captured)
        if at >= len(self._rows):
            raise RuntimeError(f"graphs have registered {at} inputs, and there is room for no more")
        self._captured.append(_Input(source.data_ptr(), nbytes, algorithm.value))
        return self._rows[at]

    def _register(self, captured: list[_Input]) -> None:
        shared = self._shared
        assert shared is not None

        def places() -> list[tuple[Place, int, str]]:
            if self.device.capturing():
                raise RuntimeError("the graph's capture goes on beyond the scope of the engine's")
            return [(self.device.export(each.address), *each[1:]) for each in captured]

        told = together(self._gather, "a capture of graphs", places)
        _require_alike([[each[1:] for each in theirs] for theirs in told])

        def write() -> None:
            rows = [
                [shared.peers.address(rank, place, mine.address) for rank, (place, *_) in enumerate(theirs)]
                for mine, *theirs in zip(captured, *told, strict=True)
            ]
            if rows:
                first = self._used_rows
                table = torch.tensor(rows, dtype=torch.int64)
                self._rows[first : first + len(rows)].copy_(table)
                self.device.synchronize()

        together(self._gather, "registering the inputs of graphs", write)
        self._used_rows += len(captured)

    # The end.

    def close(self, *, alone: bool = False) -> None:
        """Give all memory back, together with the other ranks; ``alone``: without waiting for them.

        Graphs that were captured are of no use any more. Does nothing the second time.
        """
        shared, self._shared = self._shared, None
        if shared is None:
            return
        with contextlib.suppress(RuntimeError):  # a device that has failed keeps its memory no longer than the process
            self.device.synchronize()
        shared.close(alone=alone)


def _constants(layout: Layout) -> dict[str, Any]:
    """What all launches of an engine have alike; Triton's ranges are powers of two."""
    lanes, span = (1 << (count - 1).bit_length() for count in (layout.world, layout.blocks))
    return {
        "WORLD": layout.world,
        "LANES": lanes,
        "BLOCKS": layout.blocks,
        "SPAN": span,
        "HEAD": layout.head_words,
    }


def _order(tensor: torch.Tensor) -> list[int]:
    """The strides that say where elements lie."""
    return [stride for length, stride in zip(tensor.shape, tensor.stride(), strict=True) if length != 1]


def _require_alike(told: list[list[tuple[int, str]]]) -> None:
    """Raise RuntimeError where ranks have captured other operations than the first."""
    for rank, theirs in enumerate(told):
        if theirs != told[0]:
            counts = f"{len(told[0])} on rank 0, {len(theirs)} on rank {rank}"
            raise RuntimeError(f"the ranks have captured different all-reduces: {counts}")


def kernels() -> ModuleType:
    """The module of the kernels. Raises ImportError, with what to do, where Triton is missing."""
    try:
        importlib.import_module("triton")
    except ImportError as error:
        text = f"the CUDA all-reduce needs Triton ({error}): pip install 'sglang-conformance[cuda]'"
        raise ImportError(text) from error
    return importlib.import_module(f"{__package__}.kernels")
