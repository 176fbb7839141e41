"""What ranks with an engine are made to do wrong, or meet; each gives the exception's name and text that it got."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from host_all_reduce.engine_ranks import another, given, one_sum, same, summed
from sglang_conformance.ranks.rank import Rank

Told = tuple[str, str]


def told(call: Callable[[], object]) -> Told:
    """What an exception of the engine's says; two empty texts where there is none."""
    try:
        call()
    except Exception as error:
        return type(error).__name__, str(error)
    return "", ""


def ones(count: int, dtype: str = "float32") -> Any:
    import torch

    return torch.ones(count, dtype=getattr(torch, dtype))


def add(engine: Any, tensor: Any) -> None:
    engine.all_reduce(tensor, tensor)


def mismatched(rank: Rank, what: str, odd: int) -> tuple[Told, Told, Told]:
    """A call in which one rank differs; what that tells each, what the next call tells, and one of a new engine."""
    import torch

    engine, differs = another(rank, rank.state), rank.number == odd
    held = engine.empty((400_000,), torch.float32)
    match what:
        case "count":
            first = told(lambda: add(engine, ones(5 if differs else 4)))
        case "nothing":
            first = told(lambda: add(engine, ones(0 if differs else 4)))
        case "type":
            first = told(lambda: add(engine, ones(4, "int32" if differs else "float32")))
        case "shots":
            first = told(lambda: add(engine, ones(400_000 if differs else 4)))
        case "tiles":
            first = told(lambda: add(engine, ones(400_000 if differs else 900_000)))
        case "registered":
            first = told(lambda: add(engine, held[:300_000] if differs else ones(299_999)))
        case "strides":
            square = ones(400).view(20, 20)
            first = told(lambda: add(engine, square.T if differs else square))
        case "call":
            first = told(lambda: engine.empty((4,), torch.float32) if differs else add(engine, ones(4)))
        case "empty":
            first = told(lambda: engine.empty((5 if differs else 4,), torch.float32))
    after = told(lambda: add(engine, ones(4)))
    engine.close()
    engine = another(rank, rank.state)
    again = told(lambda: add(engine, ones(4)))
    engine.close()
    return first, after, again


def absent(rank: Rank, how: str, while_: str) -> tuple[Told, Told]:
    """The last rank is late, leaves, fails or ends while the others wait for it; what they are told, and then again."""
    import torch

    engine = another(rank, rank.state, 0.5 if how == "late" else 30.0)
    add(engine, ones(4))
    if rank.number == rank.size - 1:
        if how == "killed":
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "late":
            time.sleep(1.5)
        elif how == "left":
            engine.close()
            return ("", ""), ("", "")
        elif how == "dropped":
            del engine
            gc.collect()
            return ("", ""), ("", "")
    calls = {
        "small": lambda: add(engine, ones(4)),
        "large": lambda: add(engine, ones(900_000)),
        "empty": lambda: engine.empty((4,), torch.float32),
    }
    first = told(calls[while_])
    after = told(calls[while_])
    engine.close()
    return first, after


def killed_at_work(rank: Rank) -> Told:
    """The last rank is killed at some moment of a stream of large sums."""
    import torch

    engine = another(rank, rank.state)
    tensor, out = engine.empty((700_000,), torch.float32), ones(700_000)
    if rank.number == rank.size - 1:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGKILL)).start()
    while True:
        first = told(lambda: engine.all_reduce(tensor, out))
        if first[0]:
            engine.close()
            return first


def killed_while_joining(rank: Rank) -> tuple[Told, Told]:
    """A rank that has come to meet the others is killed before all have; then all meet at that name."""
    from sglang_host_all_reduce import Engine

    name = rank.state.name()
    first = ("", "")
    if rank.number == rank.size - 1:
        child = os.fork()
        if not child:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
            Engine(name, rank.number, rank.size + 1, 20.0)
        os.waitpid(child, 0)
    else:
        time.sleep(0.1)
        first = told(lambda: Engine(name, rank.number, rank.size + 1, 20.0))
    another(rank, rank.state).close()  # all have seen it
    engine = Engine(name, rank.number, rank.size, 20.0)
    again = told(lambda: add(engine, ones(4)))
    engine.close()
    return first, again


