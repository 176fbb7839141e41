"""The reference's CUDA all-reduce beside NCCL and torch's symmetric memory, on the same ranks and tensors.

python benchmarks/cuda_all_reduce.py [ROUNDS [RANKS]] > reports/benchmarks/cuda_all_reduce.json

Each call is timed twice: launched one by one, and captured in a graph, where the time of launching does not count.
Needs as many CUDA devices as there are ranks; with one device the ranks share it, and only the kernels are timed.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sglang_conformance.ranks.rank import Rank

SIZES = {
    "1 KiB": 1 << 10,
    "16 KiB": 1 << 14,
    "64 KiB": 1 << 16,
    "256 KiB": 1 << 18,
    "1 MiB": 1 << 20,
    "4 MiB": 1 << 22,
    "16 MiB": 1 << 24,
}
WAYS = ("graph", "eager")
KERNELS = ("1shot_push", "2shot_push", "1shot_pull", "2shot_pull")
PEERS = ("nccl", "symmetric memory, one-shot", "symmetric memory, two-shot")
_CALLS = 20
_BLOCKS = 64


def main(rounds: int, size: int, devices: int) -> dict[str, object]:
    """Time every engine for every size, so many rounds: medians of the rounds, by the slowest rank of each."""
    import torch

    from sglang_conformance.probes import client
    from sglang_conformance.ranks.group import Setup
    from sglang_conformance.ranks.pool import Pool

    reference = Path(__file__).resolve().parents[1] / "reference"
    path = os.pathsep.join([str(Path(__file__).parent), str(reference)])
    zygote = client.start(("torch", "triton", "cuda_all_reduce"), {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"})
    warm = client.connect(zygote.address)
    rows: dict[str, dict[str, Any]] = {way: {} for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        given = {"folder": folder, "share": devices < size}
        pool = Pool(warm, Setup("cuda_all_reduce:join", given, watched=False), forward=False)
        for way, (label, length) in itertools.product(WAYS, SIZES.items()):
            report = pool.run(
                "cuda_all_reduce:timed", {"way": way, "length": length, "rounds": rounds}, size=size, seconds=600.0
            )
            if report.failures:
                sys.exit(report.text())
            rows[way][label] = _row(report.values)
        pool.close()
    zygote.close()
    return {
        "what": "all-reduce of bfloat16 by the reference's kernels, by NCCL and by torch's symmetric memory, on the "
        "same ranks: microseconds of a call, by the slowest rank of each round; medians of the rounds",
        "ratios": "best: the fastest kernel's time to NCCL's, and to the faster one's of symmetric memory; above 1 it "
        "loses",
        "ranks": size,
        "devices": f"{min(devices, size)} of {torch.cuda.get_device_name(0)}",
        "rounds": rounds,
        "calls in a round": _CALLS,
        "all_reduce": rows,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
    }


def _row(taken: tuple[dict[str, list[float]], ...]) -> dict[str, Any]:
    """What the ranks' microseconds come to."""
    row: dict[str, Any] = {
        engine: round(statistics.median(max(each) for each in zip(*(rank[engine] for rank in taken), strict=True)), 2)
        for engine in taken[0]
    }
    best = min(row[name] for name in KERNELS if name in row)
    row["best / nccl"] = round(best / row["nccl"], 2) if "nccl" in row else None
    symmetric = [row[name] for name in PEERS[1:] if name in row]
    row["best / symmetric memory"] = round(best / min(symmetric), 2) if symmetric else None
    return row


# On the ranks.


@dataclass
class Bench:
    """What a rank works with. ``symmetric``: the name of the group that torch's symmetric memory is shared in; ``host``
    is a group of gloo.
    """

    engine: Any
    device: Any
    nccl: bool
    symmetric: str
    host: Any


