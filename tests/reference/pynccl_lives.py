"""How a PyNCCL of the reference comes to life, and ends: checks that tests name, for ranks of pynccl_ranks."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from reference.group_ranks import lifetime
from reference.pynccl_ranks import (
    MISSING,
    mappings,
    methods,
    modules,
    of_all,
    raised,
    replaced,
    stateless,
    without_a_path,
    works,
)
from sglang_conformance.ranks.rank import Rank


def made(rank: Rank, group: str = "world", device: Any = "cpu", path: str | None = "host") -> dict[str, Any]:
    """A communicator made in this way: what it says of itself, what it was tried by, and that it works."""
    world, tried = rank.state, list[str]()
    device = torch.device(device[7:]) if isinstance(device, str) and device.startswith("device ") else device
    met = stateless(rank) if group == "stateless" else dist.group.WORLD

    def note(own: Any, self: Any, name: str, *arguments: Any) -> None:
        tried.append(name)
        own(self, name, *arguments)

    with replaced(world.wrapper.NCCLLibrary, "_call", note):
        comm = world.pynccl.PyNcclCommunicator(met, device, library_path=path)
    found = {
        "rank": comm.rank,
        "world_size": comm.world_size,
        "available": comm.available,
        "disabled": comm.disabled,
        "device": str(comm.device),
        "version": comm.nccl_version,
        "tried": tried[-2:],
    }
    works(rank, comm)
    comm.destroy()
    return found


def in_parts(rank: Rank) -> list[int]:
    """Communicators of some of the ranks only, in which they have other numbers."""
    last = list(range(1, rank.size))
    group = dist.new_group(last, backend="gloo")
    if rank.number == 0:
        return []
    comm = rank.state.pynccl.PyNcclCommunicator(group, "cpu", "host")
    given = torch.full((2,), float(rank.number))
    with comm.change_state(enable=True):
        comm.broadcast(given, src=1)
        assert given.tolist() == [2.0, 2.0]
        out = torch.zeros(len(last))
        comm.all_gather(out, torch.full((1,), float(rank.number)))
    assert out.tolist() == last
    comm.destroy()
    dist.destroy_process_group(group)
    return [comm.rank, comm.world_size]


def lacking(rank: Rank, who: Sequence[int], group: str = "world") -> dict[str, Any]:
    """Some ranks have no library."""
    started = time.monotonic()
    path = MISSING if rank.number in who else "host"
    met = stateless(rank) if group == "stateless" else dist.group.WORLD
    comm = rank.state.pynccl.PyNcclCommunicator(met, "cpu", library_path=path)
    seconds = time.monotonic() - started
    given = torch.ones(2)
    assert comm.all_reduce(given) is None
    with comm.change_state():  # as far as it is available: not at all
        assert comm.disabled
        assert comm.outplace_all_reduce(given) is None
    with comm.change_state(enable=True):
        errors = {name: raised(call) for name, call in methods(comm, given, torch.ones(2 * rank.size)).items()}
    assert given.tolist() == [1, 1]
    comm.destroy()
    return {
        "available": comm.available,
        "disabled": comm.disabled,
        "why": comm.why_unavailable,
        "seconds": seconds,
        "errors": errors,
    }


def unasked(rank: Rank) -> list[Any]:
    """A communicator on the CPU for which nobody names a library."""
    with without_a_path():
        comm = rank.state.pynccl.PyNcclCommunicator(dist.group.WORLD, "cpu")
        return [comm.available, comm.disabled, comm.why_unavailable]


def on_a_group_of_nccl(rank: Rank) -> list[str]:
    """A group that says that its backend is NCCL."""
    own, dist.get_backend = dist.get_backend, lambda group=None: dist.Backend("nccl")
    try:
        return raised(lambda: of_all(rank))
    finally:
        dist.get_backend = own


def joining_wrongly(rank: Rank) -> list[Any]:
    """The last rank comes for one rank too many: no rank joins, and none waits."""
    more, started = int(rank.number == rank.size - 1), time.monotonic()

    def miscounted(own: Any, self: Any, size: int, *given: Any) -> Any:
        return own(self, size + more, *given)

    with replaced(rank.state.wrapper.NCCLLibrary, "ncclCommInitRank", miscounted):
        said = raised(lambda: of_all(rank))
    seconds = time.monotonic() - started
    works(rank, rank.state.comm)
    return [said, seconds]


def without_an_id(rank: Rank) -> list[str]:
    """The library of the first rank can give no id."""

    def fails(own: Any, self: Any) -> Any:
        raise RuntimeError("no network")

    with replaced(rank.state.wrapper.NCCLLibrary, "ncclGetUniqueId", fails):
        return raised(lambda: of_all(rank))


def broken_hook(rank: Rank) -> list[Any]:
    """A platform's function that finds the library fails in a way of its own, on one rank."""

    def fails() -> str:
        raise RuntimeError("the vendor's own error")

    wrapper = rank.state.wrapper
    own = wrapper.find_nccl_library
    wrapper.find_nccl_library = fails if rank.number == 0 else own
    try:
        comm = rank.state.pynccl.PyNcclCommunicator(dist.group.WORLD, "cpu")
    finally:
        wrapper.find_nccl_library = own
    return [comm.available, comm.why_unavailable]


