"""The host library's collectives beside gloo's, as users meet both: by the reference's PyNCCL and torch.distributed.

python benchmarks/pynccl.py [ROUNDS [RANKS]] > reports/benchmarks/pynccl.json

The same ranks do both, in turn, with one torch thread each. Takes about a minute with two ranks.
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
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sglang_conformance.ranks.rank import Rank

ENGINES = ("gloo", "host")
SIZES = {"1 KiB": 1 << 10, "64 KiB": 1 << 16, "256 KiB": 1 << 18, "1 MiB": 1 << 20}
DTYPES = ("float32", "bfloat16")
COLLECTIVES = ("all_reduce", "reduce", "broadcast", "all_gather", "reduce_scatter", "all_to_all", "send_recv")
_WORK = 1 << 22  # bytes that a round moves, as far as the bounds of its number of calls let it
_FEWEST, _MOST = 8, 200
Actions = Mapping[str, Callable[[], object]]


def main(rounds: int, size: int) -> dict[str, object]:
    """Time every collective of every type and size, so many rounds; medians, and ratios within each round."""
    from sglang_conformance.probes import client
    from sglang_conformance.ranks.group import Setup
    from sglang_conformance.ranks.pool import Pool

    reference = Path(__file__).resolve().parents[1] / "reference"
    path = os.pathsep.join([str(Path(__file__).parent), str(reference)])
    zygote = client.start(
        ("torch", "torch.distributed", "pynccl", "sglang_reference"),
        {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "SGLANG_USE_CPU_ENGINE": "1", "PYTHONWARNINGS": "ignore"},
    )
    warm = client.connect(zygote.address)
    with tempfile.TemporaryDirectory() as folder:
        pool = Pool(warm, Setup("pynccl:join", {"folder": folder}, watched=False), forward=False)
        rows: dict[str, dict[str, dict[str, Any]]] = {}
        for dtype, collective, (label, length) in itertools.product(DTYPES, COLLECTIVES, SIZES.items()):
            given = {"collective": collective, "dtype": dtype, "length": length, "rounds": rounds}
            report = pool.run("pynccl:timed", given, size=size, seconds=300.0)
            rows.setdefault(dtype, {}).setdefault(collective, {})[label] = _row(report.values)
        pool.close()
    zygote.close()
    ratios = [row["gloo / host"] for kind in rows.values() for sizes in kind.values() for row in sizes.values()]
    import torch

    return {
        "what": "collectives of the host library through the reference's PyNcclCommunicator, beside gloo's on the same "
        "ranks: microseconds of a call, by the slowest rank of each round, and their ratio; medians of the rounds",
        "bytes": "those of the whole tensor that a rank holds: also what all_gather puts together and what "
        "reduce_scatter and all_to_all part, so that each rank's part is the ranks' number smaller",
        "notes": {
            "reduce": "by NCCLLibrary.ncclReduce, as PyNcclCommunicator has no method for it",
            "send_recv": "there and back between two neighbours, one call after the other",
        },
        "ranks": size,
        "rounds": rounds,
        "collectives": rows,
        "least ratio": min(ratios),
        "ratios below 5": sum(ratio < 5 for ratio in ratios),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _row(taken: tuple[Mapping[str, list[float]], ...]) -> dict[str, float]:
    """What the ranks' seconds come to."""
    slowest = {
        engine: [max(each) for each in zip(*(rank[engine] for rank in taken), strict=True)] for engine in ENGINES
    }
    ratios = [gloo / host for gloo, host in zip(slowest["gloo"], slowest["host"], strict=True)]
    microseconds = {f"{engine}, us": round(1e6 * statistics.median(slowest[engine]), 1) for engine in ENGINES}
    return {**microseconds, "gloo / host": round(statistics.median(ratios), 1)}


# On the ranks.


def join(rank: Rank, folder: str) -> Any:
    """Meet the others on gloo, and in a communicator of the host library."""
    import torch
    import torch.distributed as dist

    import sglang_reference
    from sglang_conformance.contract import tables

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/{rank.meeting}", rank=rank.number, world_size=rank.size
    )
    sglang_reference.install(tables.load(tables.releases()[-1]).to_json())
    pynccl = importlib.import_module("sglang.srt.distributed.device_communicators.pynccl")
    return pynccl.PyNcclCommunicator(dist.group.WORLD, "cpu", library_path="host")


def timed(rank: Rank, collective: str, dtype: str, length: int, rounds: int) -> dict[str, list[float]]:
    """The seconds of a call in each round, of each engine; the one that is first changes."""
    import torch
    import torch.distributed as dist

    actions = _actions(rank, collective, getattr(torch, dtype), length)
    calls = max(_FEWEST, min(_MOST, _WORK // length))
    seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    with rank.state.change_state(enable=True):
        for number in range(rounds + 1):
            for engine in ENGINES if number % 2 else ENGINES[::-1]:
                action = actions[engine]
                dist.barrier()
                started = time.perf_counter()
                for _ in range(calls):
                    action()
                taken = (time.perf_counter() - started) / calls
                if number:  # the first round warms both
                    seconds[engine].append(taken)
    return seconds


def _actions(rank: Rank, collective: str, dtype: Any, length: int) -> Actions:
    """One call of a collective over ``length`` bytes, by engine."""
    import torch
    import torch.distributed as dist

    comm, elements = rank.state, length // dtype.itemsize
    whole, room = torch.zeros(elements, dtype=dtype), torch.zeros(elements, dtype=dtype)
    part = torch.zeros(elements // rank.size, dtype=dtype)
    other, first = rank.number ^ 1, rank.number % 2 == 0

    def there_and_back(send: Callable[[Any, int], object], receive: Callable[[Any, int], object]) -> None:
        for sends in (first, not first):
            send(whole, other) if sends else receive(room, other)

    of_gloo: Actions = {
        "all_reduce": lambda: dist.all_reduce(whole),
        "reduce": lambda: dist.reduce(whole, 0),
        "broadcast": lambda: dist.broadcast(whole, 0),
        "all_gather": lambda: dist.all_gather_into_tensor(room, part),
        "reduce_scatter": lambda: dist.reduce_scatter_tensor(part, whole),
        "all_to_all": lambda: dist.all_to_all_single(room, whole),
        "send_recv": lambda: there_and_back(dist.send, dist.recv),
    }
    of_host: Actions = {
        "all_reduce": lambda: comm.all_reduce(whole),
        "reduce": lambda: _reduce(comm, whole),
        "broadcast": lambda: comm.broadcast(whole, 0),
        "all_gather": lambda: comm.all_gather(room, part),
        "reduce_scatter": lambda: comm.reduce_scatter(part, whole),
        "all_to_all": lambda: comm.all_to_all_single(room, whole),
        "send_recv": lambda: there_and_back(comm.send, comm.recv),
    }
    return {"gloo": of_gloo[collective], "host": of_host[collective]}


def _reduce(comm: Any, tensor: Any) -> None:
    """Into the first rank's tensor, in place as gloo does."""
    wrapper = importlib.import_module("sglang.srt.distributed.device_communicators.pynccl_wrapper")
    at, code = wrapper.buffer_type(tensor.data_ptr()), wrapper.ncclDataTypeEnum.from_torch(tensor.dtype)
    comm.nccl.ncclReduce(at, at, tensor.numel(), code, wrapper.ncclRedOpTypeEnum.ncclSum, 0, comm.comm, None)


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    print(json.dumps(main(*(numbers + [15, 2][len(numbers) :])), indent=1))
