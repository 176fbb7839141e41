"""Groups of gloo whose ranks have the CUDA communicator on the host: checks named by the tests."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist

from reference.cuda_host import HostDevice
from reference.cuda_ranks import require_sum, values
from sglang_conformance.ranks.rank import Rank
from sglang_reference._cuda_all_reduce.communicator import Communicator, connect
from sglang_reference._cuda_all_reduce.wanted import Wanted
from sglang_reference._custom_all_reduce.consensus import Deadlines
from sglang_reference._custom_all_reduce.limits import Limits, Span

WANTED = Wanted(
    "second",
    Limits(
        eager=(Span("one-shot push", 1024), Span("one-shot pull", 2048), Span("two-shot pull", 8192)),
        graph=(Span("one-shot push", 256), Span("one-shot pull", 4096), Span("two-shot pull", 8192)),
        push_bytes=1024,
        pull_bytes=8192,
    ),
)
_DEADLINES = Deadlines(work=60.0, others=30.0)


class Noting(HostDevice):
    """Notes the kernels that are launched."""

    def __init__(self) -> None:
        super().__init__()
        self.launched: list[str] = []

    def launch(self, kernel: Any, grid: int, arguments: Any, options: Any) -> None:
        staged = options.get("STAGED")
        self.launched.append(kernel.__name__ + {None: "", True: " staged", False: " registered"}[staged])
        super().launch(kernel, grid, arguments, options)


@contextlib.contextmanager
def grouped(rank: Rank, folder: str) -> Iterator[None]:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/{rank.meeting}-{rank.check}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank.number, world_size=rank.size)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def connected(rank: Rank, folder: str, wanted: Wanted = WANTED) -> Iterator[tuple[Communicator, Noting]]:
    device = Noting()
    with grouped(rank, folder):
        made = connect(dist.group.WORLD, torch.device("cpu"), wanted, make_device=lambda _: device)
        assert made.communicator is not None, made.why
        try:
            yield made.communicator, device
        finally:
            made.communicator.close()
            assert device.held == 0


def in_use(rank: Rank, folder: str) -> list[str]:
    """Tensors of all sizes and orders, by the algorithms that their sizes have."""
    with connected(rank, folder) as (communicator, device):
        for turn, elements in enumerate((4, 256, 260, 512, 516, 2048)):
            given = [values(r, turn, elements, torch.float32) for r in range(rank.size)]
            assert not communicator.refusal(given[0])
            require_sum(communicator.all_reduce(given[rank.number]), given, f"{elements} elements")
        given = [values(r, 9, 4 * 6 * 2, torch.float32).view(4, 1, 6, 2) for r in range(rank.size)]
        turned = given[rank.number].permute(2, 3, 1, 0)
        assert not communicator.refusal(turned)
        out = communicator.all_reduce(turned)
        assert (out.shape, out.stride()) == (turned.shape, turned.stride())
        require_sum(out.permute(3, 2, 0, 1).contiguous(), given, "turned")
        room = torch.zeros(9)
        off = room[1:]
        off.copy_(given[rank.number].flatten()[:8])
        require_sum(communicator.all_reduce(off), [each.flatten()[:8] for each in given], "off by one element")
        assert communicator.all_reduce(torch.zeros(0, 3)).shape == (0, 3)
        refusals = [
            communicator.refusal(tensor)
            for tensor in (torch.zeros(5), torch.zeros(8, 8)[:, :4], torch.zeros(2052), torch.zeros(4).int())
        ]
        assert [refusal.split()[0] for refusal in refusals] == ["20", "its", "8208", "int32"]
        return device.launched


def captured(rank: Rank, folder: str, exports: bool) -> list[str]:
    """What is launched for a tensor in a capture: as it is, in its graph, and after; then with new data."""
    device = Noting()
    if rank.number == rank.size - 1:
        device.can_export = lambda: exports  # type: ignore[method-assign]
    with grouped(rank, folder):
        made = connect(dist.group.WORLD, torch.device("cpu"), WANTED, make_device=lambda _: device)
        communicator = made.communicator
        assert communicator is not None
        given = [values(r, 0, 128, torch.float32) for r in range(rank.size)]
        source = device.tensor(torch.zeros(128))
        with communicator.capture():
            communicator.all_reduce(source)
            graph: list[Any] = []
            device.graph = graph
            out = communicator.all_reduce(source)
            device.graph = None
        source.copy_(given[rank.number])
        for launch in graph:
            launch()
        require_sum(out, given, "the replay")
        communicator.all_reduce(source)
        communicator.close()
    return device.launched


def failing(rank: Rank, folder: str, step: str, how: str) -> list[Any]:
    """What each rank has where the last fails or hangs in a step of making its communicator; then once more, well."""
    device = HostDevice()
    deadlines = replace(_DEADLINES, work=1.5, others=1.5) if how == "hangs" else _DEADLINES

    def make(where: torch.device) -> HostDevice:
        if rank.number == rank.size - 1:
            trouble = _hang if how == "hangs" else _fail
            if step == "device":
                trouble()
            setattr(device, step, trouble)
        return device

    with grouped(rank, folder):
        made = connect(dist.group.WORLD, torch.device("cpu"), WANTED, deadlines=deadlines, make_device=make)
        again = connect(dist.group.WORLD, torch.device("cpu"), WANTED, make_device=lambda _: HostDevice())
        assert again.communicator is not None, again.why
        out = again.communicator.all_reduce(torch.ones(4))
        assert out.tolist() == [rank.size] * 4
        again.communicator.close()
        held = device.held if how == "fails" else 0
    return [made.communicator is not None, made.why, held]


def _fail(*given: Any) -> Any:
    raise OSError("broken here")


def _hang(*given: Any) -> Any:
    time.sleep(1000)  # beyond every deadline of the check


def unlinked(rank: Rank, folder: str, same: bool) -> str:
    """What is said of ranks whose devices no NVLink joins, or that are on the same device."""
    device = HostDevice()
    if same:
        device.identity = lambda: "the one"  # type: ignore[method-assign]
    with grouped(rank, folder):
        made = connect(
            dist.group.WORLD, torch.device("cpu"), replace(WANTED, linked=False), make_device=lambda _: device
        )
        if made.communicator is not None:
            assert made.communicator.engine.layout.blocks == (1 if same else 2)
            made.communicator.close()
        return made.why
