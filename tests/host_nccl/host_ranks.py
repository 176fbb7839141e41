"""Ranks that share a communicator of the host library, and what they are made to do: checks named by the tests."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from host_nccl.host_library import Nccl, P
from import_path import REFERENCE, TESTS, import_path
from sglang_conformance.probes import client
from sglang_conformance.ranks.group import Setup
from sglang_conformance.ranks.pool import Pool
from sglang_conformance.ranks.rank import Rank

TYPES = ("int8", "uint8", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64", "bfloat16")
OPERATIONS = ("sum", "prod", "max", "min", "avg")
INVALID_ARGUMENT, INVALID_USAGE, REMOTE_ERROR = 4, 5, 6


@contextlib.contextmanager
def ranks(setup: str = "joined", **arguments: Any) -> Iterator[Pool]:
    zygote = client.start(
        ("torch", "numpy", "host_nccl.host_ranks"),
        {"PYTHONPATH": import_path(TESTS, REFERENCE), "OMP_NUM_THREADS": "1"},
    )
    warm = client.connect(zygote.address)
    pool = Pool(warm, Setup(f"host_nccl.host_ranks:{setup}", arguments, watched=False))
    try:
        yield pool
    finally:
        pool.close()
        warm.close()
        zygote.close()


@dataclass
class World:
    nccl: Any
    comm: ctypes.c_void_p
    folder: Path
    meetings: int = 0


def alone(rank: Rank, folder: str) -> World:
    """A rank with the library, and nothing joined."""
    return World(Nccl(), P(), Path(folder, rank.meeting))


def joined(rank: Rank, folder: str) -> World:
    """A rank in a communicator of all."""
    world = alone(rank, folder)
    world.comm = join(rank, world)
    return world


def shared_id(rank: Rank, world: World) -> bytes:
    """An id that the first rank makes, on all."""
    world.meetings += 1
    path = world.folder.with_name(f"{world.folder.name}.{world.meetings}")
    if rank.number == 0:
        made: bytes = world.nccl.unique_id()
        path.with_suffix(".new").write_bytes(made)
        path.with_suffix(".new").rename(path)
        return made
    while not path.exists():
        time.sleep(0.001)
    return path.read_bytes()


def join(rank: Rank, world: World) -> ctypes.c_void_p:
    comm: ctypes.c_void_p
    result, comm = world.nccl.init(rank.size, shared_id(rank, world), rank.number)
    assert result == 0, world.nccl.last_error
    return comm


def numbers(rank: int, count: int, dtype: str, salt: int = 0) -> Any:
    """Small whole numbers but zero, other ones for each rank: sums and products of four are exact in every type."""
    drawn = np.random.default_rng([rank, salt])
    return drawn.integers(1, 4, count) * (1 if dtype.startswith("u") else drawn.choice([-1, 1], count))


def tensor(values: Any, dtype: str) -> Any:
    import torch

    return torch.from_numpy(np.asarray(values, dtype=np.float64)).to(getattr(torch, dtype))


def plain(given: Any) -> Any:
    import torch

    kind = torch.float64 if given.is_floating_point() else torch.int64
    return given.to(kind).numpy()


def reduced(parts: Sequence[Any], operation: str, dtype: str) -> Any:
    """What a reduction gives, worked out in float64 or int64."""
    whole = np.stack([np.asarray(part, dtype=np.float64) for part in parts])
    match operation:
        case "prod":
            return whole.prod(0)
        case "max":
            return whole.max(0)
        case "min":
            return whole.min(0)
    total = whole.sum(0)
    if operation == "avg":
        total = total / len(parts)
        return total if "float" in dtype else np.trunc(total)
    return total


def same(got: Any, expected: Any, dtype: str) -> None:
    """Equal; an average rounds as its type does."""
    rounded = plain(tensor(expected, dtype))
    wrong = np.flatnonzero(plain(got) != rounded)
    assert not len(wrong), f"{dtype}: {len(wrong)} of {len(rounded)} wrong, first {wrong[0]}: {plain(got)[wrong[0]]}"


def done(world: World, result: int) -> None:
    assert result == 0, f"{result}: {world.nccl.last_error}"


def poisoned(count: int, dtype: str) -> Any:
    return tensor(np.full(count, 77), dtype)


def collectives(rank: Rank, dtype: str, count: int, operation: str, in_place: bool, salt: int = 0) -> None:
    """Every collective once, for each root, against what its definition says."""
    world, size, own = rank.state, rank.size, rank.number
    code, op = TYPES.index(dtype), OPERATIONS.index(operation)
    parts = [numbers(r, count, dtype, salt) for r in range(size)]
    whole = [numbers(r, count * size, dtype, salt) for r in range(size)]

    given = tensor(parts[own], dtype)
    out = given if in_place else poisoned(count, dtype)
    done(world, world.nccl.AllReduce(given.data_ptr(), out.data_ptr(), count, code, op, world.comm, None))
    same(out, reduced(parts, operation, dtype), dtype)
    if not in_place:
        same(given, parts[own], dtype)

    for root in range(size):
        given = tensor(parts[own], dtype)
        out = given if in_place else poisoned(count, dtype)
        done(world, world.nccl.Reduce(given.data_ptr(), out.data_ptr(), count, code, op, root, world.comm, None))
        if own == root:
            same(out, reduced(parts, operation, dtype), dtype)
        elif not in_place:
            same(out, np.full(count, 77), dtype)

        given = tensor(parts[own], dtype)
        out = given if in_place else poisoned(count, dtype)
        source = given.data_ptr() if own == root else None
        done(world, world.nccl.Broadcast(source, out.data_ptr(), count, code, root, world.comm, None))
        same(out, parts[root], dtype)

    out = poisoned(count * size, dtype)
    given = tensor(parts[own], dtype)
    if in_place:
        out[own * count : (own + 1) * count] = given
        given = out[own * count : (own + 1) * count]
    done(world, world.nccl.AllGather(given.data_ptr(), out.data_ptr(), count, code, world.comm, None))
    same(out, np.concatenate(parts), dtype)

    given = tensor(whole[own], dtype)
    out = given[own * count : (own + 1) * count] if in_place else poisoned(count, dtype)
    done(world, world.nccl.ReduceScatter(given.data_ptr(), out.data_ptr(), count, code, op, world.comm, None))
    same(out, reduced(whole, operation, dtype)[own * count : (own + 1) * count], dtype)


def all_types(rank: Rank) -> None:
    for dtype in TYPES:
        for operation in OPERATIONS:
            for in_place in (False, True):
                collectives(rank, dtype, 13, operation, in_place)


def exchange(rank: Rank, dtype: str, count: int) -> None:
    """All to all, in one group; then once around a ring, without one."""
    world, size, own = rank.state, rank.size, rank.number
    code, width = TYPES.index(dtype), tensor([0], dtype).element_size()
    given, out = tensor(numbers(own, count * size, dtype), dtype), poisoned(count * size, dtype)
    done(world, world.nccl.GroupStart())
    for peer in range(size):
        offset = peer * count * width
        done(world, world.nccl.Send(given.data_ptr() + offset, count, code, peer, world.comm, None))
        done(world, world.nccl.Recv(out.data_ptr() + offset, count, code, peer, world.comm, None))
    same(out, np.full(count * size, 77), dtype)  # nothing is done before the end
    done(world, world.nccl.GroupEnd())
    theirs = [numbers(peer, count * size, dtype)[own * count : (own + 1) * count] for peer in range(size)]
    same(out, np.concatenate(theirs), dtype)
    if size == 1:
        return
    after, before = (own + 1) % size, (own - 1) % size
    room = poisoned(count, dtype)
    turns: list[Any] = [
        lambda: world.nccl.Send(given.data_ptr(), count, code, after, world.comm, None),
        lambda: world.nccl.Recv(room.data_ptr(), count, code, before, world.comm, None),
    ]
    for turn in turns if own % 2 == 0 else turns[::-1]:
        done(world, turn())
    same(room, numbers(before, count * size, dtype)[:count], dtype)


def messages_in_their_order(rank: Rank) -> None:
    """Several of different lengths and types between the same two, some of nothing, in one group."""
    world, own = rank.state, rank.number
    lengths = [(3, "float32"), (0, "int8"), (200_000, "uint8"), (1, "float64"), (70_000, "bfloat16")]
    given = [tensor(numbers(own, count, dtype, n), dtype) for n, (count, dtype) in enumerate(lengths)]
    rooms = [poisoned(count, dtype) for count, dtype in lengths]
    done(world, world.nccl.GroupStart())
    for (count, dtype), out, room in zip(lengths, given, rooms, strict=True):
        code = TYPES.index(dtype)
        done(world, world.nccl.Recv(room.data_ptr(), count, code, 1 - own, world.comm, None))
        done(world, world.nccl.Send(out.data_ptr(), count, code, 1 - own, world.comm, None))
    done(world, world.nccl.GroupEnd())
    for n, ((count, dtype), room) in enumerate(zip(lengths, rooms, strict=True)):
        same(room, numbers(1 - own, count, dtype, n), dtype)


def collectives_in_a_group(rank: Rank) -> None:
    """As an uneven all-gather is made: a broadcast for each root, in a nested group, with a message beside."""
    world, own = rank.state, rank.number
    sizes = [5, 0, 3][: rank.size]
    parts = [numbers(r, size, "int32") for r, size in enumerate(sizes)]
    mine, out, room = tensor(parts[own], "int32"), poisoned(sum(sizes), "int32"), poisoned(5, "int32")
    done(world, world.nccl.GroupStart())
    done(world, world.nccl.GroupStart())
    if own == 0:
        done(world, world.nccl.Send(mine.data_ptr(), 5, 2, rank.size - 1, world.comm, None))
    if own == rank.size - 1:
        done(world, world.nccl.Recv(room.data_ptr(), 5, 2, 0, world.comm, None))
    for root, size in enumerate(sizes):
        at = out.data_ptr() + 4 * sum(sizes[:root])
        done(world, world.nccl.Broadcast(mine.data_ptr(), at, size, 2, root, world.comm, None))
    done(world, world.nccl.GroupEnd())
    same(out, np.full(sum(sizes), 77), "int32")
    done(world, world.nccl.GroupEnd())
    same(out, np.concatenate(parts), "int32")
    if own == rank.size - 1:
        same(room, parts[0], "int32")


def at_random(rank: Rank, rounds: int, seed: int) -> None:
    """Operations of random kinds and sizes on two communicators, with ranks slowed at random."""
    world, mine, shared = rank.state, random.Random(f"{seed} {rank.number}"), random.Random(seed)
    comms = (world.comm, join(rank, world))
    for number in range(rounds):
        world.comm = comms[shared.randrange(2)]
        count = shared.choice([0, 1, 5, 1000, 16_383, 16_384, 16_385, 70_000, 300_000])
        dtype, operation = shared.choice(TYPES), shared.choice(OPERATIONS[:4])
        if mine.random() < 0.1:
            time.sleep(mine.random() * 0.002)
        if shared.random() < 0.3:
            exchange(rank, dtype, min(count, 70_000))
        else:
            collectives(rank, dtype, min(count, 70_000), operation, shared.random() < 0.5, number)
    done(world, world.nccl.CommDestroy(comms[1]))
    world.comm = comms[0]


def same_bits(rank: Rank, dtype: str, count: int) -> str:
    """The bits of a sum of random numbers."""
    import torch

    generator = torch.Generator().manual_seed(rank.number)
    given = torch.randn(count, generator=generator).to(getattr(torch, dtype))
    world, code = rank.state, TYPES.index(dtype)
    done(world, world.nccl.AllReduce(given.data_ptr(), given.data_ptr(), count, code, 0, world.comm, None))
    return given.view(torch.uint8).numpy().tobytes().hex()


def arguments(rank: Rank) -> None:
    """What NCCL refuses is refused by the rank that asks for it, and leaves the communicator as it was."""
    world, own = rank.state, rank.number
    nccl, room = world.nccl, poisoned(4, "float32")
    at, comm = room.data_ptr(), world.comm
    calls: list[tuple[Any, str]] = [
        (lambda: nccl.AllReduce(at, at, 4, 12, 0, comm, None), "12 is not the code of a type"),
        (lambda: nccl.AllReduce(at, at, 4, -1, 0, comm, None), "-1 is not the code of a type"),
        (lambda: nccl.ReduceScatter(at, at, 4, 7, 5, comm, None), "5 is not the code of a reduction"),
        (lambda: nccl.Broadcast(at, at, 4, 7, rank.size, comm, None), f"root {rank.size} is none of {rank.size}"),
        (lambda: nccl.Reduce(at, at, 4, 7, 0, -1, comm, None), "root -1 is none"),
        (lambda: nccl.Send(at, 4, 7, rank.size, comm, None), f"peer {rank.size} is none"),
        (lambda: nccl.AllReduce(None, at, 4, 7, 0, comm, None), "sendbuff is NULL"),
        (lambda: nccl.AllGather(at, None, 4, 7, comm, None), "recvbuff is NULL"),
        (lambda: nccl.AllReduce(at, at, 4, 7, 0, None, None), "comm argument is NULL"),
        (lambda: nccl.AllReduce(at, at, 4, 7, 0, 12345, None), "no communicator"),
        (lambda: nccl.AllReduce(at, at, 4, 7, 0, comm, 77), "not the handle of a stream"),
        (lambda: nccl.AllReduce(at, at, 4, 7, 0, comm, room.data_ptr()), "stream"),
        (lambda: nccl.CommWindowDeregister(comm, 3), "no such window"),
        (lambda: nccl.MemFree(at), "not what ncclMemAlloc gave"),
        (lambda: nccl.CommCount(comm, None), "NULL"),
    ]
    for call, text in calls:
        assert call() == INVALID_ARGUMENT, text
        assert text in nccl.last_error, nccl.last_error
    assert nccl.GroupEnd() == INVALID_USAGE
    assert "not in a group call" in nccl.last_error
    same(room, np.full(4, 77), "float32")

    # In a group the first of them is what its end tells, and nothing of the group is done.
    done(world, nccl.GroupStart())
    assert nccl.AllReduce(at, at, 4, 99, 0, comm, None) == INVALID_ARGUMENT
    done(world, nccl.AllReduce(at, at, 4, 7, 0, comm, None))
    assert nccl.GroupEnd() == INVALID_ARGUMENT
    assert "99" in nccl.last_error
    same(room, np.full(4, 77), "float32")

    done(world, nccl.GroupStart())
    done(world, nccl.Send(at, 4, 7, own, comm, None))
    assert nccl.GroupEnd() == INVALID_USAGE
    assert "sends itself 1 messages in a group and receives 0" in nccl.last_error


def disagreeing(rank: Rank, what: str) -> tuple[int, str]:
    """Calls that do not match, on a communicator of their own; what the rank is told, and that it takes no more."""
    world, nccl, own = rank.state, rank.state.nccl, rank.number
    comm, room = join(rank, world), poisoned(64, "float32")
    at = room.data_ptr()
    calls = {
        "count": lambda: nccl.AllReduce(at, at, 4 + own, 7, 0, comm, None),
        "type": lambda: nccl.AllReduce(at, at, 4, 7 if own else 6, 0, comm, None),
        "operation": lambda: nccl.AllReduce(at, at, 4, 7, own, comm, None),
        "root": lambda: nccl.Broadcast(at, at, 4, 7, own, comm, None),
        "kind": lambda: (
            nccl.AllGather(at, at, 4, 7, comm, None) if own else nccl.AllReduce(at, at, 4, 7, 0, comm, None)
        ),
        "nothing": lambda: nccl.AllReduce(at, at, 4 * own, 7, 0, comm, None),
        "message": lambda: nccl.Recv(at, 5, 7, 0, comm, None) if own else nccl.Send(at, 4, 7, 1, comm, None),
    }
    result, told = calls[what](), nccl.last_error
    if what != "message":  # of which the sender may know nothing
        assert nccl.AllReduce(at, at, 4, 7, 0, comm, None) == result
        error = ctypes.c_int(-1)
        done(world, nccl.CommGetAsyncError(comm, ctypes.byref(error)))
        assert error.value == result
    done(world, nccl.CommAbort(comm))
    assert nccl.AllReduce(at, at, 4, 7, 0, comm, None) == INVALID_ARGUMENT
    return result, told


def joining(rank: Rank, what: str) -> tuple[int, str, float]:
    """Joins that cannot succeed; what the rank is told, and after how long."""
    world, nccl, own = rank.state, rank.state.nccl, rank.number
    os.environ["SGLANG_HOST_MEMORY_TIMEOUT"] = "5" if what != "late" else "0.3"
    given, started = shared_id(rank, world), time.monotonic()
    size, number = rank.size, own
    match what:
        case "size" if own:
            size += 1
        case "place":
            number = 0
        case "id" if own:
            given = given[:60] + bytes([given[60] ^ 1]) + given[61:]
        case "zeros":
            given = bytes(128)
        case "number":
            number = rank.size
        case "late" if own:
            return 0, "", 0.0
    result, _ = nccl.init(size, given, number)
    return result, nccl.last_error, time.monotonic() - started


def killed_while_waited_for(rank: Rank, joined_before: bool) -> tuple[int, str]:
    world, nccl = rank.state, rank.state.nccl
    if joined_before:
        comm = join(rank, world)
    given = shared_id(rank, world)
    if rank.number == 1:
        time.sleep(0.2)
        os._exit(3) if joined_before else None
    room = poisoned(1, "float32")
    if joined_before:
        result = nccl.AllReduce(room.data_ptr(), room.data_ptr(), 1, 7, 0, comm, None)
    elif rank.number == 1:
        pid = os.fork()
        if not pid:
            threading.Timer(0.2, lambda: os._exit(0)).start()
            nccl.init(3, given, 1)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        return REMOTE_ERROR, "ended"
    else:
        result, _ = nccl.init(3, given, 0)
    return result, nccl.last_error


def aborted_by_another_thread(rank: Rank) -> tuple[int, str]:
    world, nccl = rank.state, rank.state.nccl
    comm, room = join(rank, world), poisoned(1, "float32")
    if rank.number:
        return 3, "aborted"
    timer = threading.Timer(0.1, lambda: nccl.CommAbort(comm))
    timer.start()
    result = nccl.AllReduce(room.data_ptr(), room.data_ptr(), 1, 7, 0, comm, None)
    timer.join()
    return result, nccl.last_error


def come_and_go(rank: Rank, times: int) -> tuple[int, int, int]:
    """Communicators made, used and destroyed; the descriptors, mappings and threads that this leaves."""
    world = rank.state

    def held() -> tuple[int, int, int]:
        maps = Path("/proc/self/maps").read_text().count("sglang-host-memory")
        return len(os.listdir("/proc/self/fd")), maps, threading.active_count()

    before = held()
    for _ in range(times):
        comm, room = join(rank, world), poisoned(1, "float32")
        done(world, world.nccl.AllReduce(room.data_ptr(), room.data_ptr(), 1, 7, 0, comm, None))
        done(world, world.nccl.CommDestroy(comm))
    return tuple(now - then for now, then in zip(held(), before, strict=True))  # type: ignore[return-value]


def on_a_stream(rank: Rank) -> None:
    """Work for a stream is handed to its device, and can be done again from what it kept."""
    import sglang_host_nccl as library

    world, kept = rank.state, []

    def launch(stream: int, work: Any, given: int, size: int) -> int:
        kept.append((stream, work, ctypes.string_at(given, size)))
        return 0

    called = library.Launch(launch)
    stream = library.HostStream.of(called)
    handle, room = ctypes.addressof(stream), tensor(numbers(rank.number, 4, "float32"), "float32")
    done(world, world.nccl.AllReduce(room.data_ptr(), room.data_ptr(), 4, 7, 0, world.comm, handle))
    done(world, world.nccl.GroupStart())
    done(world, world.nccl.AllReduce(room.data_ptr(), room.data_ptr(), 2, 7, 0, world.comm, handle))
    done(world, world.nccl.AllReduce(room.data_ptr(), room.data_ptr(), 2, 7, 2, world.comm, handle))
    done(world, world.nccl.GroupEnd())
    same(room, numbers(rank.number, 4, "float32"), "float32")
    assert [at for at, _, _ in kept] == [handle, handle]
    for factor in (1, 2):
        for _, work, given in kept[:1]:
            assert work(given) == 0
        same(room, reduced([numbers(r, 4, "float32") for r in range(rank.size)], "sum", "float32") * factor, "float32")
        if factor == 1:
            room.copy_(tensor(2 * numbers(rank.number, 4, "float32"), "float32"))
    assert kept[1][1](kept[1][2]) == 0  # both operations of the group at once
    world.nccl.CommDestroy(world.comm)
    assert kept[0][1](kept[0][2]) == INVALID_ARGUMENT  # replayed after its communicator has gone
    world.comm = join(rank, world)


def windows_and_memory(rank: Rank) -> None:
    world, pointer, window = rank.state, P(), P()
    done(world, world.nccl.MemAlloc(ctypes.byref(pointer), 64))
    assert pointer.value
    assert pointer.value % 4096 == 0
    ctypes.memset(pointer, 1, 64)
    done(world, world.nccl.CommWindowRegister(world.comm, pointer, 64, ctypes.byref(window), 1))
    assert window.value
    done(world, world.nccl.AllReduce(pointer, pointer, 64, 1, 0, world.comm, None))
    assert ctypes.string_at(pointer, 64) == bytes([rank.size]) * 64
    done(world, world.nccl.CommWindowDeregister(world.comm, window))
    assert world.nccl.CommWindowDeregister(world.comm, window) == INVALID_ARGUMENT
    done(world, world.nccl.MemFree(pointer))


def asked(rank: Rank) -> tuple[int, int]:
    world, size, number = rank.state, ctypes.c_int(), ctypes.c_int()
    done(world, world.nccl.CommCount(world.comm, ctypes.byref(size)))
    done(world, world.nccl.CommUserRank(world.comm, ctypes.byref(number)))
    done(world, world.nccl.CommFinalize(world.comm))
    return size.value, number.value
