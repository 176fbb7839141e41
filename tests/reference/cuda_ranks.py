"""Ranks with a CUDA engine on the host, and what they are made to do: checks named by the tests."""

from __future__ import annotations

import contextlib
import hashlib
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist

from import_path import REFERENCE, TESTS, import_path
from reference.cuda_host import HostDevice
from sglang_conformance.probes import client
from sglang_conformance.ranks.group import Setup
from sglang_conformance.ranks.pool import Pool
from sglang_conformance.ranks.rank import Rank
from sglang_reference._cuda_all_reduce.engine import Engine
from sglang_reference._cuda_all_reduce.gathering import BoardGather
from sglang_reference._cuda_all_reduce.layout import Algorithm, Layout
from sglang_reference._custom_all_reduce.board import StoreBoard

_MODULES = ("torch", "numpy", "triton", "reference.cuda_ranks", "sglang_reference._cuda_all_reduce.kernels")
_WAIT = 60.0


@contextlib.contextmanager
def ranks(*, interpreted: bool = True) -> Iterator[Pool]:
    """A pool of ranks in which Triton interprets, or compiles for their devices."""
    environment = {"PYTHONPATH": import_path(TESTS, REFERENCE), "OMP_NUM_THREADS": "1"}
    environment |= {"TRITON_INTERPRET": "1"} if interpreted else {}
    zygote = client.start(_MODULES, environment)
    warm = client.connect(zygote.address)
    pool = Pool(warm, Setup(watched=False), forward=False)
    try:
        yield pool
    finally:
        pool.close()
        warm.close()
        zygote.close()


def gather_of(rank: Rank, folder: str, name: str = "", seconds: float = _WAIT) -> BoardGather:
    store = dist.FileStore(  # type: ignore[attr-defined]
        f"{folder}/{rank.meeting}", rank.size
    )
    return BoardGather(StoreBoard(store, f"{rank.check} {name}"), rank.number, rank.size, seconds)


@contextlib.contextmanager
def engine(
    rank: Rank,
    folder: str,
    *,
    blocks: int = 2,
    push: int = 1 << 14,
    pull: int = 1 << 16,
    wait: float = _WAIT,
    name: str = "",
    **options: Any,
) -> Iterator[Engine]:
    layout = Layout(rank.size, blocks, push, pull)
    gather = gather_of(rank, folder, name, wait)
    made = Engine(rank.number, layout, HostDevice(), gather, wait_seconds=wait, rows=64, **options)
    try:
        yield made
    finally:
        made.close()


def values(rank: int, turn: int, elements: int, dtype: torch.dtype) -> torch.Tensor:
    """What a rank gives: of many sizes, so that the order of a sum shows in its bits."""
    made = torch.Generator().manual_seed(1000 * turn + rank)
    plain = torch.randn(elements, generator=made) * torch.exp2(torch.randint(-9, 9, (elements,), generator=made))
    return plain.to(dtype)