def refused(rank: Rank) -> list[Told]:
    """What one rank alone asks for and cannot have; the engine is as it was after each."""
    import torch

    engine, room = rank.state.engine, ones(64)
    pairs = [
        (room[:4], room[:5]),
        (room[:4], ones(4, "float64")),
        (ones(4, "complex64"), ones(4, "complex64")),
        (torch.zeros(4, dtype=torch.float8_e4m3fn), torch.zeros(4, dtype=torch.float8_e4m3fn)),
        (room[:4], room[1:5]),
        (room[8:40], room[:32]),
        (room[::2], room[:32]),
        (room[::2], room[1::2]),
        (room[:1].expand(4), room[:4]),
        (room[:1].expand(4), room[1:2].expand(4)),
        (room.view(8, 8).T, ones(64).view(8, 8)),
        (room, torch.ones(64, device="meta")),
    ]
    answers = []
    for tensor, out in pairs:
        answers.append(told(lambda tensor=tensor, out=out: engine.all_reduce(tensor, out)))  # type: ignore[misc]
        assert (room == 1).all()
    answers += [told(lambda: engine.empty((4,), torch.complex64)), told(lambda: engine.empty((-4,), torch.float32))]
    one_sum(rank, engine, 100, "float32", "out")
    return answers


def laid_out_otherwise(rank: Rank) -> None:
    """Tensors without gaps that are not contiguous are summed element by element; others of many shapes as well."""
    import torch

    engine = rank.state.engine
    for dtype in ("float32", "bfloat16"):
        parts = [given(place, 60, dtype) for place in range(rank.size)]
        total, mine = summed(parts, dtype), parts[rank.number]
        for order in ((1, 0, 2), (2, 1, 0), (0, 2, 1)):
            tensor = mine.view(3, 4, 5).permute(order).contiguous().permute([order.index(axis) for axis in range(3)])
            out = torch.zeros_like(tensor)
            assert out.stride() == tensor.stride()
            assert not tensor.is_contiguous()
            engine.all_reduce(tensor, out)
            same(out.contiguous(), total.view(3, 4, 5), f"{dtype}, {order}")
        out = torch.zeros(5, 12, dtype=mine.dtype)
        engine.all_reduce(mine.view(60, 1), out)
        same(out, total, "another shape")
    number = torch.tensor(rank.number + 1.0)
    engine.all_reduce(number, number)
    assert number.item() == sum(range(1, rank.size + 1))


def two_threads(rank: Rank) -> tuple[Told, Told]:
    """Two threads in one engine: what the first is told, which waits for the others, and what the second."""
    engine, told_first = rank.state.engine, []
    tensor = ones(4)
    if rank.number == rank.size - 1:
        time.sleep(0.3)
        add(engine, tensor)
        return ("", ""), ("", "")
    thread = threading.Thread(target=lambda: told_first.append(told(lambda: add(engine, tensor))))
    thread.start()
    time.sleep(0.1)
    second = told(lambda: add(engine, ones(4)))
    thread.join()
    assert (tensor == rank.size).all()
    return told_first[0], second


def closed(rank: Rank) -> tuple[Told, Told, Told]:
    """An engine that another thread closes during a call, what later calls are told, and what the other ranks are."""
    engine = another(rank, rank.state)
    if rank.number:
        time.sleep(0.3)
        first = told(lambda: add(engine, ones(4)))  # to which the other rank has given its part
    else:
        timer = threading.Timer(0.1, engine.close)
        timer.start()
        first = told(lambda: add(engine, ones(4)))
        timer.join()
    after = told(lambda: add(engine, ones(4)))
    engine.close()
    engine.close()
    return first, after, told(lambda: add(engine, ones(4)))


