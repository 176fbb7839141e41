"""DEV: device operations: naming devices, choosing one, waiting for it, and what else SGLang asks of one.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ..contract.model import Contract
from . import expect, isolate
from .aids import answers, current, queued, reindexing, seeds, uuids, worker
from .declare import in_probe, requirement, spawns


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
def test_get_device_answers_none_with_a_text(platform: Any) -> None:
    worker.start(platform)
    answer = expect.ask(platform, "get_device", None)
    cause = "without --device SGLang splits what it is answered at the colon"
    expect.instance(answer, str, cause=cause)
    expect.equal(answers.device(answer).type, platform.device_type, call=answer.call, where=answer.where)


@requirement("DEV-004")
@in_probe
def test_set_device_makes_the_device_current(platform: Any) -> None:
    import torch

    devices = worker.devices(platform)
    for device in [*reversed(devices), devices[0]]:
        answer = worker.optional(platform, "set_device", device)
        if device.type == "cpu":
            continue
        module = worker.module_of(platform)
        expect.equal(module.current_device(), device.index, call=f"{answer.call}; current_device()", where=answer.where)
        landed = torch.zeros(1, device=device.type).device
        expect.equal(landed, device, call=f"{answer.call}; torch.zeros(1, device={device.type!r})", where=answer.where)


@requirement("DEV-005")
@in_probe
def test_synchronize_waits_for_queued_work(platform: Any) -> None:
    for device in worker.devices(platform)[:2]:
        worker.make_current(platform, device)
        target = queued.copy_of_fives(device)
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
def test_uuid_is_one_stable_text(platform: Any, deadline: float) -> None:
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
    found: dict[str, int] = {}
    for device in worker.devices(platform):
        answer = uuids.asked(platform, device)
        seen = f"{answer.value!r}, as device {found.get(answer.value)} has"
        expect.that(answer.value not in found, expected="a uuid of its own", seen=seen, answer=answer)
        found[answer.value] = worker.index_of(device)


@requirement("DEV-011")
@in_probe
def test_capability_is_none_or_has_two_numbers(platform: Any) -> None:
    for answer in worker.capabilities(platform):
        cause = "SGLang reads .major and .minor and swallows the error where they are missing"
        parts = [getattr(answer.value, name, None) for name in ("major", "minor")]
        whole = all(isinstance(part, int) and not isinstance(part, bool) and part >= 0 for part in parts)
        expected = "None, or a major and a minor number from 0"
        expect.that(whole, expected=expected, seen=expect.show(answer.value), answer=answer, cause=cause)


@requirement("DEV-012")
@in_probe
def test_capability_can_be_told_as_one_number(platform: Any) -> None:
    for answer in worker.capabilities(platform):
        minor = answer.value.minor
        expect.that(0 <= minor <= 9, expected="a minor number of one digit", seen=str(minor), answer=answer)


@requirement("DEV-013")
@spawns
@in_probe
def test_reindexing_names_the_device(platform: Any, host: str, contract: Contract, deadline: float) -> None:
    devices = worker.devices(platform)
    child = reindexing.Child(host, contract.to_json(), deadline)
    for device in dict.fromkeys((devices[0], devices[-1])):
        index = worker.index_of(device)
        call = f"with platform.reindex_device_id({index}) as logical"
        uuid = reindexing.uuid_of(platform, device)
        answer = expect.attempt(call, partial(reindexing.given, platform, index, child))
        logical, found = answer.value
        expect.instance(expect.Answer(logical, call, expect.place_of(platform, "reindex_device_id")), int)
        if found is not None:
            reindexing.names(found, uuid, call=f"{call}: {logical} in a process started inside it")


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
    seeds.repeats(platform, worker.devices(platform)[:2])


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

    answers.text(worker.optional(platform, "get_torch_profiler_activity_str"))
    answer = expect.ask(platform, "get_torch_profiler_activity")
    expect.instance(answer, ProfilerActivity, expected="a torch.profiler.ProfilerActivity")


@requirement("DEV-019")
@in_probe
def test_profiler_activity_goes_by_its_own_name(platform: Any) -> None:
    name = worker.optional(platform, "get_torch_profiler_activity_str")
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
    for member in ("get_device", "get_device_name", "get_device_uuid"):
        try:
            value = getattr(platform, member)(beyond)
        except Exception:
            continue
        answer = expect.Answer(value, expect.spell(member, (beyond,)), expect.place_of(platform, member))
        named = member == "get_device" and str(value) == f"{platform.device_type}:{beyond}"  # for torch to refuse
        expect.that(named, expected="an error", seen=expect.show(value), answer=answer)


@requirement("DEV-022")
@in_probe
def test_uuid_can_name_a_file(platform: Any) -> None:
    for device in worker.devices(platform):
        answer = uuids.asked(platform, device)
        fit = "/" not in answer.value and len(answer.value.encode()) <= uuids.LONGEST_IN_A_PATH
        expected = f"at most {uuids.LONGEST_IN_A_PATH} bytes without a slash"
        expect.that(fit, expected=expected, seen=expect.show(answer.value), answer=answer)


@requirement("DEV-023")
@in_probe
def test_worker_stays_on_its_device(platform: Any) -> None:
    for device in worker.devices(platform)[1:2]:
        current.stays(platform, device, current.of_a_worker(device))


@requirement("DEV-024")
@in_probe
def test_asking_about_another_device_does_not_choose_it(platform: Any) -> None:
    for device in worker.devices(platform)[1:2]:
        current.stays(platform, device, current.of_others(0))


def _computed(device: Any) -> Any:
    import torch

    return torch.tensor([1.0, 2.0, 3.0, 4.0]).to(device) * 2 + 1
