"""PyNCCL in groups of the reference, and on an accelerator: checks that tests name, for ranks of pynccl_ranks."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist

import sglang_reference
from reference.group_ranks import install, install_with_duplicate, lifetime, opened
from reference.pynccl_ranks import (
    equal,
    host_library,
    joint,
    mappings,
    modules,
    moving,
    noting,
    raised,
    reducible,
    replaced,
    share,
    wanted,
)
from sglang_conformance.contract import tables
from sglang_conformance.ranks.rank import Rank


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
    held = mappings()
    with host_library() if library else contextlib.nullcontext(), lifetime(rank, folder, release) as state:
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
            "held": mappings() - held,
            "why": comm.why_unavailable,
            "results": [t.tolist() for t in (mine, gathered, scattered, summed)],
        }
    return found | {"left": mappings() - held, "after": comm.available}


def moved_in(rank: Rank, folder: str, release: str) -> list[list[Any]]:
    """A broadcast and an exchange in a group that captures, in a release whose table is not here; and the calls."""
    sglang_reference.uninstall()
    sglang_reference.install({**tables.load("0.5.11").to_json(), "release": release})
    with host_library(), opened(rank, folder) as state:
        group, out = state.get_tp_group(), torch.zeros(rank.size)
        with group.graph_capture(), noting(group.pynccl_comm) as calls:
            given = group.broadcast(torch.full((2,), float(rank.number)), src=1)
            group.all_to_all_single(out, torch.arange(float(rank.size)) + 10 * rank.number)
    return [given.tolist(), out.tolist(), [each for each in dict.fromkeys(calls) if "Group" not in each]]


def duplicated(rank: Rank, folder: str) -> list[bool]:
    """Whether PyNCCL is disabled in the group of tensor parallelism and in its duplicate, through which both move."""
    install_with_duplicate("0.5.23")
    with host_library(), opened(rank, folder) as state:
        groups = state.get_tp_group(), state._PDMUX_PREFILL_TP_GROUP
        for group in groups:
            with noting(group.pynccl_comm) as calls:
                assert group.broadcast(torch.full((2,), float(rank.number)), src=1).tolist() == [1, 1]
            assert calls == ["ncclBroadcast"]
        return [group.pynccl_comm.disabled for group in groups]


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
    comm = modules().pynccl.PyNcclCommunicator(dist.group.WORLD, own, "host")
    assert sim.current_stream() == before
    handles: list[int | None] = []

    def note(called: Any, self: Any, name: str, *arguments: Any) -> None:
        handles.append(arguments[-1].value if arguments else None)
        called(self, name, *arguments)

    mine, side = torch.full((2,), own + 1.0).to(f"sim:{own}"), sim.Stream()
    with comm.change_state(enable=True), replaced(type(comm.nccl), "_call", note):
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