def forked(rank: Rank) -> Told:
    """A fork of a rank cannot use its engine, and does not take the rank's place when it goes."""
    engine = another(rank, rank.state)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        answer = told(lambda: add(engine, ones(4)))
        with contextlib.suppress(BaseException):
            engine.close()
            os.write(writing, "\n".join(answer).encode())
        os._exit(0)
    os.waitpid(child, 0)
    kind, text = os.read(reading, 4096).decode().split("\n")
    os.close(reading)
    os.close(writing)
    for _ in range(3):
        one_sum(rank, engine, 1000, "float32", "out")
    engine.close()
    return kind, text.replace(str(os.getpid()), "N")


def held() -> tuple[int, int, int]:
    """Descriptors, mappings of shared memory and threads that this process has."""
    gc.collect()
    maps = Path("/proc/self/maps").read_text().count("sglang-host-")
    return len(os.listdir("/proc/self/fd")), maps, threading.active_count()


def come_and_go(rank: Rank, times: int) -> list[int]:
    """Engines made, used and closed at one name; what this leaves."""
    import torch

    from sglang_host_all_reduce import Engine

    name, before = rank.state.name(), held()
    for number in range(times):
        engine = Engine(name, rank.number, rank.size, 20.0)
        tensor = engine.empty((300_000,), torch.float32)
        tensor.fill_(number)
        engine.all_reduce(tensor, out := ones(300_000))
        assert (out == rank.size * number).all()
        if number % 2:
            del tensor
            engine.close()
        else:
            engine.close()
            del tensor
        del engine
    return [now - then for now, then in zip(held(), before, strict=True)]


def regions(rank: Rank) -> tuple[int, ...]:
    """Mappings with a tensor in shared memory, with a view of it alone, without, and after further sums."""
    import torch

    engine, count = rank.state.engine, 300_000
    before, seen = held()[1], []
    tensor = engine.empty((count,), torch.float32)
    assert (tensor == 0).all()
    assert tensor.shape == (count,)
    seen.append(held()[1] - before)
    view = tensor[7:]
    del tensor
    seen.append(held()[1] - before)
    del view
    seen.append(held()[1] - before)
    for mode in ("out", "registered", "some registered"):
        one_sum(rank, engine, count, "float32", mode)
    seen.append(held()[1] - before)
    for shape in ((), (0,), (3, 0), (2, 3, 5)):
        made = engine.empty(shape, torch.bfloat16)
        assert made.shape == torch.Size(shape)
        engine.all_reduce(made, made)
    kept = another(rank, rank.state)
    last = kept.empty((5,), torch.int64)
    kept.close()
    assert (last == 0).all()
    return tuple(seen)


def too_large(rank: Rank) -> Told:
    """Memory that no machine has is refused on all ranks, and the engine goes on."""
    import torch

    answer = told(lambda: rank.state.engine.empty((1 << 50,), torch.float64))
    one_sum(rank, rank.state.engine, 300_000, "float32", "registered")
    return answer


def not_written_while_read(rank: Rank, rounds: int) -> None:
    """A rank that writes to its tensor as soon as a sum has ended changes no other rank's sum."""
    import torch

    engine, count = rank.state.engine, 600_000
    tensor, out = engine.empty((count,), torch.float32), ones(count)
    for number in range(rounds):
        tensor.fill_(number + rank.number)
        if rank.number == number % rank.size:
            time.sleep(0.002)
        engine.all_reduce(tensor, out)
        tensor.fill_(-1e6)
        expected = rank.size * number + sum(range(rank.size))
        assert (out == expected).all(), f"{number}: {out.unique()}, not {expected}"


def interrupted(rank: Rank) -> tuple[Told, Told]:
    """A rank that is interrupted while it waits: itself and the others are told."""
    engine = another(rank, rank.state)

    def interrupt(*_: object) -> None:
        raise TimeoutError("enough")

    if rank.number:
        time.sleep(0.4)
    else:
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
    first = told(lambda: add(engine, ones(4)))  # to which a rank that is interrupted has given its part
    after = told(lambda: add(engine, ones(4)))
    rank.state.engine.all_reduce(ones(1), ones(1))  # nobody has left before
    engine.close()
    return first, after
