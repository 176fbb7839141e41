"""Ranks with a PyNCCL of the reference on the host library, and what they are made to do: checks named by the tests."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist

import sglang_reference
from host_nccl.host_ranks import OPERATIONS, poisoned, reduced, same, tensor
from reference.group_ranks import STATE, install, install_with_duplicate, lifetime, open_groups, opened
from sglang_conformance.contract import tables
from sglang_conformance.probes import client
from sglang_conformance.ranks.group import Setup
from sglang_conformance.ranks.pool import Pool
from sglang_conformance.ranks.rank import Rank

_TESTS = Path(__file__).parents[1]
_PATHS = (_TESTS, _TESTS.parent / "reference", _TESTS.parent / "reference" / "sglang_simulated")
_MODULES = ("torch", "numpy", "reference.pynccl_ranks", "sglang_reference", "sglang_conformance.contract.tables")
PATH_VARIABLE = "SGLANG_NCCL_SO_PATH"
MISSING = "/does/not/exist/libnccl.so"
NCCL = "sglang.srt.distributed.device_communicators.pynccl"
WRAPPER = "sglang.srt.distributed.device_communicators.pynccl_wrapper"

_SIZES = (2, 0, 3, 1)
_COLUMNS = 3
_REDUCTIONS = ("SUM", "PRODUCT", "MAX", "MIN", "AVG")  # in torch, in the order of OPERATIONS


class Pools(NamedTuple):
    """Ranks that stand ready with a communicator (:func:`joined`), and ranks that have joined nothing yet."""

    joined: Pool
    fresh: Pool


@contextlib.contextmanager
def ranks(folder: str = "") -> Iterator[Pools]:
    """Pools of ranks, which meet in a folder. A group in which a check has failed is replaced."""
    environment = {
        "PYTHONPATH": os.pathsep.join(map(str, _PATHS)),
        "OMP_NUM_THREADS": "1",
        "SGLANG_USE_CPU_ENGINE": "1",
        "SGLANG_HOST_NCCL_TIMEOUT": "20",
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
    world = _world()
    world.comm = world.pynccl.PyNcclCommunicator(dist.group.WORLD, torch.device("cpu"), library_path="host")
    return world


def _world() -> World:
    state, pynccl, wrapper = (importlib.import_module(name) for name in (STATE, NCCL, WRAPPER))
    return World(state, pynccl, wrapper)


# What is exchanged, and what comes of it.


def moving(rank: int, rows: int, dtype: str, salt: int = 0) -> Any:
    """Numbers that differ at each place between any two ranks."""
    return tensor((np.arange(rows * _COLUMNS) * 5 + rank * 37 + salt * 11) % 101, dtype).reshape(rows, _COLUMNS)


def reducible(rank: int, rows: int, dtype: str, salt: int = 0) -> Any:
    """Numbers that differ between ranks, whose sums and products over four ranks are exact in every type."""
    drawn = np.random.default_rng([rank, salt]).integers(1, 4, rows * _COLUMNS)
    signed = drawn if dtype.startswith("u") else drawn * (-1) ** rank
    return tensor(signed, dtype).reshape(rows, _COLUMNS)


def wanted(parts: Sequence[Any], operation: str, dtype: str) -> Any:
    """What a reduction of tensors gives."""
    return reduced([part.to(torch.float64).numpy() for part in parts], operation, dtype)


def equal(got: Any, expected: Any, dtype: str) -> None:
    """Both of one shape, and every element as it should be."""
    numbers = np.asarray(expected, dtype=np.float64)
    assert tuple(got.shape) == numbers.shape, f"{tuple(got.shape)} is not {numbers.shape}"
    same(got.reshape(-1), numbers.reshape(-1), dtype)


def room(rows: int, dtype: str) -> Any:
    """Where a result goes, filled with what is none."""
    return poisoned(rows * _COLUMNS, dtype).reshape(rows, _COLUMNS)


def joint(parts: Sequence[Any]) -> Any:
    return torch.cat([part.to(torch.float64) for part in parts]).numpy()


def share(whole: Any, sizes: Sequence[int], rank: int) -> Any:
    first = sum(sizes[:rank])
    return whole[first : first + sizes[rank]]


# Every method, by value.


def reductions(rank: Rank, dtype: str, rows: int, operations: Sequence[str] = OPERATIONS) -> None:
    """All that reduce, in place and not, even and uneven."""
    comm, size, own = rank.state.comm, rank.size, rank.number
    sizes = [rows * n for n in _SIZES[:size]]
    with comm.change_state(enable=True):
        for salt, operation in enumerate(operations):
            op = getattr(dist.ReduceOp, _REDUCTIONS[OPERATIONS.index(operation)])
            parts = [reducible(r, rows, dtype, salt) for r in range(size)]
            result = wanted(parts, operation, dtype)
            given = parts[own].clone()
            assert comm.all_reduce(given, op=op) is None
            equal(given, result, dtype)

            given, out = parts[own].clone(), room(rows, dtype)
            equal(comm.outplace_all_reduce(given, op=op), result, dtype)
            assert comm.outplace_all_reduce(given, out, op) is out
            equal(out, result, dtype)
            assert given.equal(parts[own])

            parts = [reducible(r, rows * size, dtype, salt) for r in range(size)]
            given, out = parts[own].clone(), room(rows, dtype)
            assert comm.reduce_scatter(out, given, op=op) is None
            equal(out, share(wanted(parts, operation, dtype), [rows] * size, own), dtype)
            assert given.equal(parts[own])

            parts = [reducible(r, sum(sizes), dtype, salt) for r in range(size)]
            given, out = parts[own].clone(), room(sizes[own], dtype)
            assert comm.reduce_scatter(out, given, op=op, sizes=sizes) is None
            equal(out, share(wanted(parts, operation, dtype), sizes, own), dtype)
            assert given.equal(parts[own])


def movements(rank: Rank, dtype: str, rows: int) -> None:
    """All that only move numbers."""
    comm, size, own = rank.state.comm, rank.size, rank.number
    sizes = [rows * n for n in _SIZES[:size]]
    parts = [moving(r, rows, dtype) for r in range(size)]
    with comm.change_state(enable=True):
        given, out = parts[own].clone(), room(rows * size, dtype)
        assert comm.all_gather(out, given) is None
        equal(out, joint(parts), dtype)
        assert given.equal(parts[own])

        uneven = [moving(r, n, dtype, 1) for r, n in enumerate(sizes)]
        given, out = uneven[own].clone(), room(sum(sizes), dtype)
        assert comm.all_gather(out, given, sizes=sizes) is None
        equal(out, joint(uneven), dtype)
        assert given.equal(uneven[own])

        for root in range(size):
            given = parts[own].clone()
            assert comm.broadcast(given, src=root) is None
            equal(given, joint([parts[root]]), dtype)

        whole = [moving(r, rows * size, dtype, 2) for r in range(size)]
        given, out = whole[own].clone(), room(rows * size, dtype)
        assert comm.all_to_all_single(out, given) is None
        equal(out, joint([share(one, [rows] * size, own) for one in whole]), dtype)
        assert given.equal(whole[own])

        out = room(rows, dtype)
        turns: list[Callable[[], Any]] = [
            lambda: comm.send(parts[own], dst=(own + 1) % size),
            lambda: comm.recv(out, src=(own - 1) % size),
        ]
        for turn in turns if own % 2 == 0 else turns[::-1]:
            assert turn() is None
        equal(out, joint([parts[own - 1]]), dtype)


def grouped(rank: Rank) -> None:
    """What is between a start and an end is done at the end, and all of it at once."""
    comm, size, own = rank.state.comm, rank.size, rank.number
    after, before = (own + 1) % size, (own - 1) % size
    mine, theirs, total = moving(own, 4, "float32"), room(4, "float32"), moving(own, 2, "int64")
    with comm.change_state(enable=True):
        comm.group_start()
        comm.recv(theirs, src=before)  # each rank receives first: one by one, these would wait for ever
        comm.send(mine, dst=after)
        comm.all_reduce(total)
        unchanged = theirs.equal(room(4, "float32")), total.equal(moving(own, 2, "int64"))
        comm.group_end()
    assert unchanged == (True, True)
    equal(theirs, joint([moving(before, 4, "float32")]), "float32")
    assert total.equal(torch.stack([moving(r, 2, "int64") for r in range(size)]).sum(0))


def of_any_shape(rank: Rank, shape: Sequence[int]) -> None:
    """Tensors of no element, of no dimension and of several."""
    comm, size, own = rank.state.comm, rank.size, rank.number
    given = torch.full(tuple(shape), own + 1.0)
    stacked = torch.full((size * shape[0], *shape[1:]), -1.0) if shape else torch.full((size,), -1.0)
    with comm.change_state(enable=True):
        comm.all_gather(stacked, given)
        comm.all_reduce(given)
        out = comm.outplace_all_reduce(given)
        comm.broadcast(out, src=size - 1)
    total = size * (size + 1) / 2
    assert given.equal(torch.full(tuple(shape), total))
    assert out.equal(torch.full(tuple(shape), total * size))
    for number, part in enumerate(stacked.reshape(size, *shape)):
        assert part.equal(torch.full(tuple(shape), number + 1.0))


def in_any_order(rank: Rank) -> None:
    """Tensors without gaps, whose elements lie in another order than that of their indices, are reduced rightly."""
    comm, size = rank.state.comm, rank.size
    base = [moving(r, 8, "float32").reshape(2, 3, 4) for r in range(size)]
    total = torch.stack(base).sum(0)
    views: dict[str, Callable[[Any], Any]] = {
        "transposed": lambda t: t.transpose(0, 2),
        "permuted": lambda t: t.permute(1, 2, 0),
        "with a dimension of one": lambda t: t.transpose(0, 1).unsqueeze(1),
    }
    with comm.change_state(enable=True):
        for name, view in views.items():
            given = view(base[rank.number].clone())
            assert not given.is_contiguous(), name
            out = comm.outplace_all_reduce(given)
            assert (out.stride(), out.equal(view(total))) == (given.stride(), True), name
            assert given.equal(view(base[rank.number])), name
            comm.all_reduce(given)
            assert given.equal(view(total)), name


# What is refused.


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
            for name, call in _methods(comm, few, many).items():
                found[f"{dtype}: {name}"] = raised(call)
        few, many = torch.zeros(2), torch.zeros(2 * size)
        for op in (dist.ReduceOp.BAND, dist.ReduceOp.BOR, dist.ReduceOp.BXOR):
            found[f"{op}: all_reduce"] = raised(functools.partial(comm.all_reduce, few, op=op))
            found[f"{op}: reduce_scatter"] = raised(functools.partial(comm.reduce_scatter, few, many, op))
        works(rank, comm)
    return found


def _methods(comm: Any, few: Any, many: Any) -> dict[str, Callable[[], Any]]:
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


def raised(call: Callable[[], Any]) -> list[str]:
    """The type of what a call raises, and what it says; of nothing where it raises nothing."""
    try:
        call()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["", ""]


def works(rank: Rank, comm: Any) -> None:
    """An all-reduce gives what it should."""
    numbers = torch.arange(5.0) + rank.number
    with comm.change_state(enable=True):
        comm.all_reduce(numbers)
    places = range(comm.world_size)
    assert numbers.tolist() == [sum(n + rank.number - comm.rank + place for place in places) for n in range(5)]


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


def disabled(rank: Rank) -> None:
    """While disabled no method does anything, whatever it is given, and the library is not called."""
    comm, size = rank.state.comm, rank.size
    assert (comm.available, comm.disabled) == (True, True)
    with noting(comm) as calls:
        for dtype, device in ((torch.float32, "cpu"), (torch.int16, "cpu"), (torch.float32, "meta")):
            few, many = (torch.arange(n + rank.number, n + rank.number + n).to(device, dtype) for n in (2, 2 * size))
            kept = few.clone(), many.clone()
            for name, call in _methods(comm, few, many).items():
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
    comm = _of_all(rank)
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


# Coming to life, and its end.


def made(rank: Rank, group: str = "world", device: Any = "cpu", path: str | None = "host") -> dict[str, Any]:
    """A communicator made in this way: what it says of itself, what it was tried by, and that it works."""
    world, tried = rank.state, list[str]()
    device = torch.device(device[7:]) if isinstance(device, str) and device.startswith("device ") else device
    met = _stateless(rank) if group == "stateless" else dist.group.WORLD

    def note(own: Any, self: Any, name: str, *arguments: Any) -> None:
        tried.append(name)
        own(self, name, *arguments)

    with _replaced(world.wrapper.NCCLLibrary, "_call", note):
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


@contextlib.contextmanager
def _replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """For a while, another function in the place of one, which is given that one first."""
    own = getattr(owner, name)
    setattr(owner, name, functools.partialmethod(lambda self, *given: function(own, self, *given)))
    try:
        yield
    finally:
        setattr(owner, name, own)


def _stateless(rank: Rank) -> Any:
    """A group that meets over a store alone."""
    utils = importlib.import_module("sglang.srt.distributed.utils")
    world, store = rank.state, dist.distributed_c10d._get_default_store()
    world.meetings += 1
    own = dist.PrefixStore(f"pynccl {world.meetings}", store)  # type: ignore[attr-defined]
    return utils.StatelessProcessGroup(rank.number, rank.size, own)


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
    met = _stateless(rank) if group == "stateless" else dist.group.WORLD
    comm = rank.state.pynccl.PyNcclCommunicator(met, "cpu", library_path=path)
    seconds = time.monotonic() - started
    given = torch.ones(2)
    assert comm.all_reduce(given) is None
    with comm.change_state():  # as far as it is available: not at all
        assert comm.disabled
        assert comm.outplace_all_reduce(given) is None
    with comm.change_state(enable=True):
        errors = {name: raised(call) for name, call in _methods(comm, given, torch.ones(2 * rank.size)).items()}
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


@contextlib.contextmanager
def without_a_path() -> Iterator[None]:
    path = os.environ.pop(PATH_VARIABLE)
    try:
        yield
    finally:
        os.environ[PATH_VARIABLE] = path


def on_a_group_of_nccl(rank: Rank) -> list[str]:
    """A group that says that its backend is NCCL."""
    own, dist.get_backend = dist.get_backend, lambda group=None: dist.Backend("nccl")
    try:
        return raised(lambda: _of_all(rank))
    finally:
        dist.get_backend = own


def joining_wrongly(rank: Rank) -> list[Any]:
    """The last rank comes for one rank too many: no rank joins, and none waits."""
    more, started = int(rank.number == rank.size - 1), time.monotonic()

    def miscounted(own: Any, self: Any, size: int, *given: Any) -> Any:
        return own(self, size + more, *given)

    with _replaced(rank.state.wrapper.NCCLLibrary, "ncclCommInitRank", miscounted):
        said = raised(lambda: _of_all(rank))
    seconds = time.monotonic() - started
    works(rank, rank.state.comm)
    return [said, seconds]


def _of_all(rank: Rank, **given: Any) -> Any:
    """A new communicator of all ranks."""
    return rank.state.pynccl.PyNcclCommunicator(dist.group.WORLD, "cpu", "host", **given)


def without_an_id(rank: Rank) -> list[str]:
    """The library of the first rank can give no id."""

    def fails(own: Any, self: Any) -> Any:
        raise RuntimeError("no network")

    with _replaced(rank.state.wrapper.NCCLLibrary, "ncclGetUniqueId", fails):
        return raised(lambda: _of_all(rank))


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

    with _replaced(rank.state.wrapper.NCCLLibrary, "ncclCommInitRankConfig", note):
        comm = _of_all(rank, **given)
    works(rank, comm)
    comm.destroy()
    return seen


def destroyed(rank: Rank) -> list[str]:
    """A communicator that was given back, twice: off, and no more to be used; others of its ranks go on."""
    comm = _of_all(rank)
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
        comm = _of_all(rank)
        works(rank, comm)
        comm.destroy()

    cycle()
    before = _held()
    for _ in range(times):
        cycle()
    return [now - then for now, then in zip(_held(), before, strict=True)]


def _held() -> list[int]:
    tasks = len(os.listdir("/proc/self/task"))
    return [len(os.listdir("/proc/self/fd")), _mappings(), tasks]


def _mappings() -> int:
    """The communicators that this process holds."""
    return Path("/proc/self/maps").read_text().count("sglang-host-nccl")


def two_at_once(rank: Rank) -> None:
    """Two communicators of the same ranks keep their own order, state and operations."""
    one = rank.state.comm
    other = _of_all(rank)
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
        comm = _world().pynccl.PyNcclCommunicator(dist.group.WORLD, "cpu", "host")
        works(rank, comm)
        out = torch.zeros(rank.size)
        comm.cp_all_gather_into_tensor(out, torch.full((1,), float(rank.number)), stream=None, sizes=[9])
        comm.destroy()
        kind, said = raised(lambda: comm.cp_all_gather_into_tensor(out, torch.ones(1), stream=None))
        assert (kind, "it was destroyed" in said) == ("RuntimeError", True)
        return {"gathered": out.tolist(), "disabled": comm.disabled, "exchanges": hasattr(comm, "all_to_all_single")}


# In a group of the reference.


def coordinated(rank: Rank) -> dict[str, Any]:
    """The communicator of a group, and which engine would reduce a tensor of the host."""
    group = rank.state.state.get_tp_group()
    comm, decisions = group.pynccl_comm, []
    for scope in (contextlib.nullcontext(), group.graph_capture()):
        with scope:
            decisions += [group.explain_all_reduce(torch.empty(2, device=device)) for device in ("cpu", "meta")]
    return {
        "available": comm.available,
        "disabled": comm.disabled,
        "library": list(comm.nccl.found),
        "device": str(comm.device),
        "group": comm.group is group.cpu_group,
        "engines": [decision.engine for decision in decisions],
    }


def refused_in_a_group(rank: Rank) -> list[list[str]]:
    """Rows that do not lie one after the other, given to a group's uneven gathering; its thread is then in no group."""
    group = rank.state.state.get_tp_group()
    said = raised(lambda: group.all_gatherv(torch.ones(2, 4).t(), sizes=[4] * rank.size))
    return [said, raised(group.pynccl_comm.group_end)]


