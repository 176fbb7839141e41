"""Ranks of the reference on the simulated accelerator, whose groups have a custom all-reduce."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

from import_path import REFERENCE, SIMULATED, TESTS, import_path
from reference.group_ranks import initialize, install, leave
from sglang_conformance.probes import client
from sglang_conformance.ranks.group import Setup
from sglang_conformance.ranks.pool import Pool
from sglang_conformance.ranks.rank import Rank

_MODULES = ("torch", "numpy", "reference.custom_ranks", "sglang_reference", "sglang_conformance.contract.tables")
_CLASS = "sglang_simulated.custom_all_reduce"


@contextlib.contextmanager
def ranks() -> Iterator[Pool]:
    """A pool of ranks that have joined nothing yet."""
    paths = import_path(TESTS, REFERENCE, SIMULATED)
    zygote = client.start(_MODULES, {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "SGLANG_SIM_DEVICES": "9"})
    warm = client.connect(zygote.address)
    pool = Pool(warm, Setup(watched=False), forward=False)
    try:
        yield pool
    finally:
        pool.close()
        warm.close()
        zygote.close()


@contextlib.contextmanager
def grouped(rank: Rank, folder: str, release: str) -> Iterator[Any]:
    """The group of tensor parallelism on the simulated device, with the plugin's hooks, from first to last."""
    rank.state = install(release)
    platform = importlib.import_module("sglang_simulated.platform").SimSRTPlatform()
    vars(importlib.import_module("sglang.srt.platforms"))["_current_platform"] = platform
    importlib.import_module("sglang_simulated.hooks").register()
    importlib.import_module("sglang.srt.plugins.hook_registry").HookRegistry.apply_hooks()
    platform.init_backend()
    torch.get_device_module("sim").set_device(rank.number)
    backend = importlib.import_module("sglang_simulated.distributed").BACKEND_STRING
    meeting = f"file://{folder}/{rank.meeting}"
    rank.state.init_distributed_environment(rank.size, rank.number, meeting, rank.number, backend)
    initialize(rank, tp_size=rank.size)
    try:
        yield rank.state.get_tp_group()
    finally:
        leave(rank.state)


def on_device(rank: Rank, *values: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype).to(f"sim:{rank.number}")


def in_use(rank: Rank, folder: str, release: str) -> dict[str, Any]:
    """Which engine takes which tensor, and what comes of it: eagerly, captured, replayed, and after the end."""
    with grouped(rank, folder, release) as group:
        engine = group.ca_comm
        small, odd = on_device(rank, *[rank.number + 1.0] * 4), on_device(rank, *[rank.number + 1.0] * 3)
        asked = [group.explain_all_reduce(tensor).engine for tensor in (small, odd)]
        eager = [group.all_reduce(small), group.all_reduce(odd.clone())]
        sim: Any = torch.get_device_module("sim")
        given, graph = torch.zeros_like(small), sim.Graph()
        with group.graph_capture(), sim.graph(graph):
            captured = group.all_reduce(given)
        replayed = []
        for turn in range(3):
            given.copy_(small * (turn + 1))
            graph.replay()
            replayed.append(captured.tolist())
        transposed = on_device(rank, *range(8)).reshape(2, 4).t()
        turned = group.all_reduce(transposed)
        found = {
            "class": type(engine).__name__,
            "disabled": engine.disabled,
            "asked": asked,
            "eager": [tensor.tolist() for tensor in eager],
            "input": small.tolist(),
            "replayed": replayed,
            "turned": [turned.tolist(), turned.stride() == transposed.stride()],
        }
        engine.close()
        engine.close()
        found["closed"] = [engine.disabled, engine.should_custom_ar(small), engine.custom_all_reduce(small) is None]
        return found


def wanting(rank: Rank, folder: str, who: int, how: str) -> dict[str, Any]:
    """One rank cannot make its engine: what all have then, how long that took, and whether the group still reduces."""
    custom = importlib.import_module(_CLASS)
    spoilt = _spoilt(custom, how) if rank.number == who else contextlib.nullcontext()
    began = time.monotonic()
    with mock.patch.object(custom, "SECONDS", 1.0), spoilt, grouped(rank, folder, "0.5.23") as group:
        seconds = time.monotonic() - began
        reduced = group.all_reduce(on_device(rank, 1.0, 2.0, 3.0, 4.0))
        return {
            "disabled": group.ca_comm is None or group.ca_comm.disabled,
            "why": "" if group.ca_comm is None else group.ca_comm.why_disabled,
            "engine": group.explain_all_reduce(on_device(rank, 0.0)).engine,
            "reduced": reduced.tolist(),
            "seconds": seconds,
        }


