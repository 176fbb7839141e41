"""MEM: memory, as SGLang computes what is free: the total of a device less what is in use.

Nothing is compared with a number that the platform itself gave where there is another truth: bytes that tensors really
hold, and what torch's module of the device says.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from . import expect
from .aids import answers, holdings, worker
from .aids.worker import MIB
from .declare import in_probe, requirement

SMALL = 256 * MIB
HELD = 64 * MIB


@requirement("MEM-001")
@in_probe
def test_total_is_a_whole_number_of_bytes(platform: Any) -> None:
    for device in worker.devices(platform):
        total = expect.ask(platform, "get_device_total_memory", worker.index_of(device))
        expect.instance(total, int)
        expect.that(total.value > 0, expected="more than nothing", seen=str(total.value), answer=total)
        if total.value < SMALL and holdings.fits(device, total.value + 1):
            cause = "another unit than bytes, as KiB, MB or GB"
            seen = f"{total.value}, and a tensor of {total.value + 1} bytes fits"
            expect.fail(expected="bytes", seen=seen, call=total.call, where=total.where, cause=cause)


@requirement("MEM-002")
@in_probe
def test_total_is_not_more_than_the_device_has(platform: Any) -> None:
    for device in worker.devices(platform):
        total = expect.ask(platform, "get_device_total_memory", worker.index_of(device))
        there = holdings.capacity(device)
        if there:
            expected = f"about {there} bytes, as torch says of {device}"
            expect.that(total.value <= 2 * there, expected=expected, seen=str(total.value), answer=total)


@requirement("MEM-003")
@in_probe
def test_total_stays_the_same(platform: Any) -> None:
    for device in worker.devices(platform)[:2]:
        index = worker.index_of(device)
        first = expect.ask(platform, "get_device_total_memory", index)
        held = worker.hold(device, HELD)
        expect.equal(expect.ask(platform, "get_device_total_memory", index), first.value)
        del held
        expect.ask(platform, "empty_cache")
        expect.equal(expect.ask(platform, "get_device_total_memory", index), first.value)
    without = expect.ask(platform, "get_device_total_memory")
    expect.equal(
        without, expect.ask(platform, "get_device_total_memory", 0).value, cause="without an index it is device 0"
    )


@requirement("MEM-004")
@in_probe
def test_usage_is_a_number_of_bytes_within_the_total(platform: Any) -> None:
    for device in worker.devices(platform):
        worker.make_current(platform, device)
        total = expect.ask(platform, "get_device_total_memory", worker.index_of(device)).value
        usage = expect.ask(platform, "get_current_memory_usage")
        seen = answers.number(usage)
        expect.that(
            0 <= seen < total, expected=f"from 0 to less than the total, {total}", seen=f"{seen:g}", answer=usage
        )


@requirement("MEM-005")
@in_probe
def test_usage_is_at_least_what_tensors_hold(platform: Any) -> None:
    device = worker.devices(platform)[0]
    worker.make_current(platform, device)
    held = worker.hold(device, HELD)
    holdings.at_least(expect.ask(platform, "get_current_memory_usage"), HELD)
    del held


@requirement("MEM-005")
@in_probe
def test_usage_rises_with_what_tensors_hold(platform: Any) -> None:
    device = worker.devices(platform)[0]
    if device.type == "cpu":
        return
    worker.make_current(platform, device)
    holdings.rises(platform, device)


@requirement("MEM-005")
@in_probe
@given(steps=st.lists(st.integers(-4, 96), min_size=1, max_size=12))
def test_usage_is_never_below_what_tensors_hold(platform: Any, steps: list[int]) -> None:
    """Positive steps hold so many times 4 KiB more; others drop the tensor at that place, if there is one."""
    device = worker.devices(platform)[0]
    worker.make_current(platform, device)
    held: list[Any] = []
    for step in steps:
        if step > 0:
            held.append(worker.hold(device, step << 12))
        elif -step < len(held):
            del held[-step]
        size = sum(tensor.numel() for tensor in held)
        holdings.at_least(expect.ask(platform, "get_current_memory_usage"), size)


@requirement("MEM-006")
@in_probe
def test_usage_without_a_device_is_of_the_current_one(platform: Any) -> None:
    devices = worker.devices(platform)
    if len(devices) < 2:
        return
    first, second = devices[:2]
    worker.make_current(platform, first)
    holdings.ignores(platform, second)
    worker.make_current(platform, second)
    held = worker.hold(second, HELD)
    holdings.at_least(expect.ask(platform, "get_current_memory_usage"), HELD, who=f"tensors on the current {second}")
    del held


@requirement("MEM-007")
@in_probe
def test_usage_of_a_named_device_is_its_own(platform: Any) -> None:
    devices = worker.devices(platform)
    worker.make_current(platform, devices[0])
    if len(devices) > 1:
        holdings.ignores(platform, devices[1], devices[0])
    for device in reversed(devices[:2]):
        held = worker.hold(device, HELD)
        holdings.at_least(expect.ask(platform, "get_current_memory_usage", device), HELD, who=f"tensors on {device}")
        del held


@requirement("MEM-008")
@in_probe
@given(steps=st.lists(st.sampled_from(["hold", "drop", "total", "usage", "named"]), min_size=2, max_size=10))
def test_asking_changes_nothing(platform: Any, steps: list[str]) -> None:
    device = worker.devices(platform)[0]
    worker.make_current(platform, device)
    holdings.afresh(device)
    held: list[Any] = []
    for step in steps:
        if step == "hold":
            held.append(worker.hold(device, MIB))
        elif step == "drop":
            del held[:1]
        else:
            before = holdings.statistics(device)
            member, asked = _question(step, device)
            answer = expect.ask(platform, member, *asked)
            cause = "asking empties the cache, resets the peak or moves the current device"
            after = holdings.statistics(device)
            expect.equal(
                after, before, call=f"{answer.call}; what torch counts on {device}", where=answer.where, cause=cause
            )
    expect.equal(
        {n for t in held for n in worker.values(t[:: MIB // 4])} - {7}, set(), call="the tensors held meanwhile"
    )


@requirement("MEM-009")
@in_probe
def test_available_memory_is_free_and_total(platform: Any) -> None:
    for device in worker.devices(platform):
        index = worker.index_of(device)
        answer = worker.optional(platform, "get_available_memory", index)
        pair = isinstance(answer.value, tuple) and [type(part) for part in answer.value] == [int, int]
        expect.that(pair, expected="a tuple of two ints: free and total", seen=expect.show(answer.value), answer=answer)
        free, total = answer.value
        expect.that(0 <= free <= total, expected=f"free from 0 to {total}", seen=str(free), answer=answer)
        expect.equal(total, expect.ask(platform, "get_device_total_memory", index).value, call=f"{answer.call}[1]")


@requirement("MEM-010")
@in_probe
def test_freed_memory_is_available_again(platform: Any) -> None:
    device = worker.devices(platform)[0]
    worker.make_current(platform, device)
    worker.optional(platform, "get_available_memory", worker.index_of(device))
    if device.type != "cpu":
        holdings.comes_back(platform, device)


@requirement("MEM-011")
@in_probe
def test_pinning_is_answered_for_any_device(platform: Any) -> None:
    device = worker.devices(platform)[0]
    for asked in ((), (None,), (device,), (str(device),), ("cpu",)):
        expect.instance(expect.ask(platform, "is_pin_memory_available", *asked), bool)


@requirement("MEM-012")
@in_probe
def test_declared_pinning_works(platform: Any) -> None:
    import torch

    device = worker.devices(platform)[0]
    worker.make_current(platform, device)
    answer = expect.ask(platform, "is_pin_memory_available", device)
    if not answer.value:
        return
    call = f"{answer.call} is True; torch.tensor([3, 1, 2], pin_memory=True)"
    host = expect.attempt(call, lambda: torch.tensor([3, 1, 2], pin_memory=True), where=answer.where).value
    expect.equal(host.is_pinned(), True, call=f"{call}.is_pinned()", where=answer.where)
    copied = expect.attempt(
        f"{call}.to({str(device)!r}, non_blocking=True)", lambda: host.to(device, non_blocking=True)
    )
    expect.ask(platform, "synchronize")
    expect.equal(worker.values(copied.value), [3, 1, 2], call=copied.call, where=answer.where)


def _question(step: str, device: Any) -> tuple[str, tuple[Any, ...]]:
    """The member to ask, and what with."""
    if step == "total":
        return "get_device_total_memory", (worker.index_of(device),)
    return "get_current_memory_usage", (device,) if step == "named" else ()
