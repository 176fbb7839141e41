"""The CPU all-reduce engine beside gloo and beside a plain copy by all ranks at once.

python benchmarks/all_reduce.py [ROUNDS [RANKS ...]] > reports/benchmarks/all_reduce.json

The same ranks do all of it, in turn and within one round, with one torch thread each. Takes about a minute.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sglang_conformance.ranks.rank import Rank

SIZES = {"1 KiB": 1 << 10, "16 KiB": 1 << 14, "64 KiB": 1 << 16, "256 KiB": 1 << 18, "1 MiB": 1 << 20}
SIZES |= {"4 MiB": 1 << 22, "16 MiB": 1 << 24}
DTYPES = ("float32", "bfloat16")
WAYS = ("plain copy", "engine", "registered", "gloo")
_WORK = {"plain copy": 1 << 25, "engine": 1 << 23, "registered": 1 << 23, "gloo": 1 << 22}  # bytes of a round
_FEWEST = 2  # calls of a round: rounds are short, so that some are not disturbed on a machine that has other work
_MOST = {"plain copy": 2500, "engine": 300, "registered": 300, "gloo": 8}
_RATIOS = (
    ("gloo", "engine"),
    ("gloo", "registered"),
    ("engine", "plain copy"),
    ("registered", "plain copy"),
)


def main(rounds: int, groups: Sequence[int]) -> dict[str, object]:
    """Time each way of each type and size on groups of these ranks, so many rounds."""
    import torch

    load = os.getloadavg()
    return {
        "what": "all-reduce (sum) by the engine over shared memory, from tensors anywhere and from registered ones, "
        "beside gloo's and beside copying as many bytes from one tensor to another: microseconds of a call, from when "
        "the first rank begins until the last has ended, and their ratios within each round; medians of the rounds",
        "at best": "the same of each way's shortest round, which other work on the machine has disturbed least",
        "rounds": rounds,
        "ranks": {str(size): _measured(rounds, size) for size in groups},
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load of the machine before and after": [round(load[0], 1), round(os.getloadavg()[0], 1)],
    }


def _measured(rounds: int, size: int) -> dict[str, dict[str, dict[str, float]]]:
    from sglang_conformance.probes import client
    from sglang_conformance.ranks.group import Setup
    from sglang_conformance.ranks.pool import Pool

    reference = Path(__file__).resolve().parents[1] / "reference"
    path = os.pathsep.join([str(Path(__file__).parent), str(reference)])
    zygote = client.start(
        ("torch", "torch.distributed", "all_reduce", "sglang_host_all_reduce"),
        {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
    )
    warm = client.connect(zygote.address)
    rows: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool(warm, Setup("all_reduce:join", {"folder": folder}, watched=False), forward=False)
        for dtype, (label, length) in itertools.product(DTYPES, SIZES.items()):
            given = {"dtype": dtype, "length": length, "rounds": rounds}
            report = pool.run("all_reduce:timed", given, size=size, seconds=300.0)
            if report.failures:
                raise RuntimeError(report.summary())
            rows.setdefault(dtype, {})[label] = _row(report.values)
        pool.close()
    zygote.close()
    return rows


def _row(taken: tuple[Mapping[str, list[list[float]]], ...]) -> dict[str, float]:
    """What the ranks' moments come to: for each round when a rank began, when it ended, and how many calls it made."""
    seconds = {
        way: [_of_a_call(moments) for moments in zip(*(rank[way] for rank in taken), strict=True)] for way in WAYS
    }
    best = {way: min(seconds[way]) for way in WAYS}
    row = {f"{way}, us": round(1e6 * statistics.median(seconds[way]), 1) for way in WAYS}
    row |= {f"{way}, us at best": round(1e6 * best[way], 1) for way in WAYS}
    for one, other in _RATIOS:
        ratios = [first / second for first, second in zip(seconds[one], seconds[other], strict=True)]
        row[f"{one} / {other}"] = round(statistics.median(ratios), 2)
        row[f"{one} / {other} at best"] = round(best[one] / best[other], 2)
    return row


def _of_a_call(moments: Sequence[Sequence[float]]) -> float:
    began, ended, calls = zip(*moments, strict=True)
    return float(max(ended) - min(began)) / float(calls[0])


# On the ranks.


def join(rank: Rank, folder: str) -> Any:
    """Meet the others on gloo, and in an engine."""
    import torch
    import torch.distributed as dist

    from sglang_host_all_reduce import Engine

    torch.set_num_threads(1)
    place = f"{folder}/{rank.meeting}"
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank.number, world_size=rank.size)
    return Engine(place, rank.number, rank.size, 60.0)


def timed(rank: Rank, dtype: str, length: int, rounds: int) -> dict[str, list[list[float]]]:
    """When each round of each way began and ended, and its calls; the way that is first changes."""
    import torch

    engine, actions = rank.state, _actions(rank, getattr(torch, dtype), length)
    calls = {way: max(_FEWEST, min(_MOST[way], _WORK[way] // length)) for way in WAYS}
    ready, seen = torch.zeros(1), torch.zeros(1)
    moments: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for number in range(rounds + 1):
        first = number % len(WAYS)
        for way in WAYS[first:] + WAYS[:first]:
            action = actions[way]
            for _ in range(3):  # the first may find the others asleep
                engine.all_reduce(ready, seen)
            began = time.perf_counter()
            for _ in range(calls[way]):
                action()
            ended = time.perf_counter()
            if number:  # the first round warms all
                moments[way].append([began, ended, calls[way]])
    return moments


def _actions(rank: Rank, dtype: Any, length: int) -> Mapping[str, Callable[[], object]]:
    """One call over ``length`` bytes, by its way."""
    import torch
    import torch.distributed as dist

    engine, elements = rank.state, length // dtype.itemsize
    tensor, out = torch.empty(elements, dtype=dtype).fill_(0), torch.empty(elements, dtype=dtype).fill_(0)
    registered = engine.empty((elements,), dtype)
    return {
        "plain copy": lambda: out.copy_(tensor),
        "engine": lambda: engine.all_reduce(tensor, out),
        "registered": lambda: engine.all_reduce(registered, out),
        "gloo": lambda: dist.all_reduce(tensor),
    }


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    print(json.dumps(main(numbers[0] if numbers else 40, numbers[1:] or [2, 4]), indent=1))
