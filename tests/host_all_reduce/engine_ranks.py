"""Ranks with an engine, and what they are made to do: checks named by the tests."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from import_path import REFERENCE, TESTS, import_path
from sglang_conformance.probes import client
from sglang_conformance.ranks.group import Setup
from sglang_conformance.ranks.pool import Pool
from sglang_conformance.ranks.rank import Rank

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float32", "float64", "float16", "bfloat16")
DTYPES = (*FLOATS, *INTEGERS, "bool")
MODES = (
    "out",
    "in place",
    "registered",
    "registered in place",
    "some registered",
    "registered otherwise",
    "registered out",
    "parts",
)


@contextlib.contextmanager
def ranks(folder: str) -> Iterator[Pool]:
    zygote = client.start(
        ("torch", "numpy", "host_all_reduce.engine_ranks", "sglang_host_all_reduce"),
        {"PYTHONPATH": import_path(TESTS, REFERENCE), "OMP_NUM_THREADS": "1"},
    )
    warm = client.connect(zygote.address)
    pool = Pool(warm, Setup("host_all_reduce.engine_ranks:joined", {"folder": folder}, watched=False))
    try:
        yield pool
    finally:
        pool.close()
        warm.close()
        zygote.close()


@dataclass
class World:
    """An engine of all ranks, and names for further ones."""

    place: str
    meetings: int = 0
    engines: list[Any] = field(default_factory=list)

    def name(self) -> str:
        self.meetings += 1
        return f"{self.place}.{self.meetings}"

    @property
    def engine(self) -> Any:
        return self.engines[0]


def joined(rank: Rank, folder: str) -> World:
    """A rank with an engine."""
    world = World(f"{folder}/{rank.meeting}")
    world.engines.append(another(rank, world))
    return world


def another(rank: Rank, world: World, seconds: float = 30.0) -> Any:
    """A further engine of all ranks."""
    from sglang_host_all_reduce import Engine

    return Engine(world.name(), rank.number, rank.size, seconds)


# Values, and what their sum is.


def given(rank: int, count: int, dtype: str, salt: int = 0) -> Any:
    """What a rank gives: bits at random for whole numbers; numbers at random that no order of adding leaves alone."""
    import torch

    drawn = np.random.default_rng([rank, salt, 7])
    if dtype in INTEGERS:
        kind = np.dtype(dtype)
        return torch.from_numpy(np.frombuffer(drawn.bytes(count * kind.itemsize), dtype=kind).copy())
    if dtype == "bool":
        return torch.from_numpy(drawn.random(count) < 0.3)
    values = drawn.standard_normal(count) * 2.0 ** drawn.integers(-6, 7, count)
    return torch.from_numpy(values).to(getattr(torch, dtype))


def summed(parts: Sequence[Any], dtype: str) -> Any:
    """The sum in the order of the ranks: in whole numbers of any length, or in the type that sums are made in."""
    import torch

    if dtype in INTEGERS:
        width = 8 * np.dtype(dtype).itemsize
        words = [part.numpy().view(f"uint{width}").astype(np.uint64) for part in parts]
        total = functools.reduce(np.add, words) & np.uint64(2**width - 1)
        return torch.from_numpy(total.astype(f"uint{width}").view(dtype))
    if dtype == "bool":
        return torch.stack(list(parts)).any(0)
    kind = np.float64 if dtype == "float64" else np.float32
    wide = [part.to(torch.float64).numpy().astype(kind) for part in parts]
    return torch.from_numpy(functools.reduce(np.add, wide)).to(getattr(torch, dtype))


def bits(tensor: Any) -> Any:
    """A tensor's bytes."""
    import torch

    if not tensor.numel():
        return np.empty(0, dtype=np.uint8)
    return np.frombuffer(tensor.reshape(-1).view(torch.uint8).numpy().tobytes(), dtype=np.uint8)


def same(got: Any, expected: Any, what: str) -> None:
    wrong = np.flatnonzero(bits(got) != bits(expected))
    assert not len(wrong), f"{what}: {len(wrong)} bytes wrong, the first at {wrong[0]} of {got.nbytes}"


