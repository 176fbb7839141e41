"""Ranks with the CUDA engine on CUDA devices, one for each or one for all: checks named by the tests."""

from __future__ import annotations

import contextlib
import random
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist

from reference.cuda_groups import grouped
from reference.cuda_ranks import digest, gather_of, values, wanted
from sglang_conformance.ranks.rank import Rank
from sglang_reference._cuda_all_reduce.device import CudaDevice
from sglang_reference._cuda_all_reduce.engine import Engine
from sglang_reference._cuda_all_reduce.layout import Algorithm, Layout

cuda: Any = torch.cuda  # much of it has no types


def device_of(rank: Rank, share: bool) -> torch.device:
    device = torch.device("cuda", 0 if share else rank.number)
    torch.cuda.set_device(device)
    return device


@contextlib.contextmanager
def engine(
    rank: Rank, folder: str, share: bool, *, push: int = 1 << 20, pull: int = 1 << 22, name: str = "", **options: Any
) -> Iterator[Engine]:
    device = CudaDevice(device_of(rank, share))
    blocks = max(1, min(32, device.processors() // (rank.size if share else 1)))
    layout = Layout(rank.size, blocks, push, pull)
    made = Engine(rank.number, layout, device, gather_of(rank, folder, name), **{"wait_seconds": 60.0, **options})
    try:
        yield made
    finally:
        made.close()


def require(out: torch.Tensor, given: Sequence[torch.Tensor], what: str) -> None:
    """A device rounds to the nearest: nothing else will do."""
    expected = wanted([each.cpu() for each in given])[0]
    wrong = int((out.cpu() != expected).sum())
    assert torch.equal(out.cpu(), expected), f"{wrong} of {out.numel()} elements are wrong in {what}"


def sums(rank: Rank, folder: str, share: bool, algorithm: str) -> list[str]:
    """All-reduces of every type and of lengths about every boundary; what their bits come to."""
    found = []
    chosen = Algorithm(algorithm)
    with engine(rank, folder, share) as made:
        most, size = made.layout.capacity(chosen) // 16, rank.size
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            for turn, packs in enumerate((1, size - 1, size, size + 1, 127, 128, 129, 4097, most - 1, most)):
                elements = packs * 16 // dtype.itemsize
                given = [values(r, turn, elements, dtype) for r in range(size)]
                source = given[rank.number].cuda()
                room = torch.full((elements + 64,), 7.0, dtype=dtype, device="cuda")
                made.all_reduce(source, room[:elements], chosen)
                require(room[:elements], given, f"{packs} packs of {dtype}")
                assert bool((room[elements:] == 7).all())
                assert torch.equal(source.cpu(), given[rank.number])
                found.append(digest(room[:elements].cpu()))
    return found


def back_to_back(rank: Rank, folder: str, share: bool, operations: int) -> None:
    """Operations of all kinds and sizes with nothing in between, on ranks and devices that are slowed at random."""
    drawn, own = random.Random(7), random.Random(rank.number)
    with engine(rank, folder, share) as made:
        right = torch.ones((), dtype=torch.bool, device="cuda")
        for turn in range(operations):
            algorithm = drawn.choice(list(Algorithm))
            packs = drawn.choice([1, drawn.randint(1, 256), drawn.randint(1, made.layout.capacity(algorithm) // 16)])
            source = torch.full((packs * 4,), float(turn % 61 + rank.number), device="cuda")
            if own.random() < 0.05:
                cuda._sleep(own.randrange(1_000_000))
            if own.random() < 0.01:
                time.sleep(own.random() / 100)
            out = torch.empty_like(source)
            made.all_reduce(source, out, algorithm)
            source.fill_(-1.0)  # what was given may be used again at once
            right &= (out == float(rank.size * (turn % 61) + sum(range(rank.size)))).all()
        assert bool(right)
        made.check()


def replays(rank: Rank, folder: str, share: bool, algorithm: str, cold: bool) -> None:
    """A graph with inputs of its own and of others is replayed with new data, with other operations in between.

    ``cold``: the kernel is met for the first time in the capture.
    """
    chosen = Algorithm(algorithm)
    with engine(rank, folder, share) as made:
        inputs = [torch.zeros(elements, device="cuda") for elements in (4, 700, 40_000)]
        outs = [torch.empty_like(each) for each in inputs]
        if not cold:
            for source, out in zip(inputs, outs, strict=True):
                made.all_reduce(source, out, chosen)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with made.capture(), torch.cuda.graph(graph):
            for source, out in zip(inputs, outs, strict=True):
                made.all_reduce(source, out, chosen)
            doubled = inputs[1] * 2
            last = torch.empty_like(doubled)
            made.all_reduce(doubled, last, chosen)
        for turn in range(20):
            given = [
                [values(r, 10 * turn + at, each.numel(), each.dtype) for r in range(rank.size)]
                for at, each in enumerate(inputs)
            ]
            for each, new in zip(inputs, given, strict=True):
                each.copy_(new[rank.number])
            graph.replay()
            for source in inputs:
                source.fill_(float("nan"))  # after the replay, and before anybody has waited for it
            for out, new in zip([*outs, last], [*given, [2 * each for each in given[1]]], strict=True):
                require(out, new, f"replay {turn}")
            some = [values(r, turn, 4 * (turn + 1), torch.float32) for r in range(rank.size)]
            extra = torch.empty_like(some[0], device="cuda")
            made.all_reduce(some[rank.number].cuda(), extra, list(Algorithm)[turn % 4])
            require(extra, some, f"an operation after replay {turn}")
        for _ in range(50 if share else 1000):  # those that share a device wait for its turns
            graph.replay()
        made.check()
        torch.cuda.synchronize()
        made.check()


def failing_capture(rank: Rank, folder: str, share: bool) -> str:
    """What each rank hears where rank 1 raises in a capture; then a capture that is right."""
    heard = ""
    with engine(rank, folder, share) as made:
        source, out = torch.ones(8, device="cuda"), torch.zeros(8, device="cuda")
        graph = torch.cuda.CUDAGraph()
        try:
            with made.capture(), torch.cuda.graph(graph):
                made.all_reduce(source, out, Algorithm.ONE_SHOT_PULL)
                if rank.number == 1:
                    raise ZeroDivisionError("in the capture of rank 1")
        except Exception as error:
            heard = f"{type(error).__name__}: {error}"
        graph = torch.cuda.CUDAGraph()
        with made.capture(), torch.cuda.graph(graph):
            made.all_reduce(source, out, Algorithm.TWO_SHOT_PULL)
        graph.replay()
        assert out.tolist() == [rank.size] * 8
    return heard


def streams(rank: Rank, folder: str, share: bool) -> None:
    """One engine, by turns on two streams."""
    with engine(rank, folder, share) as made:
        both = cuda.Stream(), cuda.Stream()
        outs = []
        torch.cuda.synchronize()
        for turn in range(60):
            with torch.cuda.stream(both[turn % 2]):
                out = torch.empty(1024, device="cuda")
                made.all_reduce(torch.full((1024,), float(turn), device="cuda"), out, list(Algorithm)[turn % 4])
                outs.append(out)
        torch.cuda.synchronize()
        assert [set(out.tolist()) for out in outs] == [{float(rank.size * turn)} for turn in range(60)]


def deserted(rank: Rank, folder: str, share: bool) -> list[str]:
    """What the ranks hear of an operation to which the last does not come: then, and in the next call."""
    heard = []
    with engine(rank, folder, share, wait_seconds=0.5) as made:
        if rank.number < rank.size - 1:
            for _ in range(2):
                try:
                    made.all_reduce(
                        torch.ones(4, device="cuda"), torch.empty(4, device="cuda"), Algorithm.ONE_SHOT_PULL
                    )
                    torch.cuda.synchronize()
                    heard.append("")
                except RuntimeError as error:
                    heard.append(str(error))
        assert torch.ones(4, device="cuda").sum().item() == 4
    return heard


def lives(rank: Rank, folder: str, share: bool) -> list[int]:
    """The device's free memory after each of four engines, and an engine's length."""
    free, length = [], 0
    for turn in range(4):
        with engine(rank, folder, share, name=str(turn), rows=64) as made:
            out = torch.empty(4, device="cuda")
            made.all_reduce(torch.ones(4, device="cuda"), out, Algorithm.ONE_SHOT_PUSH)
            assert out.tolist() == [rank.size] * 4
            length = made.layout.total_bytes
        made.close()
        torch.cuda.synchronize()
        gather_of(rank, folder, f"after {turn}")(None)
        free.append(torch.cuda.mem_get_info()[0])
        gather_of(rank, folder, f"seen {turn}")(None)
    return [*free, length]


def classes(rank: Rank, folder: str, share: bool, release: str) -> list[Any]:
    """The class that a group has on these devices, and what it gives where it is not disabled."""
    import importlib

    import sglang_reference
    from sglang_conformance.contract import tables

    warnings.simplefilter("ignore", DeprecationWarning)
    device = device_of(rank, share)
    sglang_reference.uninstall()
    sglang_reference.install(tables.load(release).to_json())
    choice = importlib.import_module("sglang.srt.distributed.device_communicators.custom_all_reduce")
    with grouped(rank, folder):
        given = {"group": dist.group.WORLD, "device": device}
        made = choice.dispatch_custom_allreduce(**(given if release >= "0.5.13" else {}))(**given)
        for elements in (4, 4096, 1 << 20) if not made.disabled else ():
            source = [values(r, elements, elements, torch.bfloat16) for r in range(rank.size)]
            if made.should_custom_ar(source[rank.number].cuda()):
                require(made.custom_all_reduce(source[rank.number].cuda()), source, f"{elements} elements")
        if not made.disabled:
            static, graph = torch.zeros(4096, device=device), torch.cuda.CUDAGraph()
            with made.capture():
                made.custom_all_reduce(static)
                with torch.cuda.graph(graph):
                    out = made.custom_all_reduce(static)
            for turn in range(3):
                static.fill_(float(turn))
                graph.replay()
                assert set(out.tolist()) == {float(turn * rank.size)}
        found = [type(made).__name__, made.disabled, made.why_disabled if made.disabled else ""]
        made.close()
    sglang_reference.uninstall()
    return found
