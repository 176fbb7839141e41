"""What ranks in one group of tensor parallelism are made to do: checks that a rank runs, named by the tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reference.group_engines import Custom, Nccl
from reference.group_ranks import plain, told
from sglang_conformance.ranks.rank import Rank


def call(rank: Rank, method: str, args: list[Any], kwargs: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Call a method of the group: its result, whether that is the first argument itself, and the arguments after."""
    given, named = told(args), told(kwargs or {})
    try:
        result = getattr(rank.state.get_tp_group(), method)(*given, **named)
    except Exception as error:
        return {"error": type(error).__name__, "said": str(error)}
    return {
        "result": plain(result),
        "same": bool(given) and result is given[0],
        "args": plain([*given, *named.values()]),
    }


def pass_on(rank: Rank, how: str) -> Any:
    """Each rank gives something to the next, and says what it has from the one before."""
    group = rank.state.get_tp_group()
    later = []
    if how == "tensor":
        import torch

        mine = torch.tensor([2.0**rank.number, rank.number])
        if rank.number % 2 == 0:
            group.send(mine)
        received = group.recv(mine.shape, mine.dtype)
        if rank.number % 2:
            group.send(mine)
    elif how == "object":
        later = group.send_object(("from", rank.number), dst=(rank.number + 1) % rank.size, async_send=True)
        received = group.recv_object(src=(rank.number - 1) % rank.size)
    elif how == "dictionary":
        later = group.send_tensor_dict(_parcel(rank.number), async_send=True)
        received = group.recv_tensor_dict()
    else:
        received = group.send_recv_tensor_dict(_parcel(rank.number))
    for work in later:
        work.work.wait()
    return plain(received)


def _parcel(number: int) -> dict[str, Any]:
    import torch

    return {
        "rank": number,
        "a": torch.full((2, 2), float(number)),
        "none": torch.empty(0, 3),
        "b": torch.tensor(number),
    }


def describe(rank: Rank) -> dict[str, Any]:
    """What the group says of itself."""
    group = rank.state.get_tp_group()
    names = ("first_rank", "last_rank", "next_rank", "prev_rank", "is_first_rank", "is_last_rank", "rank_in_group")
    return {name: getattr(group, name) for name in names} | {"ranks": group.ranks, "local_rank": group.local_rank}


def same_node(rank: Rank) -> list[bool]:
    found: list[bool] = rank.state.in_the_same_node_as(rank.state.get_tp_group().cpu_group, source_rank=1)
    return found


def custom_groups(rank: Rank, wishes: list[list[int]]) -> list[int]:
    """A group of the caller's own, from which the sum of its ranks' numbers comes."""
    import torch
    import torch.distributed as dist

    group = rank.state.create_custom_parallel_group(wishes[rank.number])
    total = torch.tensor([rank.number])
    dist.all_reduce(total, group=group)
    members = dist.get_process_group_ranks(group)
    dist.destroy_process_group(group)
    return [int(total), *members]


def explained(rank: Rank) -> list[str]:
    import torch

    decision = rank.state.get_tp_group().explain_all_reduce(torch.ones(3))
    return [decision.engine, decision.reason]


def engines(rank: Rank) -> dict[str, Any]:
    """What becomes of an all-reduce and of uneven collectives once a plugin has put its engines into the group."""
    import torch

    group = rank.state.get_tp_group()
    group.ca_comm, group.pynccl_comm = Custom(), Nccl(group)
    try:
        meta = torch.empty(4, device="meta")
        found = {
            "small": group.all_reduce(meta).shape,
            "small is": group.explain_all_reduce(meta).engine,
            "large is": group.explain_all_reduce(torch.empty(5, device="meta")).engine,
        }
        with group.graph_capture():
            large = torch.empty(5, device="meta")
            found["captured is"] = group.explain_all_reduce(large).engine
            found["in place"] = group.all_reduce(large) is large
        found["gathered"] = plain(group.all_gatherv(torch.ones(1, 2), sizes=[1] * rank.size))
        found["calls"] = group.ca_comm.calls + group.pynccl_comm.calls
        found["enabled after"] = not group.pynccl_comm.disabled
    finally:
        group.ca_comm = group.pynccl_comm = None
    return {name: list(value) if isinstance(value, torch.Size) else value for name, value in found.items()}
