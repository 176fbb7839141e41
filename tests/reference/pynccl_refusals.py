"""What a PyNCCL of the reference refuses, and with what words: checks that tests name, for ranks of pynccl_ranks."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from reference.pynccl_ranks import methods, noting, of_all, raised, works
from reference.pynccl_values import movements
from sglang_conformance.ranks.rank import Rank


def refusals(rank: Rank, calls: Sequence[Sequence[Any]]) -> list[list[str]]:
    """What calls raise that do not fit, each a method, the names of its tensors and more; none writes anything."""
    comm, size = rank.state.comm, rank.size
    named = {"sizes": [4] * size, "sizes of 5": [5] * size}
    tensors = {
        "one": torch.ones(4),
        "all": torch.ones(4 * size),
        "short": torch.ones(4 * (size - 1)),
        "three": torch.ones(3),
        "more": torch.ones(4 * size + 1),
        "square": torch.ones(4, size),
        "int": torch.ones(4, dtype=torch.int32),
        "ints": torch.ones(4 * size, dtype=torch.int32),
        "meta": torch.ones(4, device="meta"),
        "metas": torch.ones(4 * size, device="meta"),
        "gaps": torch.ones(8)[::2],
        "gap": torch.ones(8 * size)[::2],
        "turned": torch.ones(size, 4).t(),
        "repeated": torch.ones(1).expand(4),
        "repeats": torch.ones(1).expand(4 * size),
    }
    kept = {name: each.clone() for name, each in tensors.items()}
    found = []
    with comm.change_state(enable=True):
        for method, names, more in calls:
            given = {name: named.get(value, value) if isinstance(value, str) else value for name, value in more.items()}
            found.append(raised(functools.partial(getattr(comm, method), *(tensors[n] for n in names), **given)))
    assert all(each.is_meta or each.equal(kept[name]) for name, each in tensors.items())
    works(rank, comm)
    return found


def unknown_types(rank: Rank, dtypes: Sequence[str]) -> dict[str, list[str]]:
    """What every method raises for a type, and for a reduction, that NCCL does not have."""
    comm, size = rank.state.comm, rank.size
    with comm.change_state(enable=True):
        found = {}
        for dtype in dtypes:
            few, many = (torch.zeros(n, dtype=getattr(torch, dtype)) for n in (2, 2 * size))
            for name, call in methods(comm, few, many).items():
                found[f"{dtype}: {name}"] = raised(call)
        few, many = torch.zeros(2), torch.zeros(2 * size)
        for op in (dist.ReduceOp.BAND, dist.ReduceOp.BOR, dist.ReduceOp.BXOR):
            found[f"{op}: all_reduce"] = raised(functools.partial(comm.all_reduce, few, op=op))
            found[f"{op}: reduce_scatter"] = raised(functools.partial(comm.reduce_scatter, few, many, op))
        works(rank, comm)
    return found


def disabled(rank: Rank) -> None:
    """While disabled no method does anything, whatever it is given, and the library is not called."""
    comm, size = rank.state.comm, rank.size
    assert (comm.available, comm.disabled) == (True, True)
    with noting(comm) as calls:
        for dtype, device in ((torch.float32, "cpu"), (torch.int16, "cpu"), (torch.float32, "meta")):
            few, many = (torch.arange(n + rank.number, n + rank.number + n).to(device, dtype) for n in (2, 2 * size))
            kept = few.clone(), many.clone()
            for name, call in methods(comm, few, many).items():
                assert call() is None, name
            assert device == "meta" or (few.equal(kept[0]) and many.equal(kept[1]))
        with comm.change_state(enable=True), comm.change_state(enable=False):
            assert comm.all_reduce(torch.ones(2)) is None
    assert calls == []
    works(rank, comm)


def library_errors(rank: Rank) -> dict[str, list[str]]:
    """What is raised where the library refuses, on every rank alike, and that it goes on after."""
    comm, size, given = rank.state.comm, rank.size, torch.ones(2)
    with comm.change_state(enable=True):
        found = {
            "broadcast": raised(lambda: comm.broadcast(given, src=size)),
            "send": raised(lambda: comm.send(given, dst=size)),
            "recv": raised(lambda: comm.recv(given, src=-1)),
            "group_end": raised(comm.group_end),
        }
        works(rank, comm)
    return found


def failing_group(rank: Rank) -> list[list[str]]:
    """Operations that consist of several calls, one of which fails: the thread is then in no group any more."""
    comm, size, library = rank.state.comm, rank.size, rank.state.comm.nccl
    few, many = torch.ones(2), torch.zeros(2 * size)
    found = []
    own, comm.comm = comm.comm, rank.state.wrapper.ncclComm_t(0x10)  # of which the library knows nothing
    try:
        with comm.change_state(enable=True):
            for call in (
                lambda: comm.all_gather(many, few, sizes=[2] * size),
                lambda: comm.reduce_scatter(few, many, sizes=[2] * size),
                lambda: comm.all_to_all_single(many, many.clone()),
            ):
                found.append(raised(call))
                found.append(raised(library.ncclGroupEnd))
                assert comm.disabled is False
    finally:
        comm.comm = own
    assert comm.disabled
    assert many.tolist() == [0] * (2 * size)
    works(rank, comm)
    movements(rank, "float32", 1)
    return found


def disagreeing(rank: Rank) -> list[Any]:
    """Ranks that call with different counts, on a communicator of their own."""
    comm = of_all(rank)
    with comm.change_state(enable=True):
        said = raised(lambda: comm.all_reduce(torch.ones(4 + rank.number)))
        again = raised(lambda: comm.all_reduce(torch.ones(1)))
    error = comm.nccl.ncclCommGetAsyncError(comm.comm)
    comm.nccl.ncclCommAbort(comm.comm)
    works(rank, rank.state.comm)
    return [said, again, error]


def deserted(rank: Rank) -> Any:
    """The first rank waits in a collective for one that is killed."""
    if rank.number:
        os.kill(os.getpid(), 9)
    with rank.state.comm.change_state(enable=True):
        return raised(lambda: rank.state.comm.all_reduce(torch.ones(1)))