def uneven(rank: Rank, dtype: str, sizes: Sequence[int], even: bool) -> list[str]:
    """Uneven collectives of a group through PyNCCL and without it: the same; and what PyNCCL called."""
    group = rank.state.state.get_tp_group()
    told, own = (None if even else list(sizes)), sizes[rank.number]
    rows, whole = moving(rank.number, own, dtype), reducible(rank.number, sum(sizes), dtype)

    def both() -> list[Any]:
        pair = [moving(rank.number, own, "int64", 3), rows.clone()]
        return [
            *group.all_gatherv(rows.clone(), sizes=told),
            *group.all_gatherv(pair, sizes=told),
            group.reduce_scatterv(whole.clone(), sizes=told),
        ]

    with noting(group.pynccl_comm) as calls:
        through = both()
    assert group.pynccl_comm.disabled
    engine, group.pynccl_comm = group.pynccl_comm, None
    try:
        without = both()
    finally:
        group.pynccl_comm = engine
    for one, other in zip(through, without, strict=True):
        assert (one.dtype, one.shape, one.equal(other)) == (other.dtype, other.shape, True)
    equal(through[0], joint([moving(r, n, dtype) for r, n in enumerate(sizes)]), dtype)
    parts = [reducible(r, sum(sizes), dtype) for r in range(rank.size)]
    equal(through[3], share(wanted(parts, "sum", dtype), sizes, rank.number), dtype)
    return sorted(set(calls) - {"ncclGroupStart", "ncclGroupEnd"})


