"""What ranks are made to do in the tests of the pool."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from datetime import timedelta
from typing import Any

from sglang_conformance.ranks.rank import Rank
from sglang_conformance.ranks.store import store_of


def join(rank: Rank, store: str) -> None:
    """A set-up: the ranks make a group of gloo."""
    import torch.distributed as dist

    dist.init_process_group(
        "gloo",
        store=store_of(store, rank.meeting, rank.seconds),
        rank=rank.number,
        world_size=rank.size,
        timeout=timedelta(seconds=30),
    )


def join_badly(rank: Rank) -> None:
    if rank.number == 1:
        raise ValueError("no such device")
    time.sleep(600)


def who(rank: Rank) -> list[int]:
    return [rank.number, rank.size]


def echo(rank: Rank, value: Any) -> Any:
    return value


def pid(rank: Rank) -> int:
    return os.getpid()


def total(rank: Rank) -> float:
    import torch
    import torch.distributed as dist

    tensor = torch.tensor([2.0**rank.number])
    dist.all_reduce(tensor)
    return float(tensor)


def nothing(rank: Rank) -> None:
    return None


def raises_on(rank: Rank, number: int) -> str:
    if rank.number == number:
        print("about to raise")
        raise KeyError("k")
    return "fine"


def raises_before_a_collective(rank: Rank, number: int) -> float:
    if rank.number == number:
        raise KeyError("k")
    return total(rank)


def raises_everywhere(rank: Rank) -> None:
    total(rank)
    raise ValueError("as wanted")


def dies_on(rank: Rank, number: int, how: str) -> float:
    if rank.number == number:
        if how == "exit":
            os._exit(7)
        os.kill(os.getpid(), getattr(signal, how))
    return total(rank)


def hangs_on(rank: Rank, number: int) -> None:
    if rank.number == number:
        time.sleep(600)


def hangs_deaf_on(rank: Rank, number: int) -> None:
    if rank.number == number:
        for deaf in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(deaf, signal.SIG_IGN)
        while True:
            pass


def misses(rank: Rank, number: int) -> None:
    """One rank does not come to the second all-reduce."""
    total(rank)
    if rank.number != number:
        total(rank)


def disagrees(rank: Rank, what: str) -> None:
    import torch
    import torch.distributed as dist

    odd = rank.number == 1
    tensor = torch.zeros(3 if odd and what == "shape" else 2, dtype=torch.int32 if odd and what == "dtype" else None)
    if what == "root":
        dist.broadcast(tensor, src=int(odd))
    elif what == "operation":
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX if odd else dist.ReduceOp.SUM)
    elif what == "kind" and odd:
        dist.barrier()
    else:
        dist.all_reduce(tensor)


def prints(rank: Rank, count: int) -> None:
    print(f"rank {rank.number} says", "x" * count)
    sys.stderr.write("and this\n")


def leaves(rank: Rank, what: str) -> None:
    if what == "environment":
        os.environ["LEFT_BY_A_CHECK"] = "1"
    elif what == "folder":
        os.chdir("/")
    elif what == "default dtype":
        import torch

        torch.set_default_dtype(torch.float64)
    elif what == "process groups":
        import torch.distributed as dist

        dist.new_group([0, 1])


def random_numbers(rank: Rank) -> list[float]:
    import random

    import torch

    return [random.random(), float(torch.rand(1))]


def no_data(rank: Rank) -> Any:
    return threading.Lock()


def overlapping(rank: Rank, rounds: int) -> list[float]:
    """Two groups, used in an order that differs from rank to rank where that is right."""
    import torch
    import torch.distributed as dist

    pairs = [dist.new_group([0, 1]), dist.new_group([1, 2])]
    seen = []
    for _ in range(rounds):
        for place, pair in enumerate(pairs):
            if rank.number in (place, place + 1):
                tensor = torch.tensor([2.0**rank.number])
                dist.all_reduce(tensor, group=pair)
                seen.append(float(tensor))
    for pair in pairs:
        if rank.number in dist.get_process_group_ranks(pair):
            dist.destroy_process_group(pair)
    return seen


def surroundings(rank: Rank) -> dict[str, Any]:
    """What a rank of a cluster finds of the launcher and of the secret, and its number on its host."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "TORCHELASTIC_RUN_ID", "SGLANG_CONFORMANCE_SECRET")
    return {"local": rank.local, "found": [name for name in names if name in os.environ]}


def host(rank: Rank) -> str:
    import platform

    return platform.node()


def fails_in_set_up(rank: Rank) -> None:
    raise ValueError("no such device")


def warms(probe: Any, value: int) -> tuple[Any, int]:
    """A job that makes a warm process."""
    return {"made": value, "before": probe.state}, value


def warms_badly(probe: Any) -> None:
    raise OSError("no driver")


def state(rank: Rank) -> Any:
    return rank.state


def prints_for_ever_on(rank: Rank, number: int) -> None:
    while rank.number == number:
        print("x" * 10_000)


def hangs_everywhere(rank: Rank) -> None:
    time.sleep(600)


def tells_or_raises(probe: Any, value: Any) -> Any:
    """A job in a probe."""
    if value is None:
        raise ValueError("no value")
    return [probe.state, value]


def ends_after_it_has_answered_on(rank: Rank, number: int) -> None:
    if rank.number == number:
        threading.Timer(0.1, os._exit, (3,)).start()
    else:
        time.sleep(0.4)
