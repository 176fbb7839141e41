"""Groups of torch.distributed: a backend's string taken apart, SGLang's choice of it, and one rank's life in a group.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from ...hosts import groups
from .. import expect, isolate
from . import worker

HOOKED = "a hook on SGLang's get_default_distributed_backend answers for it"
MORE = 2  # groups beside the default one
_LOOKUP = "sglang.srt.distributed.parallel_state.get_default_distributed_backend"


@dataclass(frozen=True)
class Rank:
    """One process in a group: its number, its device, and the answer that named the backend.

    Rank r gives r + 1 and 100 (r + 1) to each collective, so that sums and sources can be told.
    """

    number: int
    size: int
    device: Any
    answer: expect.Answer
    timeout: timedelta

    def own(self) -> Any:
        """The tensor that this rank gives."""
        import torch

        return torch.tensor([self.number + 1.0, 100.0 * (self.number + 1)], device=self.device)

    def attempt(self, call: str, action: Callable[[], Any]) -> Any:
        """Do something in the group; what it raises is a violation that names the call, the backend and the device."""
        text = f"{call} on {self.device}, with the backend {self.answer.value!r}"
        return expect.attempt(text, action, where=self.answer.where).value


Life = Callable[[Rank], Any]


def parsed(answer: expect.Answer) -> dict[str, str]:
    """The backend of each device type that the answered string covers, as torch reads it; a violation where it cannot.

    A plain name that torch does not know covers nothing: torch would take it for a backend of cpu, cuda and xpu.
    """
    from torch.distributed.distributed_c10d import Backend, BackendConfig

    text = answer.value
    if isinstance(text, str) and ":" not in text and text.lower() not in Backend.backend_list:
        return {}
    call = f"torch reads the backend {text!r}"
    config = expect.attempt(call, lambda: BackendConfig(Backend(text)), where=answer.where).value
    return {str(device): str(backend) for device, backend in config.get_device_backend_map().items()}


def available(name: str) -> bool:
    """Whether this torch has a backend of that name."""
    import torch.distributed as dist

    if name.lower() not in dist.Backend.backend_list:
        return False
    ask = getattr(dist, f"is_{name.lower()}_available", None)
    return bool(ask()) if callable(ask) else True


def chosen(device: str) -> expect.Answer:
    """The backend that SGLang takes for a device type or name."""
    from sglang.srt.distributed import parallel_state

    call = f"{_LOOKUP.rpartition('.')[2]}({device!r})"
    # By attribute, so that what a hook put in its place is called.
    return expect.attempt(call, lambda: parallel_state.get_default_distributed_backend(device))


@contextmanager
def noting(platform: Any) -> Iterator[list[Any]]:
    """Note each question for the platform's backend in the list, and have it answered.

    The question is put in the platform's class: an instance may refuse what is assigned to it.
    """
    kind, name = type(platform), "get_torch_distributed_backend_str"
    original, own = getattr(platform, name), vars(kind).get(name)
    asked: list[Any] = []

    def noted(self: Any) -> Any:
        asked.append(self)
        return original()

    setattr(kind, name, noted)
    try:
        yield asked
    finally:
        if own is None:
            delattr(kind, name)
        else:
            setattr(kind, name, own)


def member(platform: Any, device: Any, folder: str, life: Life, *, rank: int, size: int, deadline: float) -> Any:
    """Be one rank of a group that meets in ``folder``: what came of the life it leads there.

    Its peers have ``deadline`` seconds.
    """
    import torch.distributed as dist

    worker.make_current(platform, device)
    answer = expect.ask(platform, "get_torch_distributed_backend_str")
    call = f"init_process_group({answer.value!r}, rank={rank}, world_size={size})"
    timeout = timedelta(seconds=deadline)

    def join() -> None:
        meeting = f"file://{folder}/meeting"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dist.init_process_group(answer.value, init_method=meeting, rank=rank, world_size=size, timeout=timeout)

    expect.attempt(call, join, where=answer.where)
    try:
        return life(Rank(rank, size, device, answer, timeout))
    finally:
        dist.destroy_process_group()


def pair(platform: Any, call: str, life: Life, deadline: float) -> Iterator[tuple[int, Any]]:
    """Each of two ranks, with what came of the life there; Declined where there cannot be two of them."""
    if not isolate.can_fork(platform):
        raise expect.Declined(isolate.CANNOT_FORK)

    def rank(number: int, folder: str) -> Any:
        devices = worker.devices(platform)
        if len(devices) == 1 and devices[0].type != "cpu":
            return None  # two ranks on one accelerator: vendors' backends rightly refuse
        device = devices[number % len(devices)]
        return member(platform, device, folder, life, rank=number, size=2, deadline=deadline)

    with tempfile.TemporaryDirectory() as folder:
        jobs = [lambda: rank(0, folder), lambda: rank(1, folder)]
        for number, outcome in enumerate(isolate.in_forks(jobs, deadline)):
            seen = outcome.settled(f"rank {number}: {call}")
            if seen is None:
                raise expect.Declined("not to be seen here: two ranks need two devices, and there is one")
            yield number, seen


def reduced_and_sent(rank: Rank) -> list[list[float]]:
    """What the all-reduce gave, and the broadcast from the last rank."""
    import torch.distributed as dist

    reduced, sent = rank.own(), rank.own()
    rank.attempt("all_reduce", lambda: dist.all_reduce(reduced))
    rank.attempt("broadcast", lambda: dist.broadcast(sent, rank.size - 1))
    return [worker.values(reduced), worker.values(sent)]


def in_more_groups(rank: Rank) -> dict[str, list[list[float]]]:
    """What each collective gave, in each of the groups made beside the default one.

    They are made as SGLang makes those of its coordinators (0.5.23, srt/distributed/parallel_state.py:394): for each,
    one with the platform's backend and SGLang's options, and one with gloo.
    """
    import torch.distributed as dist

    def made(backend: str, options: Any = None) -> Any:
        ranks = list(range(rank.size))
        make = partial(dist.new_group, ranks, rank.timeout, backend, options)
        return rank.attempt(f"new_group({ranks}, {backend!r})", make)

    pairs = [(made(rank.answer.value, groups.options("tp")), made("gloo")) for _ in range(MORE)]
    results = [_in_one(rank, group) for group, _ in pairs]
    return {name: [result[name] for result in results] for name in results[0]}


def scattered_and_received(rank: Rank) -> list[list[float]]:
    """What the reduce-scatter gave this rank of two, and what it received from the other."""
    import torch
    import torch.distributed as dist

    scattered, received = torch.zeros(1, device=rank.device), torch.zeros(2, device=rank.device)
    rank.attempt("reduce_scatter_tensor", lambda: dist.reduce_scatter_tensor(scattered, rank.own()))
    other = 1 - rank.number
    for sender in range(rank.size):
        if sender == rank.number:
            rank.attempt(f"send to rank {other}", lambda: dist.send(rank.own(), other))
        else:
            rank.attempt(f"recv from rank {other}", lambda: dist.recv(received, other))
    return [worker.values(scattered), worker.values(received)]


def _in_one(rank: Rank, group: Any) -> dict[str, list[float]]:
    import torch
    import torch.distributed as dist

    seen: dict[str, list[float]] = {}

    def reduce(operation: Any) -> Any:
        tensor = rank.own()
        dist.all_reduce(tensor, operation, group=group)
        return tensor

    for name, operation in (("sum", dist.ReduceOp.SUM), ("min", dist.ReduceOp.MIN), ("max", dist.ReduceOp.MAX)):
        seen[name] = worker.values(rank.attempt(f"all_reduce, {name}", partial(reduce, operation)))
    whole = torch.zeros(2 * rank.size, device=rank.device)
    rank.attempt("all_gather_into_tensor", lambda: dist.all_gather_into_tensor(whole, rank.own(), group=group))
    return {**seen, "gathered": worker.values(whole)}