def configured(rank: Rank, **given: Any) -> dict[str, int]:
    """The configuration with which a communicator is made; nothing, where it is made without one."""
    seen: dict[str, int] = {}
    told = ("size", "magic", "blocking", "CTAPolicy", "graphUsageMode")

    def note(own: Any, self: Any, *arguments: Any) -> Any:
        seen.update({name: getattr(arguments[-1], name) for name in told})
        return own(self, *arguments)

    with replaced(rank.state.wrapper.NCCLLibrary, "ncclCommInitRankConfig", note):
        comm = of_all(rank, **given)
    works(rank, comm)
    comm.destroy()
    return seen


def destroyed(rank: Rank) -> list[str]:
    """A communicator that was given back, twice: off, and no more to be used; others of its ranks go on."""
    comm = of_all(rank)
    works(rank, comm)
    for _ in range(2):
        comm.destroy()
        assert (comm.available, comm.disabled) == (False, True)
        assert comm.all_reduce(torch.ones(1)) is None
    works(rank, rank.state.comm)
    with comm.change_state(enable=True):
        return raised(lambda: comm.all_reduce(torch.ones(1)))


def come_and_go(rank: Rank, times: int) -> list[int]:
    """What communicators leave that are made, used and given back: descriptors, mappings, tasks."""

    def cycle() -> None:
        comm = of_all(rank)
        works(rank, comm)
        comm.destroy()

    cycle()
    before = _held()
    for _ in range(times):
        cycle()
    return [now - then for now, then in zip(_held(), before, strict=True)]


def _held() -> list[int]:
    tasks = len(os.listdir("/proc/self/task"))
    return [len(os.listdir("/proc/self/fd")), mappings(), tasks]


def two_at_once(rank: Rank) -> None:
    """Two communicators of the same ranks keep their own order, state and operations."""
    one = rank.state.comm
    other = of_all(rank)
    size, own = rank.size, rank.number
    with one.change_state(enable=True):
        assert other.disabled
        with other.change_state(enable=True):
            for number in range(20):
                first, second = torch.full((3,), own + number), torch.zeros(size, dtype=torch.int64)
                one.all_reduce(first)
                other.all_gather(second, torch.tensor([own * number]))
                assert first.tolist() == [sum(r + number for r in range(size))] * 3
                assert second.tolist() == [r * number for r in range(size)]
    other.destroy()
    works(rank, one)


def windows(rank: Rank) -> list[str]:
    """Memory that is registered, used and forgotten."""
    comm, library = rank.state.comm, rank.state.comm.nccl
    pointer = library.ncclMemAlloc(4096)
    window = comm.register_comm_window_raw(pointer, 4096)
    assert window.value
    ctypes.memset(pointer, 1, 4096)
    buffer = rank.state.wrapper.buffer_type(pointer)
    library.ncclAllReduce(buffer, buffer, 4096, 1, 0, comm.comm, None)
    assert ctypes.string_at(pointer, 4096) == bytes([rank.size]) * 4096
    comm.deregister_comm_window(window)
    said = raised(lambda: comm.deregister_comm_window(window))
    library.ncclMemFree(pointer)
    return said


def of_an_early_release(rank: Rank, folder: str, release: str) -> dict[str, Any]:
    """A communicator of a release that makes it without a configuration, and gathers on a given stream."""
    with lifetime(rank, folder, release):
        comm = modules().pynccl.PyNcclCommunicator(dist.group.WORLD, "cpu", "host")
        works(rank, comm)
        out = torch.zeros(rank.size)
        comm.cp_all_gather_into_tensor(out, torch.full((1,), float(rank.number)), stream=None, sizes=[9])
        comm.destroy()
        kind, said = raised(lambda: comm.cp_all_gather_into_tensor(out, torch.ones(1), stream=None))
        assert (kind, "it was destroyed" in said) == ("RuntimeError", True)
        return {"gathered": out.tolist(), "disabled": comm.disabled, "exchanges": hasattr(comm, "all_to_all_single")}