def join(rank: Rank, folder: str, share: bool) -> Bench:
    """Meet the others in an engine, on NCCL where each has a device, and in symmetric memory where torch has that."""
    import torch
    import torch.distributed as dist

    from sglang_reference._cuda_all_reduce.device import CudaDevice
    from sglang_reference._cuda_all_reduce.engine import Engine
    from sglang_reference._cuda_all_reduce.gathering import BoardGather
    from sglang_reference._cuda_all_reduce.layout import Layout
    from sglang_reference._custom_all_reduce.board import board_of

    torch.set_num_threads(1)
    device = torch.device("cuda", 0 if share else rank.number)
    torch.cuda.set_device(device)
    meeting = f"file://{folder}/{rank.meeting}"
    backend = "gloo" if share else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, init_method=meeting, rank=rank.number, world_size=rank.size)
    made = CudaDevice(device)
    blocks = max(1, min(_BLOCKS, made.processors() // (rank.size if share else 1)))
    layout = Layout(rank.size, blocks, max(SIZES.values()), max(SIZES.values()))
    gather = BoardGather(board_of(dist.group.WORLD, "benchmark"), rank.number, rank.size, 120.0)
    engine = Engine(rank.number, layout, made, gather)
    host = dist.new_group(backend="gloo")
    return Bench(engine, device, not share, "" if share else _symmetric(host), host)


def _symmetric(host: Any) -> str:
    """The group's name in symmetric memory, where that works on this machine: all ranks find the same."""
    import torch
    import torch.distributed as dist

    try:
        memory: Any = importlib.import_module("torch.distributed._symmetric_memory")
        memory.rendezvous(memory.empty(64, dtype=torch.bfloat16, device="cuda"), dist.group.WORLD)
        works = True
    except (ImportError, RuntimeError):
        works = False
    told: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(told, works, group=host)
    group: Any = dist.group.WORLD
    return str(group.group_name) if all(told) else ""


def timed(rank: Rank, way: str, length: int, rounds: int) -> dict[str, list[float]]:
    """The microseconds of a call in each round, of each engine; the one that is first changes."""
    import torch
    import torch.distributed as dist

    bench: Bench = rank.state
    cuda: Any = torch.cuda
    actions = _actions(bench, length)
    runs: dict[str, Callable[[], object]] = {}
    for name, action in actions.items():
        action()
        cuda.synchronize()
        runs[name] = _graph(bench, action) if way == "graph" else _times(action)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name in list(runs) if number % 2 else list(runs)[::-1]:
            first, last = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
            cuda.synchronize()
            dist.barrier(group=bench.host)
            first.record()
            runs[name]()
            last.record()
            last.synchronize()
            if number:  # the first round warms all
                taken[name].append(1000 * first.elapsed_time(last) / _CALLS)
    bench.engine.check()
    return taken


def _times(action: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        for _ in range(_CALLS):
            action()

    return run


def _graph(bench: Bench, action: Callable[[], object]) -> Callable[[], object]:
    import torch

    graph = torch.cuda.CUDAGraph()
    with bench.engine.capture(), torch.cuda.graph(graph):
        for _ in range(_CALLS):
            action()
    return graph.replay


def _actions(bench: Bench, length: int) -> dict[str, Callable[[], object]]:
    """One call over ``length`` bytes, by engine."""
    import torch
    import torch.distributed as dist

    from sglang_reference._cuda_all_reduce.layout import Algorithm

    elements = length // 2
    source = torch.zeros(elements, dtype=torch.bfloat16, device=bench.device)
    out = torch.empty_like(source)

    def kernel(algorithm: Algorithm) -> Callable[[], object]:
        return lambda: bench.engine.all_reduce(source, out, algorithm)

    layout = bench.engine.layout
    actions = {name: kernel(Algorithm(name)) for name in KERNELS if length <= layout.capacity(Algorithm(name))}
    if bench.nccl:
        actions["nccl"] = lambda: dist.all_reduce(source)
    if bench.symmetric:
        memory: Any = importlib.import_module("torch.distributed._symmetric_memory")
        shared = memory.empty(elements, dtype=torch.bfloat16, device="cuda")
        memory.rendezvous(shared, dist.group.WORLD)
        operations: Any = torch.ops.symm_mem
        actions[PEERS[1]] = lambda: operations.one_shot_all_reduce(shared, "sum", bench.symmetric)
        actions[PEERS[2]] = lambda: operations.two_shot_all_reduce_(shared, "sum", bench.symmetric)
    return actions


def _devices() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


if __name__ == "__main__":
    found = _devices()
    if not found:
        sys.exit("this benchmark needs CUDA devices, and torch sees none here")
    numbers = [int(argument) for argument in sys.argv[1:]]
    rounds, size = numbers + [15, max(2, found)][len(numbers) :]
    print(json.dumps(main(rounds, size, found), indent=1))