def captured(rank: Rank) -> dict[str, Any]:
    """A group's collectives while a graph is captured go through PyNCCL, which is as it was after, also by an error."""
    group = rank.state.state.get_tp_group()
    comm, size, own = group.pynccl_comm, rank.size, rank.number
    called: dict[str, list[str]] = {}

    def use(name: str, expected: Sequence[float], out: Any, call: Callable[[], Any]) -> None:
        with noting(comm) as calls:
            call()
        called[name] = [each for each in dict.fromkeys(calls) if "Group" not in each]
        assert out.tolist() == list(expected), name

    with group.graph_capture():
        enabled = not comm.disabled
        out, mine = torch.zeros(size), torch.full((1,), own + 1.0)
        use("gather", [r + 1.0 for r in range(size)], out, lambda: group.all_gather_into_tensor(out, mine))
        whole = torch.arange(2.0 * size) * (own + 1)
        part, total = torch.zeros(2), size * (size + 1) / 2
        expected = [total * (2 * own), total * (2 * own + 1)]
        use("scatter", expected, part, lambda: group.reduce_scatter_tensor(part, whole))
        use("broadcast", [float(size)], mine, lambda: group.broadcast(mine, src=size - 1))
        given, taken = torch.arange(float(size)) + 10 * own, torch.zeros(size)
        use("exchange", [10.0 * r + own for r in range(size)], taken, lambda: group.all_to_all_single(taken, given))
        after, before, passed = (own + 1) % size, (own - 1) % size, []
        turns: list[Callable[[], Any]] = [
            lambda: group.send(given, after),
            lambda: passed.append(group.recv(given.shape, given.dtype, before)),
        ]
        for number in (own % 2, 1 - own % 2):
            with noting(comm) as calls:
                turns[number]()
            called[("send", "receive")[number]] = list(calls)
        assert passed[0].tolist() == [10.0 * before + n for n in range(size)]
        with group.graph_capture():
            pass
        assert not comm.disabled
    disabled = comm.disabled
    with contextlib.suppress(ValueError), group.graph_capture():
        raise ValueError("in the capture")
    return {"enabled": enabled, "after": disabled, "after an error": comm.disabled, "called": called}


