"""What a check on ranks, and a whole certification, costs beside torch's own multi-process test cases.

python benchmarks/ranks.py [ROUNDS] > reports/benchmarks/ranks.json

Takes some minutes a round: one of torch's rows is a timeout of two. Torch's test cases want the package expecttest.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

SIZES = (2, 4)
FEW, MANY = 10, 2_010
A_MESSAGE = 64
FAILURES: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "raise": ("raises", {}),
    "raise, its peer in a collective": ("raises_before_a_collective", {}),
    "killed": ("dies", {"how": "SIGKILL"}),
    "segmentation fault": ("dies", {"how": "SIGSEGV"}),
    "a collective of another shape": ("disagrees", {}),
    "a collective that one rank does not call": ("misses", {}),
    "endless loop, deadline 1 s": ("hangs", {}),
}

BODIES = """
import os, signal

def join(rank, store):
    import torch.distributed as dist
    from sglang_conformance.ranks.store import store_of
    met = store_of(store, rank.meeting, rank.seconds)
    dist.init_process_group("gloo", store=met, rank=rank.number, world_size=rank.size)

def total(rank):
    import torch, torch.distributed as dist
    tensor = torch.ones(4)
    dist.all_reduce(tensor)
    assert tensor.tolist() == [float(rank.size)] * 4

def nothing(rank):
    pass

def often(rank, count):
    for _ in range(count): nothing(rank)

def raises(rank):
    if rank.number: raise ValueError("as wanted")

def raises_before_a_collective(rank):
    raises(rank)
    total(rank)

def dies(rank, how):
    if rank.number: os.kill(os.getpid(), getattr(signal, how))
    total(rank)

def disagrees(rank):
    import torch, torch.distributed as dist
    dist.all_reduce(torch.ones(4 + rank.number))

def misses(rank):
    if not rank.number: total(rank)

def hangs(rank):
    while rank.number: pass
"""

TORCH_CASE = """
import torch, torch.distributed as dist
from torch.testing._internal.common_distributed import {base}
from torch.testing._internal.common_utils import run_tests

class Checks({base}):
    world_size = {size}
    {body}

def total(self):
    {start}
    tensor = torch.ones(4)
    dist.all_reduce(tensor)
    assert tensor.tolist() == [{size}.0] * 4
    {end}

for number in range({count}):
    def case(self, total=total): total(self)
    setattr(Checks, f"test_{{number:04}}", case)
{more}
if __name__ == "__main__":
    run_tests()
"""
SPAWNING = {
    "base": "MultiProcessTestCase",
    "body": "def setUp(self):\n        super().setUp()\n        self._spawn_processes()",
    "start": "init = f'file://{self.file_name}'\n"
    "    dist.init_process_group('gloo', init_method=init, rank=self.rank, world_size=self.world_size)",
    "end": "dist.destroy_process_group()",
}
CONTINUOUS = {
    "base": "MultiProcContinuousTest",
    "body": "backend_str = classmethod(lambda cls: 'gloo')\n    device_type = classmethod(lambda cls: 'cpu')",
    "start": "",
    "end": "",
}
RAISING = """
def case(self):
    if self.rank == 1: raise ValueError("as wanted")
    dist.all_reduce(torch.ones(4))
