"""PG: the groups of ranks that SGLang makes, on the platform's devices: who is in them, and what goes through them.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ..hosts import groups as host_groups
from . import expect
from .aids import worker
from .declare import on_ranks, requirement
from .grouping import beside, devices, joining, machines, numbers
from .member import Member

_HOOKED = "a hook on SGLang's parallel_state, or on its GroupCoordinator, does something else"
_NAMES_OF_GROUPS = (None, "tp", "attention_tp", "moe_ep", "moe_dp", "pp", "self_pp", "pdmux_prefill_tp", "dcp")


@requirement("PG-001")
@on_ranks(2, 4, joined=False)
def test_ranks_join_and_make_groups(member: Member) -> None:
    call = f"init_distributed_environment(backend={member.backend!r}), initialize_model_parallel()"
    expect.attempt(call, lambda: member.join(tp=member.size))
    expect.equal(member.coordinator.world_size, member.size, call="get_tp_group().world_size")
    joining.leave(member, "destroy_model_parallel(), destroy_distributed_environment()")


@requirement("PG-002")
@on_ranks(1, 2, 4)
def test_rank_knows_its_place(member: Member) -> None:
    import torch.distributed as dist

    expect.equal(dist.get_rank(), member.number, call="torch.distributed.get_rank()")
    expect.equal(dist.get_world_size(), member.size, call="torch.distributed.get_world_size()")
    place = {
        "rank": member.number,
        "rank_in_group": member.number,
        "local_rank": member.local,
        "world_size": member.size,
        "ranks": list(range(member.size)),
    }
    for kind in ("world", "tp"):
        for name, right in place.items():
            call = f"{host_groups.ACCESSORS[kind]}().{name}"
            expect.equal(getattr(host_groups.group(kind), name), right, call=call, cause=_HOOKED)


@requirement("PG-003")
@on_ranks(2, 4)
def test_coordinators_and_process_groups_are_of_the_same_ranks(member: Member) -> None:
    import torch.distributed as dist

    for kind, coordinator in host_groups.made().items():
        for name in ("device_group", "cpu_group"):
            call = f"{host_groups.ACCESSORS[kind]}().{name}"
            group = getattr(coordinator, name)
            expect.instance(expect.Answer(group, call, ""), dist.ProcessGroup, cause=_HOOKED)
            expect.equal(sorted(dist.get_process_group_ranks(group)), coordinator.ranks, call=f"ranks of {call}")
            expect.equal(dist.get_rank(group), coordinator.rank_in_group, call=f"get_rank({call})", cause=_HOOKED)
            expect.equal(dist.get_world_size(group), coordinator.world_size, call=f"get_world_size({call})")


@requirement("PG-004")
@on_ranks(2, 4)
def test_device_groups_are_of_the_platforms_backend(member: Member) -> None:
    kind_of_device = member.device.type
    default = devices.backends_of(None, "the default group")
    right = default.value.get(kind_of_device)
    named = f"a backend for {kind_of_device}: SGLang was given {member.backend!r}"
    expect.that(right, expected=named, seen=f"{default.value}", answer=default)
    for kind, coordinator in host_groups.made().items():
        answer = devices.backends_of(coordinator.device_group, f"{host_groups.ACCESSORS[kind]}().device_group")
        call = f"{answer.call}: the backend for {kind_of_device}"
        expect.equal(answer.value.get(kind_of_device, "none"), right, call=call, cause=_HOOKED)


@requirement("PG-005")
@on_ranks(2)
def test_host_groups_are_gloo(member: Member) -> None:
    import torch.distributed as dist

    for kind, coordinator in host_groups.made().items():
        call = f"torch.distributed.get_backend({host_groups.ACCESSORS[kind]}().cpu_group)"
        expect.equal(str(dist.get_backend(coordinator.cpu_group)), "gloo", call=call, cause=_HOOKED)


@requirement("PG-006")
@on_ranks(2, 4)
def test_host_groups_carry_host_tensors(member: Member) -> None:
    import torch
    import torch.distributed as dist

    host = torch.device("cpu")
    seen = []
    for kind, coordinator in host_groups.made().items():
        call = f"{host_groups.ACCESSORS[kind]}().cpu_group"
        group, size = coordinator.cpu_group, coordinator.world_size
        seen.append((coordinator, numbers.exchange(group, member.number, size, host, call)))
        expect.attempt(f"{call}: monitored_barrier", partial(dist.monitored_barrier, group=group, wait_all_ranks=True))
    for coordinator, exchanged in seen:
        numbers.judge(exchanged, coordinator.ranks, cause=_HOOKED)


@requirement("PG-007")
@on_ranks(2, 4)
def test_objects_go_through_host_groups(member: Member) -> None:
    import torch.distributed as dist

    group = member.coordinator.cpu_group
    own = {"rank": member.number, "text": "é" * member.number, "bytes": [member.number] * 100}
    everyone: list[Any] = [None] * member.size
    expect.attempt("all_gather_object", lambda: dist.all_gather_object(everyone, own, group=group))
    broadcast = []
    for source in range(member.size):
        parcel = [own if source == member.number else None]
        call = f"broadcast_object_list from rank {source}"
        expect.attempt(call, partial(dist.broadcast_object_list, parcel, src=source, group=group))
        broadcast.append(parcel[0])
    wanted = [{"rank": r, "text": "é" * r, "bytes": [r] * 100} for r in range(member.size)]
    expect.equal(everyone, wanted, call="all_gather_object on get_tp_group().cpu_group")
    expect.equal(broadcast, wanted, call="broadcast_object_list on get_tp_group().cpu_group, from each rank")


@requirement("PG-008")
@on_ranks(2, 4)
def test_groups_are_bound_to_the_ranks_own_device(member: Member, platform: Any) -> None:
    for kind, coordinator in host_groups.made().items():
        call = f"{host_groups.ACCESSORS[kind]}().device"
        named = expect.ask(platform, "get_group_coordinator_device", member.local)
        expect.equal(str(coordinator.device), str(named.value), call=call, where=named.where, cause=_HOOKED)
        if named.value.type != "cpu":
            tensor = expect.attempt(f"a tensor on {call}", partial(devices.tensor_on, coordinator.device))
            expect.equal(str(tensor.value.device), str(member.device), call=tensor.call, where=named.where)


@requirement("PG-009")
@on_ranks(2, 4)
def test_device_groups_carry_the_ranks_tensors(member: Member) -> None:
    seen = []
    for kind, coordinator in host_groups.made().items():
        call = f"{host_groups.ACCESSORS[kind]}().device_group"
        size = coordinator.world_size
        seen.append((coordinator, numbers.exchange(coordinator.device_group, member.number, size, member.device, call)))
    for coordinator, exchanged in seen:
        numbers.judge(exchanged, coordinator.ranks, cause=_HOOKED)


@requirement("PG-010")
@on_ranks(2, joined=False)
def test_joining_leaves_the_current_device(member: Member) -> None:
    seen = {"before joining": devices.current(member.device)}
    with joining.joined(member, f"tp={member.size}", tp=member.size):
        seen["after joining"] = devices.current(member.device)
        call = "get_tp_group().device_group"
        numbers.exchange(member.group, member.number, member.size, member.device, call)
        member.coordinator.barrier()
        seen["after collectives and a barrier"] = devices.current(member.device)
    seen["after leaving"] = devices.current(member.device)
    for moment, device in seen.items():
        expect.equal(device, devices.index(member.device), call=f"the current device {moment}", cause=_HOOKED)


@requirement("PG-011")
@on_ranks(2, 4, joined=False)
def test_local_rank_is_not_the_rank(member: Member, platform: Any) -> None:
    """As on a second machine, or with devices chosen in another order: the last rank has the first device."""
    local, device = devices.of_another(platform, member)
    worker.make_current(platform, device)
    try:
        call = f"init_distributed_environment(rank={member.number}, local_rank={local})"
        expect.attempt(call, lambda: joining.enter(member, local_rank=local))
        expect.attempt("initialize_model_parallel()", lambda: host_groups.lay_out(tp=member.size))
        made = host_groups.made()
        exchanged = numbers.exchange(member.group, member.number, member.size, device, "get_tp_group().device_group")
    finally:
        worker.make_current(platform, member.device)
    for kind, coordinator in made.items():
        expect.equal(coordinator.local_rank, local, call=f"{host_groups.ACCESSORS[kind]}().local_rank", cause=_HOOKED)
        expect.equal(coordinator.rank, member.number, call=f"{host_groups.ACCESSORS[kind]}().rank", cause=_HOOKED)
        named = devices.index(coordinator.device)
        expected = f"the device {device}, or the host"
        right = coordinator.device.type == "cpu" or coordinator.device.index is None or named == devices.index(device)
        expect.that(right, expected=expected, seen=str(coordinator.device), call=f"{call}: the {kind} group's device")
    numbers.judge(exchanged, range(member.size), cause=_HOOKED)


@requirement("PG-012")
@on_ranks(2, 4)
def test_group_names_are_unique_and_the_same_on_all_ranks(member: Member) -> None:
    made = dict(host_groups.made())
    lists = {"twice": beside.everyone(member.size)}
    with beside.added(member, lists) as once, beside.added(member, lists) as again:
        made |= {"first of a name": once["twice"], "second of a name": again["twice"]}
        own = {kind: coordinator.unique_name for kind, coordinator in made.items()}
        everyone = member.side.to_all(own)
        found = {kind: host_groups.known_by(name) for kind, name in own.items()}
        others = {kind: [names[kind] for names in everyone] for kind in own}
    distinct = {id(coordinator): coordinator.unique_name for coordinator in made.values()}
    expect.equal(len(set(distinct.values())), len(distinct), call=f"different names among {sorted(distinct.values())}")
    for kind, coordinator in made.items():
        call = f"unique_name of the {kind} group on its ranks {coordinator.ranks}"
        names = {others[kind][rank] for rank in coordinator.ranks}
        expect.that(len(names) == 1, expected="one name", seen=f"{sorted(names)}", call=call, cause=_HOOKED)
        expected = f"the coordinator of {coordinator.ranks}"
        known = found[kind]
        call = f"what SGLang finds by the name {coordinator.unique_name!r}"
        expect.that(known is coordinator, expected=expected, seen=expect.show(known), call=call, cause=_HOOKED)


@requirement("PG-019")
@on_ranks(2)
def test_host_tensors_go_through_a_group_that_names_the_host(member: Member) -> None:
    import torch

    named = devices.backends_of(None, "the default group").value
    if "cpu" not in named:
        raise expect.Declined(f"the backends {named} are none for host tensors")
    call = "get_tp_group().device_group"
    exchanged = numbers.exchange(member.group, member.number, member.size, torch.device("cpu"), call)
    numbers.judge(exchanged, range(member.size))


@requirement("PG-020")
@on_ranks(2)
def test_options_of_groups_are_what_torch_takes(member: Member) -> None:
    """Torch looks at NCCL's alone: a vendor's own backend is handed whatever they are, and others are handed none."""
    import torch.distributed as dist

    backend = devices.backends_of(None, "the default group").value.get(member.device.type)
    kind = getattr(dist.distributed_c10d, "ProcessGroupNCCL", None) if backend == "nccl" else None
    for name in _NAMES_OF_GROUPS:
        call = f"get_torch_distributed_pg_options({name!r})"
        answer = expect.attempt(call, partial(host_groups.state().get_torch_distributed_pg_options, name))
        if kind is not None and answer.value is not None:
            expect.instance(answer, kind.Options, expected="None, or NCCL's options")


@requirement("PG-021")
@on_ranks(2, 4)
def test_ranks_of_one_machine_find_each_other(member: Member) -> None:
    group, everyone, seen = member.coordinator.cpu_group, member.side.to_all(machines.memory()), []
    for source in (0, member.size - 1):
        call = f"in_the_same_node_as(get_tp_group().cpu_group, {source})"
        seen.append(expect.attempt(call, partial(host_groups.state().in_the_same_node_as, group, source)))
    for source, answer in zip((0, member.size - 1), seen, strict=True):
        expect.equal(answer, [memory == everyone[source] for memory in everyone], cause=_HOOKED)