def of_a_group(rank: Rank, folder: str, release: str, library: bool) -> dict[str, Any]:
    """A group of a release from first to last, with the host library or with none; what it leaves."""
    if library:
        os.environ[PATH_VARIABLE] = "host"
    held = _mappings()
    try:
        with lifetime(rank, folder, release) as state:
            group = state.get_tp_group()
            comm = group.pynccl_comm
            with group.graph_capture():
                enabled = not comm.disabled
                mine = group.broadcast(torch.full((2,), float(rank.number)), src=rank.size - 1)
            [gathered] = group.all_gatherv(torch.full((rank.number,), 1.0), sizes=list(range(rank.size)))
            scattered = group.reduce_scatterv(torch.ones(rank.size, 2))
            summed = group.all_reduce(torch.ones(2))
            found = {
                "available": comm.available,
                "enabled": enabled,
                "held": _mappings() - held,
                "why": comm.why_unavailable,
                "results": [t.tolist() for t in (mine, gathered, scattered, summed)],
            }
    finally:
        os.environ.pop(PATH_VARIABLE, None)
    return found | {"left": _mappings() - held, "after": comm.available}


@contextlib.contextmanager
def _host_library() -> Iterator[None]:
    os.environ[PATH_VARIABLE] = "host"
    try:
        yield
    finally:
        del os.environ[PATH_VARIABLE]