Checks.test_9999 = case
"""


def main(rounds: int) -> dict[str, object]:
    """Time everything in turn, so many times; medians, and ratios within each round."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bodies.py").write_text(BODIES, encoding="ascii")
        taken = {size: [_round(folder, size) for _ in range(rounds)] for size in SIZES}
        certified = [_certification(folder) for _ in range(rounds)]
        raised = _torch(folder, CONTINUOUS, SIZES[0], 1, RAISING)
    return {
        "what": "one all-reduce of four numbers on gloo ranks, as a check; seconds are medians of the rounds",
        "rounds": rounds,
        **{f"{size} ranks": _summary(rows) for size, rows in taken.items()},
        "certification": _certified(certified),
        f"MultiProcContinuousTest, one of {SIZES[0]} ranks raises, seconds": round(raised, 2),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _summary(taken: list[dict[str, float]]) -> dict[str, object]:
    def ratio(one: str, other: str) -> float:
        return round(statistics.median(row[one] / row[other] for row in taken), 1)

    return {
        "seconds": {name: round(statistics.median(one[name] for one in taken), 6) for name in taken[0]},
        "ratios to the pool": {
            "a check, MultiProcessTestCase": ratio("MultiProcessTestCase, a check", "pool, a check"),
            "a check, MultiProcContinuousTest": ratio("MultiProcContinuousTest, a further check", "pool, a check"),
            f"start and {FEW} checks, MultiProcContinuousTest": ratio(
                f"MultiProcContinuousTest, start and {FEW} checks", f"pool, start and {FEW} checks"
            ),
        },
    }


def _certified(taken: list[dict[str, float]]) -> dict[str, object]:
    yardstick = f"MultiProcessTestCase, a check on {SIZES[0]} ranks"

    def ratio(name: str) -> float:
        return round(statistics.median(row[name] / row[yardstick] for row in taken), 1)

    return {
        "seconds": {name: round(statistics.median(row[name] for row in taken), 2) for name in taken[0]},
        f"as long as so many of {yardstick}": {name: ratio(name) for name in taken[0] if name != yardstick},
    }


def _certification(folder: str) -> dict[str, float]:
    """The whole suite on the CPU, in one pytest process and in two workers, and torch's test case just before it."""
    one, three = (_torch(folder, SPAWNING, SIZES[0], count) for count in (1, 3))
    pytest = [sys.executable, "-m", "pytest", "--platform=cpu", "--sglang=reference", "-p", "no:cacheprovider"]
    runs = {"pytest --platform=cpu": pytest, "pytest --platform=cpu -n 2": [*pytest, "-n", "2"]}
    return {
        **{name: _seconds(partial(_run, command, folder)) for name, command in runs.items()},
        f"MultiProcessTestCase, a check on {SIZES[0]} ranks": (three - one) / 2,
    }


def _round(folder: str, size: int) -> dict[str, float]:
    few, many = (_torch(folder, CONTINUOUS, size, count) for count in (FEW, MANY))
    one, three = (_torch(folder, SPAWNING, size, count) for count in (1, 3))
    return {
        **_pool(folder, size),
        "MultiProcContinuousTest, a further check": (many - few) / (MANY - FEW),
        f"MultiProcContinuousTest, start and {FEW} checks": few,
        "MultiProcessTestCase, a check": (three - one) / 2,
    }


def _pool(folder: str, size: int) -> dict[str, float]:
    """In a fresh interpreter, as the others are."""
    command = [sys.executable, __file__, "pool", str(size)]
    start = _seconds(lambda: _run([*command, str(FEW)], folder))
    inner: dict[str, float] = json.loads(_run([*command, "inside"], folder))
    return {f"pool, start and {FEW} checks": start, **inner}


def pool_run(size: int, count: str) -> dict[str, float]:
    """The pool's part, in a process of its own: ``count`` checks, or (``inside``) the rows of a warm pool."""
    from sglang_conformance.probes import client
    from sglang_conformance.ranks.group import Setup
    from sglang_conformance.ranks.pool import Pool
    from sglang_conformance.ranks.store import Keeper

    zygote = client.start(("torch", "torch.distributed", "bodies", "sglang_conformance.ranks.rank"))
    warm = client.connect(zygote.address)
    keeper = Keeper(warm)
    setup = Setup("bodies:join", {"store": keeper.address})
    pool = Pool(warm, setup)

    def check(name: str = "total", **arguments: object) -> float:
        return _seconds(lambda: pool.run(f"bodies:{name}", arguments, size=size, seconds=1.0))

    def start_to_end() -> None:
        alone = Pool(warm, setup, forward=False)
        alone.run("bodies:nothing", size=size)
        alone.close()

    rows: dict[str, float] = {}
    if count != "inside":
        for _ in range(int(count)):
            check()
    else:
        check()
        time.sleep(0.5)  # the spare is made meanwhile
        rows["pool, a check"] = statistics.median(check() for _ in range(200))
        rows["pool, a check that does nothing"] = statistics.median(check("nothing") for _ in range(200))
        rows[f"pool, the same, one of {A_MESSAGE} in a message"] = (
            statistics.median(check("often", count=A_MESSAGE) for _ in range(50)) / A_MESSAGE
        )
        rows["pool, a group from start to end"] = statistics.median(_seconds(start_to_end) for _ in range(5))
        for label, (name, arguments) in FAILURES.items():
            rows[f"pool, {label}"] = check(name, **arguments)
            rows[f"pool, the next check after: {label}"] = check()
            time.sleep(0.5)
    pool.close()
    keeper.close()
    zygote.close()
    return rows


def _torch(folder: str, kind: Mapping[str, str], size: int, count: int, more: str = "") -> float:
    file = Path(folder, "case.py")
    file.write_text(TORCH_CASE.format(size=size, count=count, more=more, **kind), encoding="ascii")
    return _seconds(lambda: _run([sys.executable, str(file)], folder, check=not more))


def _run(command: list[str], folder: str, *, check: bool = True) -> str:
    environment = {**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    if sys.argv[1:2] == ["pool"]:
        print(json.dumps(pool_run(int(sys.argv[2]), sys.argv[3])))
    else:
        print(json.dumps(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3), indent=1))