def digest(tensor: Any) -> str:
    return hashlib.blake2b(bits(tensor).tobytes(), digest_size=8).hexdigest()


def marked(count: int, dtype: str) -> Any:
    """Room whose every byte is marked, so that what is not written shows."""
    import torch

    kind = getattr(torch, dtype)
    if dtype == "bool":
        return torch.ones(count, dtype=kind)
    return torch.full(((count + 1) * kind.itemsize,), 0xAB, dtype=torch.uint8).view(kind)[:count]


def tensors(rank: Rank, engine: Any, count: int, dtype: str, mode: str, value: Any) -> tuple[Any, Any]:
    """What a rank gives, with that value, and what it takes, each where the mode says."""
    import torch

    kind = getattr(torch, dtype)
    shift = rank.number * 3 + 1  # tensors that lie elsewhere on each rank
    held = engine.empty((count + 16,), kind) if "registered" in mode else None
    if held is not None and mode == "registered otherwise":  # each in the memory of another call
        held = [held, *(engine.empty((count + 16,), kind) for _ in range(rank.size - 1))][rank.number]
    whole = torch.empty(count + 16, dtype=kind)
    tensor = whole[shift : shift + count] if mode == "parts" else whole[:count].clone()
    if held is not None and mode != "registered out" and (mode != "some registered" or rank.number):
        tensor = held[shift : shift + count]
    tensor.copy_(value)
    if "in place" in mode:
        return tensor, tensor
    out = marked(count + 16, dtype)[16 - shift :][:count]
    if held is not None and mode == "registered out":
        out = held[:count]
    return tensor, out


def one_sum(rank: Rank, engine: Any, count: int, dtype: str, mode: str, salt: int = 0) -> Any:
    parts = [given(place, count, dtype, salt) for place in range(rank.size)]
    tensor, out = tensors(rank, engine, count, dtype, mode, parts[rank.number])
    engine.all_reduce(tensor, out)
    what = f"{dtype}, {count} elements, {mode}, rank {rank.number} of {rank.size}"
    same(out, summed(parts, dtype), what)
    if tensor is not out:
        same(tensor, parts[rank.number], f"what was given: {what}")
    return out