def moved_in(rank: Rank, folder: str, release: str) -> list[list[Any]]:
    """A broadcast and an exchange in a group that captures, in a release whose table is not here; and the calls."""
    sglang_reference.uninstall()
    sglang_reference.install({**tables.load("0.5.11").to_json(), "release": release})
    with _host_library(), opened(rank, folder) as state:
        group, out = state.get_tp_group(), torch.zeros(rank.size)
        with group.graph_capture(), noting(group.pynccl_comm) as calls:
            given = group.broadcast(torch.full((2,), float(rank.number)), src=1)
            group.all_to_all_single(out, torch.arange(float(rank.size)) + 10 * rank.number)
    return [given.tolist(), out.tolist(), [each for each in dict.fromkeys(calls) if "Group" not in each]]


def duplicated(rank: Rank, folder: str) -> list[bool]:
    """Whether PyNCCL is disabled in the group of tensor parallelism and in its duplicate, through which both move."""
    install_with_duplicate("0.5.23")
    with _host_library(), opened(rank, folder) as state:
        groups = state.get_tp_group(), state._PDMUX_PREFILL_TP_GROUP
        for group in groups:
            with noting(group.pynccl_comm) as calls:
                assert group.broadcast(torch.full((2,), float(rank.number)), src=1).tolist() == [1, 1]
            assert calls == ["ncclBroadcast"]
        return [group.pynccl_comm.disabled for group in groups]


