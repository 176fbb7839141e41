"""BE: which torch.distributed backend serves a device, and whether groups made with it work.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ..contract.model import BackendTable, Contract
from . import expect, isolate
from .aids import answers, groups, worker
from .declare import in_probe, requirement

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
def test_sglang_takes_the_platforms_backend_for_its_device(platform: Any) -> None:
    own = expect.ask(platform, "get_torch_distributed_backend_str")
    for device in sorted({platform.device_type, platform.device_name}):
        expect.equal(groups.chosen(device), own.value, where=own.where, cause=groups.HOOKED)


@requirement("BE-005")
@in_probe
@given(device=st.one_of(st.sampled_from(_NAMES), st.text("abcgmpux01:", max_size=6)))
def test_other_devices_keep_sglangs_backend(platform: Any, contract: Contract, device: str) -> None:
    if device in (platform.device_type, platform.device_name):
        return
    asked: list[str] = []
    original = platform.get_torch_distributed_backend_str

    def noted() -> Any:
        asked.append(device)
        return original()

    platform.get_torch_distributed_backend_str = noted
    try:
        answer = groups.chosen(device)
    finally:
        del platform.get_torch_distributed_backend_str
    expect.equal(answer, _tables(contract.backends, device), cause=groups.HOOKED)
    call = f"{answer.call}; questions to the platform of {platform.device_type!r}"
    expect.equal(asked, [], call=call, cause=groups.HOOKED)


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
        seen = groups.member(platform, device, folder, rank=0, size=1, deadline=deadline)
    expect.equal(seen, [[1.0, 100.0], [1.0, 100.0]])


@requirement("BE-008")
@in_probe
def test_two_ranks_make_a_group_and_reduce(platform: Any, deadline: float) -> None:
    if not isolate.can_fork(platform):
        return

    def rank(number: int, folder: str) -> list[list[float]] | None:
        devices = worker.devices(platform)
        if len(devices) == 1 and devices[0].type != "cpu":
            return None  # two ranks on one accelerator: vendors' backends rightly refuse
        return groups.member(platform, devices[number % len(devices)], folder, rank=number, size=2, deadline=deadline)

    call = "init_process_group on two ranks; all_reduce, then broadcast from rank 1"
    with tempfile.TemporaryDirectory() as folder:
        jobs = [lambda: rank(0, folder), lambda: rank(1, folder)]
        for number, outcome in enumerate(isolate.in_forks(jobs, deadline)):
            seen = outcome.settled(f"rank {number}: {call}")
            if seen is not None:
                expect.equal(seen, [[3.0, 300.0], [2.0, 200.0]], call=f"rank {number}: {call}")


@requirement("BE-009")
@in_probe
def test_coordinator_device_is_the_ranks_own(platform: Any) -> None:
    import torch

    devices = worker.devices(platform)
    for device in devices:
        answer = expect.ask(platform, "get_group_coordinator_device", worker.index_of(device))
        expect.instance(answer, torch.device)
        named = answer.value
        only = len(devices) == 1 and named.index in (None, 0)
        cause = "SGLang's default is the host" if not answer.where else ""
        expect.that(
            named.type == device.type and (only or named.index == device.index),
            expected=f"the device {device}",
            seen=str(named),
            answer=answer,
            cause=cause,
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
