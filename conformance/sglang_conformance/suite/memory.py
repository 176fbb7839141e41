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
from .aids import answers, holdings, pinning, worker
from .aids.worker import MIB
from .declare import in_probe, requirement

SMALL = 256 * MIB
HELD = 64 * MIB
STEPS = st.lists(st.sampled_from(["hold", "drop", "total", "usage"]), min_size=2, max_size=10)


@requirement("MEM-001")
@in_probe
def test_total_is_a_number_of_bytes(platform: Any) -> None:
    for device in worker.devices(platform):
        answer = expect.ask(platform, "get_device_total_memory", worker.index_of(device))
        total = answers.number(answer)
        expect.that(total > 0, expected="more than nothing", seen=str(total), answer=answer)
        if total < SMALL and holdings.fits(device, int(total) + 1):
            cause = "another unit than bytes, as KiB, MB or GB"
            seen = f"{total:g}, and a tensor that is larger fits"
            expect.fail(expected="bytes", seen=seen, call=answer.call, where=answer.where, cause=cause)


@requirement("MEM-002")
@in_probe
def test_total_is_not_more_than_the_device_has(platform: Any) -> None:
    for device, answer, there in holdings.totals(platform):
        expected = f"about {there} bytes, as torch says of {device}"
        expect.that(8 * answer.value <= 9 * there, expected=expected, seen=str(answer.value), answer=answer)


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
@given(steps=STEPS)
def test_asking_changes_no_tensor_and_no_device(platform: Any, steps: list[str]) -> None:
    holdings.asking_keeps(platform, steps, holdings.current, "the current device")


@requirement("MEM-009")
@in_probe
def test_available_memory_is_free_and_total(platform: Any) -> None:
    for device in worker.devices(platform):
        index = worker.index_of(device)
        answer = worker.optional(platform, "get_available_memory", index)
        pair = isinstance(answer.value, tuple) and len(answer.value) == 2
        expect.that(pair, expected="two numbers: free and total", seen=expect.show(answer.value), answer=answer)
        free, total = (answers.number(expect.Answer(part, answer.call, answer.where)) for part in answer.value)
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
    device = worker.devices(platform)[0]
    worker.make_current(platform, device)
    for asked in ((), (None,), (device,)):
        answer = expect.ask(platform, "is_pin_memory_available", *asked)
        if answer.value:
            pinning.works(platform, device, answer)


@requirement("MEM-013")
@in_probe
@given(steps=STEPS)
def test_asking_leaves_the_counters_and_the_cache_alone(platform: Any, steps: list[str]) -> None:
    holdings.asking_keeps(platform, steps, holdings.statistics, "what torch counts")


@requirement("MEM-014")
@in_probe
def test_total_is_not_a_fraction_of_what_the_device_has(platform: Any) -> None:
    for device, answer, there in holdings.totals(platform):
        expected = f"half at least of {there} bytes, as torch says of {device}"
        expect.that(2 * answer.value >= there, expected=expected, seen=str(answer.value), answer=answer)


@requirement("MEM-015")
@in_probe
def test_usage_counts_each_byte_once(platform: Any) -> None:
    device = worker.devices(platform)[0]
    if device.type != "cpu":
        worker.make_current(platform, device)
        holdings.counts_once(platform, device)


@requirement("MEM-016")
@in_probe
def test_usage_falls_when_tensors_are_dropped(platform: Any) -> None:
    device = worker.devices(platform)[0]
    if device.type != "cpu":
        worker.make_current(platform, device)
        holdings.falls(platform, device)