def _spoilt(custom: Any, how: str) -> Any:
    """A scope in which this rank cannot make its engine, or not in time."""

    def fail(*_: Any) -> None:
        raise OSError("no memory is left")

    def late() -> str:
        time.sleep(2.5)
        return str(machine())

    machine = custom._machine
    if how == "fails":
        return mock.patch.object(custom.SimCustomAllreduce, "_make", fail)
    return mock.patch.object(
        custom, "_machine", {"raises": fail, "is elsewhere": lambda: "another machine", "is late": late}[how]
    )


def staying_away(rank: Rank, folder: str, who: int) -> dict[str, Any]:
    """One rank asks for the class of a built-in device much later than the others: how that ends, and how soon."""
    install("0.5.23")
    choice = importlib.import_module("sglang.srt.distributed.device_communicators.custom_all_reduce")
    dist.init_process_group("gloo", f"file://{folder}/{rank.meeting}", rank=rank.number, world_size=rank.size)
    group: Any = dist.new_group(backend="gloo")
    before = group._get_backend(torch.device("cpu")).options._timeout
    dist.barrier(group=group)
    if rank.number == who:
        time.sleep(4)
    began = time.monotonic()
    said = ""
    with (
        mock.patch.object(choice, "DEADLINE", 1.0),
        mock.patch.object(choice, "kind_of_device", return_value="cuda"),
        mock.patch.object(torch.cuda, "get_device_capability", return_value=(9, 0)),
    ):
        try:
            choice.dispatch_custom_allreduce(group=group, device=torch.device("cuda", 0))
        except RuntimeError as error:
            said = str(error)
    seconds = time.monotonic() - began
    kept = group._get_backend(torch.device("cpu")).options._timeout == before
    time.sleep(0 if rank.number == who else max(0.0, 5 - seconds))  # who ended now would be missed, not late
    return {"said": said, "seconds": seconds, "kept": kept}


def asking(rank: Rank, folder: str, who: int, how: str) -> dict[str, Any]:
    """One rank's question about its links fails, or hangs: the class that all choose, how soon, and its sums."""
    install("0.5.23")
    choice = importlib.import_module("sglang.srt.distributed.device_communicators.custom_all_reduce")
    utils = importlib.import_module("sglang.srt.distributed.device_communicators.custom_all_reduce_utils")
    dist.init_process_group("gloo", f"file://{folder}/{rank.meeting}", rank=rank.number, world_size=rank.size)
    group: Any = dist.new_group(backend="gloo")

    def links(*_: Any) -> bool:
        if rank.number == who and how == "raises":
            raise OSError("the driver does not answer")
        if rank.number == who and how == "hangs":
            time.sleep(60)
        return True

    began = time.monotonic()
    with (
        mock.patch.multiple(utils, _PROBE_SECONDS=1.0, is_full_nvlink=links, _reaches=lambda *_: True),
        mock.patch.object(utils, "_physical", return_value=rank.number),
        mock.patch.object(choice, "kind_of_device", return_value="cuda"),
        mock.patch.object(torch.cuda, "get_device_capability", return_value=(9, 0)),
    ):
        chosen = choice.dispatch_custom_allreduce(group=group, device=torch.device("cuda", 0))
    seconds = time.monotonic() - began
    reduced = torch.ones(1)
    dist.all_reduce(reduced, group=group)
    return {"chosen": chosen.__name__, "seconds": seconds, "reduced": reduced.item()}


def come_and_go(rank: Rank, folder: str, times: int) -> list[int]:
    """How much more this process holds after so many engines: descriptors and mappings."""
    with grouped(rank, folder, "0.5.23") as group:
        custom = importlib.import_module(_CLASS)

        def turn() -> None:
            engine = custom.SimCustomAllreduce(group.cpu_group, group.device)
            assert engine.custom_all_reduce(on_device(rank, 1.0, 1.0, 1.0, 1.0)).tolist() == [rank.size] * 4
            dist.barrier(group=group.cpu_group)
            engine.close()

        turn()
        before = _held()
        for _ in range(times):
            turn()
        return [now - then for now, then in zip(_held(), before, strict=True)]


def _held() -> list[int]:
    return [len(os.listdir("/proc/self/fd")), Path("/proc/self/maps").read_text().count("memfd")]
