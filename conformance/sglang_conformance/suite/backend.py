"""BE: which torch.distributed backend serves a device, and whether groups made with it work.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from ..contract.model import BackendTable, Contract
from . import expect
from .aids import answers, groups, worker
from .declare import in_probe, requirement
from .drawing import texts

_NAMES = (
    "cpu",
    "cuda",
    "xpu",
    "hpu",
    "npu",
    "musa",
    "mps",
    "tpu",
    "mlu",
    "gpu",
    "cuda:0",
    "CUDA",
    "hip",
    "unknown",
    "",
)


def _asked_for(platform: Any, contract: Contract) -> set[str]:
    """The devices for which SGLang asks the platform: its device_type, and from 0.5.22 on its device_name as well."""
    by_name = {platform.device_name} if Version(contract.release) >= Version("0.5.22") else set()
    return {platform.device_type, *by_name}


@requirement("BE-001")
@in_probe
def test_backend_is_one_stable_text(platform: Any) -> None:
    first = answers.text(expect.ask(platform, "get_torch_distributed_backend_str"))
    worker.start(platform)
    for _ in range(2):
        expect.equal(expect.ask(platform, "get_torch_distributed_backend_str"), first)


@requirement("BE-002")
@in_probe
def test_backend_covers_the_device(platform: Any) -> None:
    worker.start(platform)
    answer = expect.ask(platform, "get_torch_distributed_backend_str")
    covered = groups.parsed(answer)
    cause = "a backend of one's own is registered with devices=[...], or named with its device, as cpu:gloo,mlu:cncl"
    expected = f"a backend for the device type {platform.device_type!r}"
    expect.that(
        platform.device_type in covered, expected=expected, seen=f"one for {covered}", answer=answer, cause=cause
    )


@requirement("BE-003")
@in_probe
def test_backend_is_available_in_torch(platform: Any) -> None:
    worker.start(platform)
    answer = expect.ask(platform, "get_torch_distributed_backend_str")
    for name in sorted(set(groups.parsed(answer).values())):
        cause = "init_backend() does not register it, or this torch is built without it"
        expected = f"a backend {name!r} that torch has"
        expect.that(groups.available(name), expected=expected, seen="none", answer=answer, cause=cause)


@requirement("BE-004")
@in_probe
def test_sglang_takes_the_platforms_backend_for_its_device(platform: Any, contract: Contract) -> None:
    own = expect.ask(platform, "get_torch_distributed_backend_str")
    for device in sorted(_asked_for(platform, contract)):
        expect.equal(groups.chosen(device), own.value, where=own.where, cause=groups.HOOKED)


@requirement("BE-005")
@in_probe
@given(device=st.one_of(st.sampled_from(_NAMES), texts("abcgmpux01:", most=6)))
def test_other_devices_keep_sglangs_backend(platform: Any, contract: Contract, device: str) -> None:
    if device in _asked_for(platform, contract):
        return
    with groups.noting(platform) as asked:
        answer = groups.chosen(device)
    expect.equal(answer, _tables(contract.backends, device), cause=groups.HOOKED)
    call = f"{answer.call}; questions to the platform of {platform.device_type!r}"
    expect.equal(len(asked), 0, call=call, cause=groups.HOOKED)


@requirement("BE-006")
@in_probe
def test_hook_brings_the_platforms_backend_to_its_device(platform: Any) -> None:
    try:
        own = platform.get_torch_distributed_backend_str()
    except Exception:
        own = None
    if own is None:
        raise expect.Declined("the platform names no backend of its own: SGLang's table decides")
    cause = "SGLang reads a fixed table before 0.5.14, which only a hook on this function can change"
    where = expect.place_of(platform, "get_torch_distributed_backend_str")
    expect.equal(groups.chosen(platform.device_type), own, where=where, cause=cause)


@requirement("BE-007")
@in_probe
def test_one_rank_makes_a_group_and_reduces(platform: Any, deadline: float) -> None:
    device = worker.devices(platform)[0]
    with tempfile.TemporaryDirectory() as folder:
        seen = groups.member(platform, device, folder, groups.reduced_and_sent, rank=0, size=1, deadline=deadline)
    expect.equal(seen, [[1.0, 100.0], [1.0, 100.0]])


@requirement("BE-008")
@in_probe
def test_two_ranks_make_a_group_and_reduce(platform: Any, deadline: float) -> None:
    call = "init_process_group on two ranks; all_reduce, then broadcast from rank 1"
    for number, seen in groups.pair(platform, call, groups.reduced_and_sent, deadline):
        expect.equal(seen, [[3.0, 300.0], [2.0, 200.0]], call=f"rank {number}: {call}")


@requirement("BE-012")
@in_probe
def test_two_ranks_make_more_groups(platform: Any, deadline: float) -> None:
    call = "two ranks make more groups by new_group, each with one on gloo beside it"
    wanted = {"sum": [3.0, 300.0], "min": [1.0, 100.0], "max": [2.0, 200.0], "gathered": [1.0, 100.0, 2.0, 200.0]}
    for number, seen in groups.pair(platform, call, groups.in_more_groups, deadline):
        for name, results in seen.items():
            expect.equal(results, [wanted[name]] * groups.MORE, call=f"rank {number}: {call}: {name}")


@requirement("BE-013")
@in_probe
def test_two_ranks_scatter_and_send(platform: Any, deadline: float) -> None:
    call = "two ranks: reduce_scatter_tensor, then each in turn sends to the other"
    for number, seen in groups.pair(platform, call, groups.scattered_and_received, deadline):
        part, of_the_other = [[3.0], [300.0]][number], [[2.0, 200.0], [1.0, 100.0]][number]
        expect.equal(seen, [part, of_the_other], call=f"rank {number}: {call}")


@requirement("BE-009")
@in_probe
def test_coordinator_device_is_the_ranks_own(platform: Any) -> None:
    import torch

    devices = worker.devices(platform)
    for device in devices:
        answer = expect.ask(platform, "get_group_coordinator_device", worker.index_of(device))
        expect.instance(answer, torch.device)
        named = answer.value
        if named.type == "cpu":
            continue  # the default, and BE-011's
        # Without an index it is the current device, which a worker has set to its own.
        own = named.index in (None, device.index) or (len(devices) == 1 and named.index == 0)
        expected = f"the device {device}, or the host"
        expect.that(named.type == device.type and own, expected=expected, seen=str(named), answer=answer)


@requirement("BE-011")
@in_probe
def test_coordinator_device_is_not_the_host(platform: Any) -> None:
    answer = expect.ask(platform, "get_group_coordinator_device", worker.index_of(worker.devices(platform)[0]))
    expect.equal(
        getattr(answer.value, "type", None),
        platform.device_type,
        call=f"{answer.call}: the device's type",
        where=answer.where,
        cause="" if answer.where else "SGLang's default is the host",
    )


@requirement("BE-010")
@in_probe
def test_communicator_is_none_or_a_class(platform: Any) -> None:
    answer = expect.ask(platform, "get_communicator_class")
    right = answer.value is None or isinstance(answer.value, type)
    expect.that(right, expected="None or a class", seen=expect.show(answer.value), answer=answer)


def _tables(backends: BackendTable, device: str) -> str:
    """The backend of a device that is not the platform's, by the rules of this release."""
    for switch in backends.switches:
        if switch.device == device and int(os.environ.get(switch.environment) or 0) > switch.above:
            return switch.backend
    return backends.table.get(device, backends.fallback)