# On an accelerator, which is simulated.


def simulated(rank: Rank, folder: str) -> dict[str, Any]:
    """A communicator on a device that has streams and graphs: on which stream its work is done, and done again."""
    install("0.5.23")
    platform = importlib.import_module("sglang_simulated.platform").SimSRTPlatform()
    vars(importlib.import_module("sglang.srt.platforms"))["_current_platform"] = platform
    platform.init_backend()
    dist.init_process_group("gloo", f"file://{folder}/{rank.meeting}", rank=rank.number, world_size=rank.size)
    own, size = rank.number, rank.size
    sim: Any = torch.get_device_module("sim")
    sim.set_device(own)
    before = sim.current_stream()
    comm = _world().pynccl.PyNcclCommunicator(dist.group.WORLD, own, "host")
    assert sim.current_stream() == before
    handles: list[int | None] = []

    def note(called: Any, self: Any, name: str, *arguments: Any) -> None:
        handles.append(arguments[-1].value if arguments else None)
        called(self, name, *arguments)

    mine, side = torch.full((2,), own + 1.0).to(f"sim:{own}"), sim.Stream()
    with comm.change_state(enable=True), _replaced(type(comm.nccl), "_call", note):
        comm.all_reduce(mine)
        with sim.stream(side):
            out = comm.outplace_all_reduce(mine)
            gathered = torch.zeros(size, device=f"sim:{own}")
            comm.all_gather(gathered, torch.full((1,), float(own)).to(f"sim:{own}"))
        comm.broadcast(gathered, src=0)
        given, graph = torch.ones(3).to(f"sim:{own}"), sim.Graph()
        with sim.graph(graph):
            comm.all_reduce(given)
        strange = (torch.ones(2), torch.ones(2, device=f"sim:{(own + 1) % size}"))
        elsewhere = [raised(functools.partial(comm.all_reduce, tensor)) for tensor in strange]
    given.copy_(torch.full((3,), own + 1.0))
    graph.replay()
    device = str(comm.device)
    comm.destroy()
    dist.destroy_process_group()
    return {
        "device": device,
        "results": [mine.tolist(), out.tolist(), gathered.tolist(), given.tolist()],
        "streams": [handle in (None, 0) for handle in handles],
        "side": handles[1:3] == [side.sim_stream] * 2,
        "elsewhere": elsewhere,
    }