def wanted(given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The sum by rank, in float32 for types of 16 bits, rounded once; for bfloat16 also with the lower bits cut off.

    Triton's interpreter cuts them (3.9), where a device rounds: that is looked up in the code that it is given.
    """
    total = given[0].float()
    for each in given[1:]:
        total = total + each.float()
    dtype = given[0].dtype
    cut = [(total.view(torch.int32) >> 16).to(torch.int16).view(dtype)] if dtype is torch.bfloat16 else []
    return [total.to(dtype), *cut]


def require_sum(out: torch.Tensor, given: Sequence[torch.Tensor], what: str) -> None:
    expected = wanted(given)
    wrong = int((out != expected[-1]).sum())
    assert any(torch.equal(out, each) for each in expected), f"{wrong} of {out.numel()} elements are wrong in {what}"


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.view(torch.uint8).numpy().tobytes()).hexdigest()


def sums(rank: Rank, folder: str, algorithm: str, dtype: str, sizes: Sequence[int], **given: Any) -> list[str]:
    """All-reduces of so many packs each, one after the other; what their bits come to. Inputs are left as they are."""
    kind: torch.dtype = getattr(torch, dtype)
    found = []
    with engine(rank, folder, **given) as made:
        for turn, packs in enumerate(sizes):
            elements = packs * 16 // kind.itemsize
            all_given = [values(r, turn, elements, kind) for r in range(rank.size)]
            source = all_given[rank.number].clone()
            room = torch.full((elements + 32,), 7.0, dtype=kind)  # nothing behind the output is touched
            made.all_reduce(source, room[:elements], Algorithm(algorithm))
            require_sum(room[:elements], all_given, f"operation {turn}, of {packs} packs")
            assert torch.equal(room[elements:], torch.full((32,), 7.0, dtype=kind))
            assert torch.equal(source, all_given[rank.number])
            found.append(digest(room[:elements]))
    return found


def extremes(rank: Rank, folder: str, algorithm: str, dtype: str) -> list[str]:
    """Infinities, NaN, and zeros that are negative on all ranks; then in place."""
    kind: torch.dtype = getattr(torch, dtype)
    inf, nan = float("inf"), float("nan")
    by_rank = [[inf, -inf, nan, -0.0, 1.0, -0.0, 0.0, 65504.0], [1.0, 1.0, 1.0, -0.0, -1.0, 0.0, -0.0, 65504.0]]
    given = [torch.tensor(row * 4, dtype=kind) for row in by_rank]
    expected = (given[0].float() + given[1].float()).to(kind)
    with engine(rank, folder) as made:
        out = torch.empty_like(expected)
        made.all_reduce(given[rank.number], out, Algorithm(algorithm))
        made.all_reduce(given[rank.number], given[rank.number], Algorithm(algorithm))
    for found in (out, given[rank.number]):
        assert torch.equal(found.isnan(), expected.isnan()), found
        there = ~expected.isnan()
        assert torch.equal(found[there], expected[there]), found
        assert torch.equal(torch.signbit(found[there]), torch.signbit(expected[there])), found
    return [digest(out)]


def mixed(rank: Rank, folder: str, seed: int, operations: int, slow: bool, blocks: int) -> list[str]:
    """Operations of all kinds and sizes, one after the other, on ranks that are slowed at random."""
    drawn, own = random.Random(seed), random.Random(f"{seed} {rank.number}")
    found = []
    with engine(rank, folder, blocks=blocks) as made:
        for turn in range(operations):
            algorithm = drawn.choice(list(Algorithm))
            kind = drawn.choice([torch.float32, torch.float16])
            most = made.layout.capacity(algorithm) // 16
            packs = drawn.choice([1, rank.size, drawn.randint(1, 400), drawn.randint(1, most)])
            elements = packs * 16 // kind.itemsize
            given = [values(r, turn, elements, kind) for r in range(rank.size)]
            out = torch.empty_like(given[0])
            if slow and own.random() < 0.2:
                time.sleep(own.random() / 100)
            made.all_reduce(given[rank.number], out, algorithm)
            require_sum(out, given, f"operation {turn}, {algorithm.value} of {packs} packs")
            found.append(digest(out))
    return found


# Graphs.


def replayed(rank: Rank, folder: str, algorithm: str, replays: int, offset: int) -> dict[str, Any]:
    """Three inputs are captured in two graphs, and replayed with new data, with other operations in between."""
    with engine(rank, folder) as made:
        device: Any = made.device
        inputs = [device.tensor(torch.zeros(elements), offset) for elements in (4, 700, 260)]
        outs = [torch.zeros_like(each) for each in inputs]
        graphs: list[list[Any]] = []
        exported = device.exported
        with made.capture():
            for chosen in ((0, 1), (2,)):
                device.graph = []
                for at in chosen:
                    made.all_reduce(inputs[at], outs[at], Algorithm(algorithm))
                graphs.append(device.graph)
                device.graph = None
            during = device.exported - exported
        registered = device.exported - exported - during
        for turn in range(replays):
            given = [
                [values(r, 10 * turn + at, each.numel(), each.dtype) for r in range(rank.size)]
                for at, each in enumerate(inputs)
            ]
            for each, new in zip(inputs, given, strict=True):
                each.copy_(new[rank.number])
            for graph in graphs if turn % 2 else graphs[::-1]:
                for launch in graph:
                    launch()
            for out, new in zip(outs, given, strict=True):
                require_sum(out, new, f"replay {turn}")
            extra = torch.empty(4 * (turn + 1))
            some = [values(r, turn, extra.numel(), extra.dtype) for r in range(rank.size)]
            made.all_reduce(some[rank.number], extra, list(Algorithm)[turn % 4])
            require_sum(extra, some, f"an operation after replay {turn}")
    return {"during": during, "registered": registered, "held": held_without(device, inputs)}


def held_without(device: Any, inputs: Sequence[torch.Tensor]) -> int:
    """How much memory is held besides that of the inputs."""
    return int(device.held) - len(inputs)


def captured_wrongly(rank: Rank, folder: str, how: str) -> list[str]:
    """What each rank hears where rank 1 fails in a capture or captures something else; then one that is right."""
    with engine(rank, folder, wait=20.0) as made:
        device: Any = made.device
        source = device.tensor(torch.ones(8))
        private, out = torch.ones(8), torch.zeros(8)
        odd = rank.number == 1
        heard = ""
        try:
            with made.capture():
                device.graph = []
                made.all_reduce(source, out, Algorithm.ONE_SHOT_PULL)
                if how == "raises" and odd:
                    raise ZeroDivisionError("in the capture of rank 1")
                if how == "more" and odd:
                    made.all_reduce(source, out, Algorithm.ONE_SHOT_PULL)
                if how == "otherwise" and odd:
                    made._captured[-1] = made._captured[-1]._replace(algorithm="2shot_pull")
                if how == "private" and odd:
                    made.all_reduce(private, out, Algorithm.ONE_SHOT_PULL)
                if how != "goes on" or not odd:
                    device.graph = None
        except Exception as error:
            heard = f"{type(error).__name__}: {error}"
        device.graph = None
        graph: list[Any] = []
        with made.capture():
            device.graph = graph
            made.all_reduce(source, out, Algorithm.TWO_SHOT_PULL)
            device.graph = None
        for launch in graph:
            launch()
        assert torch.equal(out, torch.full((8,), float(rank.size)))
    return [heard]


def left_in_capture(rank: Rank, folder: str) -> list[str]:
    """What the others hear where rank 1 does not come to the end of its capture; a rank that hears it goes on."""
    device, layout = HostDevice(), Layout(rank.size, 1, 1 << 10, 1 << 10)
    gather = gather_of(rank, folder)
    made = Engine(rank.number, layout, device, gather, wait_seconds=_WAIT, rows=4)
    gather._seconds = 0.5
    heard = []
    if rank.number != 1:
        try:
            with made.capture():
                pass
        except RuntimeError as error:
            heard.append(str(error))
    made.close(alone=True)
    return [*heard, str(device.held)]


# Coming to life, and its end.


def lives(rank: Rank, folder: str) -> list[int]:
    """Two engines at once, then another, each closed twice; how much memory is held after."""
    device = HostDevice()
    layout = Layout(rank.size, 1, 1 << 10, 1 << 10)

    def made(name: str) -> Engine:
        return Engine(rank.number, layout, device, gather_of(rank, folder, name), wait_seconds=_WAIT, rows=4)

    def once(each: Engine) -> None:
        out = torch.empty(4)
        each.all_reduce(torch.full((4,), rank.number + 1.0), out, Algorithm.ONE_SHOT_PUSH)
        assert out.tolist() == [sum(range(1, rank.size + 1))] * 4

    first, second = made("first"), made("second")
    for each in (first, second, first):
        once(each)
    first.close()
    first.close()
    held = [device.held]
    once(second)
    second.close()
    third = made("third")
    once(third)
    third.close()
    return [*held, device.held]


def half_made(rank: Rank, folder: str, step: str) -> tuple[str, int]:
    """What each rank hears where the last one fails in a step of making its engine, and how much is held after."""
    device = HostDevice()
    if rank.number == rank.size - 1:

        def fail(*given: Any) -> Any:
            raise MemoryError(f"no {step} here")

        setattr(device, step, fail)
    try:
        Engine(rank.number, Layout(rank.size, 1, 1 << 10, 1 << 10), device, gather_of(rank, folder), rows=4)
    except RuntimeError as error:
        return str(error), device.held
    return "", device.held


def deserted(rank: Rank, folder: str) -> list[str]:
    """What the ranks hear of an operation to which the last does not come: then, and in the next call."""
    heard = []
    device, layout = HostDevice(), Layout(rank.size, 1, 1 << 10, 1 << 10)
    made = Engine(rank.number, layout, device, gather_of(rank, folder), wait_seconds=0.02, rows=4)
    for _ in range(2 if rank.number < rank.size - 1 else 0):
        try:
            made.all_reduce(torch.ones(4), torch.empty(4), Algorithm.ONE_SHOT_PULL)
            heard.append("")
        except RuntimeError as error:
            heard.append(str(error))
    made.close()
    return heard


def refused(rank: Rank, folder: str) -> dict[str, str]:
    """What is said of tensors that the engine does not take; none of it is an operation, as the last call shows."""
    plain, out = torch.zeros(64), torch.zeros(64)
    calls = {
        "integers": (torch.zeros(8, dtype=torch.int32), torch.zeros(8, dtype=torch.int32)),
        "two types": (plain, out.to(torch.float16)),
        "two shapes": (plain, out[:32]),
        "two orders": (plain.view(8, 8), out.view(8, 8).t()),
        "gaps": (plain[::2], out[::2]),
        "elsewhere": (plain.to("meta"), out.to("meta")),
        "unaligned": (plain[1:5], out[1:5]),
        "odd": (plain[:5], out[:5]),
        "empty": (plain[:0], out[:0]),
        "long": (torch.zeros(1 << 16), torch.zeros(1 << 16)),
    }
    said = {}
    with engine(rank, folder) as made:
        for name, (source, target) in calls.items():
            try:
                made.all_reduce(source, target, Algorithm.ONE_SHOT_PUSH)
            except ValueError as error:
                said[name] = str(error)
        made.all_reduce(torch.ones(4), out[:4], Algorithm.ONE_SHOT_PUSH)
        assert out[:4].tolist() == [rank.size] * 4
    try:
        made.all_reduce(torch.ones(4), out[:4], Algorithm.ONE_SHOT_PUSH)
    except RuntimeError as error:
        said["closed"] = str(error)
    return said