def boundaries(width: int, size: int) -> list[int]:
    """Lengths in elements about every bound of the engine's: of a shot, a tile, several tiles, a share, a line."""
    from sglang_host_all_reduce.reduction import ONE_SHOT, TILE

    bounds = [ONE_SHOT, TILE, 2 * TILE, ONE_SHOT + size * 64]
    about = {bound // width + step for bound in bounds for step in (-1, 0, 1)}
    return sorted({0, 1, size - 1, size + 1, 64 // width, 64 // width + 1, 3 * TILE // width + 5, *about})


def lengths(rank: Rank, dtype: str, mode: str) -> None:
    """Sums of every length that is a bound, and next to one."""
    import torch

    for count in boundaries(getattr(torch, dtype).itemsize, rank.size):
        one_sum(rank, rank.state.engine, count, dtype, mode)


def every_type(rank: Rank, modes: Sequence[str]) -> None:
    """Sums of every type, in one shot and in two, of one tile and of several."""
    for dtype in DTYPES:
        for mode in modes:
            for count in (1, 77, 140_003, 1_100_009 // np.dtype("f4").itemsize):
                one_sum(rank, rank.state.engine, count, dtype, mode)


def digests(rank: Rank, dtype: str, counts: Sequence[int]) -> list[str]:
    """Of sums of numbers and of what is none, with bits of their own, to places that differ among the ranks."""
    import torch

    made = []
    for count in counts:
        value = given(rank.number, count, dtype)
        whole = value.view(torch.int16 if value.element_size() == 2 else torch.int32)
        exponent = {"float16": 0x7C00, "bfloat16": 0x7F80, "float32": 0x7F800000}[dtype]
        drawn = np.random.default_rng(rank.number)
        odd = torch.from_numpy(drawn.random(count) < 0.3)
        whole[odd] = torch.from_numpy(exponent + drawn.integers(0, 100, count)).to(whole.dtype)[odd]
        room = torch.empty(count + 8, dtype=value.dtype)
        out = value if rank.number % 2 else room[rank.number : rank.number + count]
        rank.state.engine.all_reduce(value, out)
        made.append(digest(out))
    return made


def in_inference_mode_first(rank: Rank, dtype: str, count: int) -> None:
    """The first sum of a kind is made where nothing is differentiated, the next one where it may be."""
    import torch

    with another(rank, rank.state) as engine:
        for within in (True, False, True):
            with torch.inference_mode(within):
                one_sum(rank, engine, count, dtype, "out", salt=within)


def infinities(rank: Rank, dtype: str, count: int) -> None:
    """Where one rank has what is no number, so has the sum; infinities stay, and of both signs make none."""
    import torch

    value = torch.ones(count, dtype=getattr(torch, dtype))
    nan, inf = float("nan"), float("inf")
    last = rank.number == rank.size - 1
    value[0], value[1], value[2], value[3] = (nan, inf, -inf, inf) if last else (1, inf, 1, -inf)
    value[-1] = nan if rank.number == 0 else 2
    out = torch.zeros_like(value)
    rank.state.engine.all_reduce(value, out)
    plain = out.to(torch.float64)
    assert plain[[0, 3, -1]].isnan().all(), plain[[0, 3, -1]]
    assert plain[1] == inf
    assert plain[2] == -inf
    assert (plain[4:-1] == rank.size).all()


def largest(rank: Rank, dtype: str) -> None:
    """Sums whose parts would overflow, or lose what is small, in the type itself are made in float32."""
    import torch

    kind = getattr(torch, dtype)
    half, small = torch.finfo(torch.float16).max * 0.75, 1 / 256
    columns = [[half, half, -half, -half], [256.0, small, small, small], [-1.0, small, -1.0, small]]
    value = torch.tensor([column[rank.number] for column in columns], dtype=kind)
    out = torch.empty_like(value)
    rank.state.engine.all_reduce(value, out)
    exact = torch.tensor([sum(torch.tensor(column, dtype=kind).tolist()) for column in columns]).to(kind)
    same(out, exact, dtype)


def at_random(rank: Rank, rounds: int, seed: int) -> int:
    """Sums of random lengths and kinds on two engines, with ranks slowed at random; how many took place."""
    world = rank.state
    engines = (world.engine, another(rank, world))
    shared, mine = random.Random(seed), random.Random(f"{seed} {rank.number}")
    held = [engine.empty((300_000,), _torch().float32) for engine in engines]
    values = {dtype: [given(place, 300_000, dtype, seed) for place in range(rank.size)] for dtype in DTYPES}
    sums = {dtype: summed(parts, dtype) for dtype, parts in values.items()}
    for number in range(rounds):
        which = shared.randrange(2)
        count = shared.choice([0, 1, 7, 256, 1000, 4096, 16_384, 32_768, 32_769, 65_537, 262_145])
        if count > 4096 and shared.random() < 0.8:
            count = shared.randrange(1, 4096)
        dtype, first = shared.choice(DTYPES), shared.randrange(300_000 - count)
        value, here = values[dtype][rank.number], slice(first, first + count)
        if mine.random() < 0.03:
            time.sleep(mine.random() * 0.003)
        if dtype == "float32" and shared.random() < 0.7:
            begin = mine.randrange(300_000 - count)
            tensor = held[which][begin : begin + count]
            tensor.copy_(value[here])
        else:
            tensor = value[here].clone()
        out = tensor if shared.random() < 0.4 else marked(count, dtype)
        engines[which].all_reduce(tensor, out)
        same(out, sums[dtype][here], f"{number}: {dtype}, {count} elements")
        if mine.random() < 0.5:
            tensor.zero_()  # it is the rank's own again
    engines[1].close()
    return rounds


def _torch() -> Any:
    import torch

    return torch
