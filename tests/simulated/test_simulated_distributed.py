from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from sglang_simulated import device, distributed

Fill = Callable[..., Tensor]  # fill(n): n elements that hold this rank's number plus 1, on the device under test


def _all_reduce(fill: Fill, rank: int) -> Tensor:
    x = fill(2)
    dist.all_reduce(x)
    return x


def _all_reduce_async(fill: Fill, rank: int) -> Tensor:
    x = fill(2)
    work = dist.all_reduce(x, op=dist.ReduceOp.MAX, async_op=True)
    assert work is not None
    work.wait()
    return x


def _broadcast(fill: Fill, rank: int) -> Tensor:
    x = fill(2)
    dist.broadcast(x, src=1)
    return x


def _all_gather(fill: Fill, rank: int) -> Tensor:
    parts = [fill(1), fill(1)]
    dist.all_gather(parts, fill(1))
    return torch.cat(parts)


def _all_gather_into_tensor(fill: Fill, rank: int) -> Tensor:
    out = fill(4)
    dist.all_gather_into_tensor(out, fill(2))
    return out


def _reduce_scatter(fill: Fill, rank: int) -> Tensor:
    out = fill(1)
    dist.reduce_scatter(out, [fill(1), fill(1) * 10])
    return out


def _reduce_scatter_tensor(fill: Fill, rank: int) -> Tensor:
    out = fill(1)
    dist.reduce_scatter_tensor(out, fill(2) * torch.tensor([1.0, 10.0], device=out.device))
    return out


def _all_to_all(fill: Fill, rank: int) -> Tensor:
    out = fill(2)
    dist.all_to_all_single(out, fill(2) * torch.tensor([1.0, 10.0], device=out.device))
    return out


def _send_recv(fill: Fill, rank: int) -> Tensor:
    x = fill(2)
    if rank == 0:
        dist.send(x, 1)
        dist.recv(x, 1)
    else:
        got = fill(2)
        dist.recv(got, 0)
        dist.send(got + x, 0)
    return x


def _functional_all_gather(fill: Fill, rank: int) -> Tensor:
    from torch.distributed._functional_collectives import all_gather_tensor

    assert dist.group.WORLD is not None
    return all_gather_tensor(fill(1), 0, dist.group.WORLD) * 1


def _subgroup(fill: Fill, rank: int) -> Tensor:
    alone = [dist.new_group([r], backend=distributed.BACKEND_STRING) for r in (0, 1)]
    both = dist.new_group([0, 1], backend=distributed.BACKEND_STRING)
    x, y = fill(1), fill(1)
    dist.all_reduce(x, group=alone[rank])
    dist.all_reduce(y, group=both)
    dist.barrier(group=both)
    return torch.cat([x, y])


COLLECTIVES: dict[str, tuple[Callable[[Fill, int], Tensor], list[float], list[float]]] = {
    "all_reduce": (_all_reduce, [3, 3], [3, 3]),
    "all_reduce_async": (_all_reduce_async, [2, 2], [2, 2]),
    "broadcast": (_broadcast, [2, 2], [2, 2]),
    "all_gather": (_all_gather, [1, 2], [1, 2]),
    "all_gather_into_tensor": (_all_gather_into_tensor, [1, 1, 2, 2], [1, 1, 2, 2]),
    "reduce_scatter": (_reduce_scatter, [3], [30]),
    "reduce_scatter_tensor": (_reduce_scatter_tensor, [3], [30]),
    "all_to_all": (_all_to_all, [1, 2], [10, 20]),
    "send_recv": (_send_recv, [3, 3], [2, 2]),
    "functional_all_gather": (_functional_all_gather, [1, 2], [1, 2]),
    "subgroup": (_subgroup, [1, 3], [2, 3]),
}


def _every_collective(rank: int) -> dict[str, Any]:
    assert torch.distributed.get_backend() == "cpu:gloo,sim:simccl"
    results: dict[str, Any] = {}
    for kind in (f"sim:{rank}", "cpu"):
        for name, (collective, _, _) in COLLECTIVES.items():
            out = collective(lambda n, kind=kind: torch.full((n,), rank + 1.0, device=kind), rank)
            results[f"{name} on {kind.partition(':')[0]}"] = (str(out.device), out.tolist())
    dist.barrier()
    objects: list[Any] = [None, None]
    dist.all_gather_object(objects, {"rank": rank})
    results["objects"] = objects
    return results


def _capture(rank: int) -> str:
    sim = torch.get_device_module("sim")
    x = torch.ones(1, device="sim:0")
    with pytest.raises(RuntimeError) as caught, sim.graph(sim.Graph()):
        dist.all_reduce(x)
    return str(caught.value)


def _rank(rank: int, body: Callable[[int], Any], store: Path, to_parent: Connection) -> None:
    try:
        device.register()
        distributed.register()
        distributed.register()
        dist.init_process_group(distributed.BACKEND_STRING, init_method=f"file://{store}", rank=rank, world_size=2)
        answer = body(rank)
        dist.barrier()  # one that still joins fails when its peer has left
        dist.destroy_process_group()
        to_parent.send(answer)
    except BaseException:
        to_parent.send(traceback.format_exc())


def _on_two_ranks(body: Callable[[int], Any], store: Path) -> list[Any]:
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    ranks = [context.Process(target=_rank, args=(r, body, store, pipes[r][1])) for r in range(2)]
    for process in ranks:
        process.start()
    answers = [pipe.recv() if pipe.poll(60) else "no answer within 60 s" for pipe, _ in pipes]
    for process in ranks:
        process.join(5)
        process.kill()
    return answers


def test_every_collective_serves_device_and_host_tensors_of_one_group(tmp_path: Path) -> None:
    answers = _on_two_ranks(_every_collective, tmp_path / "store")
    for rank, answer in enumerate(answers):
        assert isinstance(answer, dict), answer
        expected: dict[str, Any] = {"objects": [{"rank": 0}, {"rank": 1}]}
        for name, (_, *by_rank) in COLLECTIVES.items():
            expected[f"{name} on sim"] = (f"sim:{rank}", by_rank[rank])
            expected[f"{name} on cpu"] = ("cpu", by_rank[rank])
        assert answer == expected


def test_a_collective_cannot_be_captured(tmp_path: Path) -> None:
    for answer in _on_two_ranks(_capture, tmp_path / "store"):
        assert answer == "simccl cannot be captured in a graph: keep collectives out of the capture"
