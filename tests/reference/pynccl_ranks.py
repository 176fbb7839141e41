"""Ranks with a PyNCCL of the reference on the host library, and what their checks share."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from host_nccl.host_ranks import numbers, poisoned, reduced, same, tensor
from import_path import REFERENCE, SIMULATED, TESTS, import_path
from reference.group_ranks import STATE, install, open_groups
from sglang_conformance.probes import client
from sglang_conformance.ranks.group import Setup
from sglang_conformance.ranks.pool import Pool
from sglang_conformance.ranks.rank import Rank

_MODULES = ("torch", "numpy", "reference.pynccl_ranks", "sglang_reference", "sglang_conformance.contract.tables")
PATH_VARIABLE = "SGLANG_NCCL_SO_PATH"
MISSING = "/does/not/exist/libnccl.so"
NCCL = "sglang.srt.distributed.device_communicators.pynccl"
WRAPPER = "sglang.srt.distributed.device_communicators.pynccl_wrapper"

_COLUMNS = 3


class Pools(NamedTuple):
    """Ranks that stand ready with a communicator (:func:`joined`), and ranks that have joined nothing yet."""

    joined: Pool
    fresh: Pool


@contextlib.contextmanager
def ranks(folder: str = "") -> Iterator[Pools]:
    """Pools of ranks, which meet in a folder. A group in which a check has failed is replaced."""
    environment = {
        "PYTHONPATH": import_path(TESTS, REFERENCE, SIMULATED),
        "OMP_NUM_THREADS": "1",
        "SGLANG_USE_CPU_ENGINE": "1",
        "SGLANG_HOST_MEMORY_TIMEOUT": "20",
    }
    zygote = client.start(_MODULES, environment)
    warm = client.connect(zygote.address)
    setup = Setup("reference.pynccl_ranks:joined", {"folder": folder}, watched=False)
    pools = Pools(*(Pool(warm, each, forward=False) for each in (setup, Setup(watched=False))))
    try:
        yield pools
    finally:
        for pool in pools:
            pool.close()
        warm.close()
        zygote.close()


@dataclass
class World:
    """What a rank works with: modules of the reference, and a communicator of all ranks."""

    state: Any
    pynccl: Any
    wrapper: Any
    comm: Any = None
    meetings: int = 0


def joined(rank: Rank, folder: str) -> World:
    """A rank whose groups have the host library by environment variable, and a communicator by its path."""
    torch.set_num_threads(1)
    os.environ[PATH_VARIABLE] = "host"
    rank.state = install("0.5.23")
    open_groups(rank, folder)
    world = modules()
    world.comm = world.pynccl.PyNcclCommunicator(dist.group.WORLD, torch.device("cpu"), library_path="host")
    return world


def modules() -> World:
    state, pynccl, wrapper = (importlib.import_module(name) for name in (STATE, NCCL, WRAPPER))
    return World(state, pynccl, wrapper)


def of_all(rank: Rank, **given: Any) -> Any:
    """A new communicator of all ranks."""
    return rank.state.pynccl.PyNcclCommunicator(dist.group.WORLD, "cpu", "host", **given)


# What is exchanged, and what comes of it.


def moving(rank: int, rows: int, dtype: str, salt: int = 0) -> Any:
    """Numbers that differ at each place between any two ranks."""
    return tensor((np.arange(rows * _COLUMNS) * 5 + rank * 37 + salt * 11) % 101, dtype).reshape(rows, _COLUMNS)


def reducible(rank: int, rows: int, dtype: str, salt: int = 0) -> Any:
    """Numbers that differ between ranks, whose sums and products over four ranks are exact in every type."""
    return tensor(numbers(rank, rows * _COLUMNS, dtype, salt), dtype).reshape(rows, _COLUMNS)


def wanted(parts: Sequence[Any], operation: str, dtype: str) -> Any:
    """What a reduction of tensors gives."""
    return reduced([part.to(torch.float64).numpy() for part in parts], operation, dtype)


def equal(got: Any, expected: Any, dtype: str) -> None:
    """Both of one shape, and every element as it should be."""
    right = np.asarray(expected, dtype=np.float64)
    assert tuple(got.shape) == right.shape, f"{tuple(got.shape)} is not {right.shape}"
    same(got.reshape(-1), right.reshape(-1), dtype)


def room(rows: int, dtype: str) -> Any:
    """Where a result goes, filled with what is none."""
    return poisoned(rows * _COLUMNS, dtype).reshape(rows, _COLUMNS)


def joint(parts: Sequence[Any]) -> Any:
    return torch.cat([part.to(torch.float64) for part in parts]).numpy()


def share(whole: Any, sizes: Sequence[int], rank: int) -> Any:
    first = sum(sizes[:rank])
    return whole[first : first + sizes[rank]]


def methods(comm: Any, few: Any, many: Any) -> dict[str, Callable[[], Any]]:
    """Every method that takes tensors: of a share of the elements, and of them all."""
    sizes = [len(few)] * comm.world_size
    return {
        "all_reduce": lambda: comm.all_reduce(few),
        "outplace_all_reduce": lambda: comm.outplace_all_reduce(few),
        "outplace_all_reduce into": lambda: comm.outplace_all_reduce(few, few),
        "all_gather": lambda: comm.all_gather(many, few),
        "all_gather of sizes": lambda: comm.all_gather(many, few, sizes=sizes),
        "reduce_scatter": lambda: comm.reduce_scatter(few, many),
        "reduce_scatter of sizes": lambda: comm.reduce_scatter(few, many, sizes=sizes),
        "send": lambda: comm.send(few, dst=0),
        "recv": lambda: comm.recv(few, src=0),
        "broadcast": lambda: comm.broadcast(few, src=0),
        "all_to_all_single": lambda: comm.all_to_all_single(many, many.clone()),
    }


# What is looked at, and put in place of another, for a while.


def raised(call: Callable[[], Any]) -> list[str]:
    """The type of what a call raises, and what it says; of nothing where it raises nothing."""
    try:
        call()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["", ""]


def works(rank: Rank, comm: Any) -> None:
    """An all-reduce gives what it should."""
    given = torch.arange(5.0) + rank.number
    with comm.change_state(enable=True):
        comm.all_reduce(given)
    places = range(comm.world_size)
    assert given.tolist() == [sum(n + rank.number - comm.rank + place for place in places) for n in range(5)]


class Noting:
    """The library, and which of its functions were called."""

    def __init__(self, library: Any) -> None:
        self.library = library
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self.library, name)


@contextlib.contextmanager
def noting(comm: Any) -> Iterator[list[str]]:
    """What a communicator calls for a while."""
    library, comm.nccl = comm.nccl, Noting(comm.nccl)
    try:
        yield comm.nccl.calls
    finally:
        comm.nccl = library


def mappings() -> int:
    """The communicators that this process holds."""
    return Path("/proc/self/maps").read_text().count("sglang-host-memory")


@contextlib.contextmanager
def replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """For a while, another function in the place of one, which is given that one first."""
    own = getattr(owner, name)
    setattr(owner, name, functools.partialmethod(lambda self, *given: function(own, self, *given)))
    try:
        yield
    finally:
        setattr(owner, name, own)


def stateless(rank: Rank) -> Any:
    """A group that meets over a store alone."""
    utils = importlib.import_module("sglang.srt.distributed.utils")
    world, store = rank.state, dist.distributed_c10d._get_default_store()
    world.meetings += 1
    own = dist.PrefixStore(f"pynccl {world.meetings}", store)  # type: ignore[attr-defined]
    return utils.StatelessProcessGroup(rank.number, rank.size, own)


@contextlib.contextmanager
def without_a_path() -> Iterator[None]:
    path = os.environ.pop(PATH_VARIABLE)
    try:
        yield
    finally:
        os.environ[PATH_VARIABLE] = path


@contextlib.contextmanager
def host_library() -> Iterator[None]:
    os.environ[PATH_VARIABLE] = "host"
    try:
        yield
    finally:
        del os.environ[PATH_VARIABLE]