# NCCL itself.


def answers(found: Any) -> dict[str, int]:
    """The results of calls that need no communicator."""
    functions, result = found._funcs, ctypes.c_int(-1)
    asked = {
        "all-reduce without a communicator": functions["ncclAllReduce"](None, None, 1, 7, 0, None, None),
        "end of no group": functions["ncclGroupEnd"](),
        "no place for an id": functions["ncclGetUniqueId"](None),
        "no place for a version": functions["ncclGetVersion"](None),
        "destroy nothing": functions["ncclCommDestroy"](None),
        "abort nothing": functions["ncclCommAbort"](None),
        "the error of nothing": functions["ncclCommGetAsyncError"](None, ctypes.byref(result)),
    }
    assert result.value == -1
    return asked


def asked_of_nccl(rank: Rank, path: str) -> dict[str, Any]:
    """What NCCL itself answers where no GPU is to be seen."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    install("0.5.23")
    library = _world().wrapper.NCCLLibrary(path)
    given, outside = library.ncclGetUniqueId(), raised(library.ncclGroupEnd)
    return {
        "found": list(library.found),
        "version": library.ncclGetRawVersion(),
        "ids": [bytes(each).hex() for each in (given, library.ncclGetUniqueId())],
        "texts": {str(code): library.ncclGetErrorString(code) for code in range(-1, 12)},
        "answers": answers(library),
        "functions": sorted(library._funcs),
        "ncclCommInitRank": raised(lambda: library.ncclCommInitRank(1, given, 0)),
        "ncclCommInitRankConfig": raised(lambda: library.ncclCommInitRankConfig(1, given, 0)),
        "ncclGroupEnd": outside,  # before a join that fails, after which NCCL 2.32 takes this thread to be in a group
    }
