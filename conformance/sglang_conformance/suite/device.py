"""DEV: device operations: naming devices, choosing one, waiting for it, and what else SGLang asks of one.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from functools import partial
from typing import Any

from . import expect, isolate
from .aids import answers, queued, reindexing, seeds, uuids, worker
from .declare import in_probe, requirement


@requirement("DEV-001")
@in_probe
def test_get_device_names_the_device_of_that_index(platform: Any) -> None:
    devices = worker.devices(platform)
    for device in devices:
        answer = expect.ask(platform, "get_device", worker.index_of(device))
        named = answers.device(answer)
        only = len(devices) == 1 and named.index in (None, 0)
        expect.that(
            named.type == device.type and (only or named.index == device.index),
            expected=f"the device {device}",
            seen=str(named),
            answer=answer,
        )


@requirement("DEV-002")
@in_probe
def test_named_device_computes(platform: Any) -> None:
    for device in worker.devices(platform)[:2]:
        named = answers.device(expect.ask(platform, "get_device", worker.index_of(device)))
        worker.make_current(platform, device)
        result = expect.attempt(f"computing on {named}", partial(_computed, named))
        expect.equal(
            [int(n) for n in worker.values(result.value)], [3, 5, 7, 9], call=f"[1, 2, 3, 4] * 2 + 1 on {named}"
        )


@requirement("DEV-003")
@in_probe
def test_get_device_takes_none(platform: Any) -> None:
    worker.start(platform)
    answer = expect.ask(platform, "get_device", None)
    expect.equal(answers.device(answer).type, platform.device_type, call=answer.call, where=answer.where)


@requirement("DEV-004")
@in_probe
def test_set_device_makes_the_device_current(platform: Any) -> None:
    import torch

    devices = worker.devices(platform)
    for device in [*reversed(devices), devices[0]]:
        answer = expect.ask(platform, "set_device", device)
        if device.type == "cpu":
            continue
        module = worker.module_of(platform)
        expect.equal(module.current_device(), device.index, call=f"{answer.call}; current_device()", where=answer.where)
        landed = torch.zeros(1, device=device.type).device
        expect.equal(landed, device, call=f"{answer.call}; torch.zeros(1, device={device.type!r})", where=answer.where)


@requirement("DEV-005")
@in_probe
def test_synchronize_waits_for_queued_work(platform: Any) -> None:
    import torch

    for device in worker.devices(platform)[:2]:
        worker.make_current(platform, device)
        work = torch.ones(8 << 20, device=device)
        target = queued.host_buffer(work)
        for _ in range(4):
            work.add_(1)
        target.copy_(work, non_blocking=True)
        events = queued.marks(device)
        answer = expect.ask(platform, "synchronize")
        pending = sum(not event.query() for event in events)
        expect.equal(pending, 0, call=f"{answer.call}; events on {device} not yet complete", where=answer.where)
        seen = sorted({float(target[0]), float(target[-1])})
        expect.equal(seen, [5.0], call=f"{answer.call}; what was copied from {device}", where=answer.where)


@requirement("DEV-006")
@in_probe
def test_synchronize_and_empty_cache_work_at_any_time(platform: Any) -> None:
    worker.start(platform)
    for member in ("synchronize", "empty_cache", "empty_cache", "synchronize"):
        expect.ask(platform, member)
    for device in worker.devices(platform)[:2]:
        worker.make_current(platform, device)
        held = worker.hold(device, worker.MIB)
        for member in ("empty_cache", "synchronize"):
            expect.ask(platform, member)
        del held
        for member in ("synchronize", "empty_cache"):
            expect.ask(platform, member)


@requirement("DEV-007")
@in_probe
def test_empty_cache_leaves_live_tensors_alone(platform: Any) -> None:
    import torch

    for device in worker.devices(platform)[:2]:
        worker.make_current(platform, device)
        kept = torch.arange(1 << 16, device=device)
        view = kept[1 << 12 :: 1 << 12]
        garbage = worker.hold(device, worker.MIB)
        del garbage
        answer = expect.ask(platform, "empty_cache")
        again = worker.hold(device, worker.MIB)  # takes what a wrong empty_cache freed
        expect.equal(worker.values(view), list(range(1 << 12, 1 << 16, 1 << 12)), call=answer.call, where=answer.where)
        expect.equal(sum(worker.values(kept)), (1 << 15) * ((1 << 16) - 1), call=answer.call, where=answer.where)
        del again


@requirement("DEV-008")
@in_probe
def test_device_has_a_name(platform: Any) -> None:
    for device in worker.devices(platform):
        answers.text(worker.optional(platform, "get_device_name", worker.index_of(device)))


@requirement("DEV-009")
@in_probe
def test_uuid_is_one_stable_file_name(platform: Any, deadline: float) -> None:
    call = "platform.get_device_uuid"
    elsewhere = isolate.in_fork(lambda: uuids.listed(platform), deadline) if isolate.can_fork(platform) else None
    first, again = uuids.listed(platform), uuids.listed(platform)
    expect.equal(again, first, call=f"{call} of every device, asked again")
    if elsewhere is not None:
        call = f"{call} of every device, asked in another process"
        expect.equal(elsewhere.settled(call), first, call=call)


@requirement("DEV-010")
@in_probe
def test_no_two_devices_share_a_uuid(platform: Any) -> None:
    found: dict[Any, int] = {}
    for device in worker.devices(platform):
        answer = expect.ask(platform, "get_device_uuid", worker.index_of(device))
        expect.that(
            answer.value not in found,
            expected="a uuid of its own",
            seen=f"{answer.value!r}, as device {found.get(answer.value)} has",
            answer=answer,
        )
        found[answer.value] = worker.index_of(device)


@requirement("DEV-011")
@in_probe
def test_capability_is_none_or_sglangs_own_type(platform: Any) -> None:
    from sglang.srt.platforms.device_mixin import DeviceCapability

    for device in worker.devices(platform):
        answer = expect.ask(platform, "get_device_capability", worker.index_of(device))
        if answer.value is None:
            continue
        cause = "SGLang reads .major and .minor and swallows the error where they are missing"
        expect.instance(answer, DeviceCapability, expected="None or a DeviceCapability", cause=cause)
        whole = [type(part) is int and part >= 0 for part in answer.value]
        expect.that(all(whole), expected="whole numbers from 0", seen=expect.show(answer.value), answer=answer)


@requirement("DEV-012")
@in_probe
def test_capability_can_be_told_as_one_number(platform: Any) -> None:
    for device in worker.devices(platform):
        answer = expect.ask(platform, "get_device_capability", worker.index_of(device))
        if answer.value is None:
            continue
        minor = answer.value.minor
        expect.that(0 <= minor <= 9, expected="a minor number of one digit", seen=str(minor), answer=answer)


@requirement("DEV-013")
@in_probe
def test_reindexing_gives_a_device_index(platform: Any) -> None:
    devices = worker.devices(platform)
    for device in devices:
        index = worker.index_of(device)
        call = f"with platform.reindex_device_id({index}) as logical"
        answer = expect.attempt(call, partial(reindexing.given, platform, index))
        expect.instance(answer, int)
        given = answer.value
        expect.that(
            0 <= given < len(devices), expected=f"an index from 0 to {len(devices) - 1}", seen=str(given), call=call
        )


@requirement("DEV-014")
@in_probe
def test_reindexing_puts_the_environment_back(platform: Any) -> None:
    reindexing.puts_back(platform, raising=False)


@requirement("DEV-015")
@in_probe
def test_reindexing_puts_the_environment_back_after_an_error(platform: Any) -> None:
    reindexing.puts_back(platform, raising=True)


@requirement("DEV-016")
@in_probe
def test_one_seed_gives_one_sequence(platform: Any) -> None:
    devices = worker.devices(platform)[:2]
    drawn = [seeds.drawn_after(platform, devices, seed) for seed in (1234, 1234, 4321)]
    call = "platform.seed_everything(1234); torch.rand(8) on "
    for source in drawn[0]:
        expect.equal(drawn[1][source], drawn[0][source], call=f"{call}{source}, twice")
        expect.that(
            drawn[2][source] != drawn[0][source],
            expected="other numbers after another seed",
            seen="the same",
            call=f"platform.seed_everything(4321); torch.rand(8) on {source}",
        )


@requirement("DEV-016")
@in_probe
def test_no_seed_changes_nothing(platform: Any) -> None:
    devices = worker.devices(platform)[:2]
    expected = seeds.drawn_after(platform, devices, 1234)
    expect.ask(platform, "seed_everything", 1234)
    answer = expect.ask(platform, "seed_everything", None)
    expect.equal(seeds.drawn(devices), expected, call=answer.call, where=answer.where)


@requirement("DEV-017")
@in_probe
def test_inference_mode_stops_recording_gradients(platform: Any) -> None:
    import torch

    weight = torch.ones(2, requires_grad=True)
    answer = expect.ask(platform, "inference_mode")

    def inside() -> bool:
        with answer.value:
            return bool((weight * 2).requires_grad)

    expect.equal(
        expect.attempt(f"with {answer.call}", inside).value, False, call="(weight * 2).requires_grad inside it"
    )
    expect.equal((weight * 2).requires_grad, True, call="(weight * 2).requires_grad after it")


@requirement("DEV-018")
@in_probe
def test_profiler_activity_is_torchs(platform: Any) -> None:
    from torch.profiler import ProfilerActivity

    answers.text(expect.ask(platform, "get_torch_profiler_activity_str"))
    answer = expect.ask(platform, "get_torch_profiler_activity")
    expect.instance(answer, ProfilerActivity, expected="a torch.profiler.ProfilerActivity")


@requirement("DEV-019")
@in_probe
def test_profiler_activity_goes_by_its_own_name(platform: Any) -> None:
    name = expect.ask(platform, "get_torch_profiler_activity_str")
    activity = expect.ask(platform, "get_torch_profiler_activity")
    cause = "SGLang offers the activity only under a name that torch's ProfilerActivity has"
    expect.equal(name, getattr(activity.value, "name", None), cause=cause)


@requirement("DEV-020")
@in_probe
def test_supported_quantization_is_accepted(platform: Any) -> None:
    for method in platform.supported_quantization:
        expect.ask(platform, "verify_quantization", method)


@requirement("DEV-021")
@in_probe
def test_index_beyond_the_last_device_is_refused(platform: Any) -> None:
    devices = worker.devices(platform)
    if devices[0].index is None:
        return
    beyond = len(devices)
    for member in ("get_device", "get_device_name", "get_device_uuid", "get_device_total_memory"):
        try:
            value = getattr(platform, member)(beyond)
        except Exception:
            continue
        if member == "get_device" and str(value) == f"{platform.device_type}:{beyond}":
            continue  # a name only: torch refuses it when it is used
        where = expect.place_of(platform, member)
        expect.fail(expected="an error", seen=expect.show(value), call=expect.spell(member, (beyond,)), where=where)


def _computed(device: Any) -> Any:
    import torch

    return torch.tensor([1.0, 2.0, 3.0, 4.0]).to(device) * 2 + 1
