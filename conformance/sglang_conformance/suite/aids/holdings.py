"""What tensors hold on a device, against what the platform says of its memory.

Other processes may take and give memory of the same device between two questions, so a change is looked for in
several rounds and must be seen in one of them. On the host no change is looked for: the kernel keeps pages that were
freed for each processor, and its count of available memory leaves them out until they are wanted elsewhere.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .. import expect
from . import answers, worker
from .worker import MIB

_STATISTICS = ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved")
_QUESTIONS = {"total": "get_device_total_memory", "usage": "get_current_memory_usage"}
# MiB a round: a pool that was taken in advance has to be used up before usage can rise.
_ROUNDS = (32, 32, 64, 128, 256, 512)
_TWICE = 4  # rounds, in each of which what is counted twice shows
_DROPPED = 64


def afresh(device: Any) -> None:
    """Let torch's module forget its peaks and empty its cache, so that one example does not show in the next."""
    import torch

    module = torch.get_device_module(device)
    for name in ("empty_cache", "reset_peak_memory_stats"):
        if callable(forget := getattr(module, name, None)):
            forget()


def fits(device: Any, size: int) -> bool:
    """Whether a tensor of ``size`` bytes can be had on the device."""
    try:
        worker.hold(device, size)
    except expect.Violation:
        return False
    return True


def capacity(device: Any) -> int:
    """The bytes that the device has, as torch's module of it says; 0 where that says nothing."""
    import torch

    ask = getattr(torch.get_device_module(device), "get_device_properties", None)
    try:
        return int(ask(device.index).total_memory) if ask else 0
    except Exception:
        return 0


def statistics(device: Any) -> dict[str, Any]:
    """What torch's module counts on the device, by the function's name; moves no counter."""
    import torch

    module = torch.get_device_module(device)
    there = [name for name in _STATISTICS if callable(getattr(module, name, None))]
    return {name: getattr(module, name)(device) for name in there}


def elsewhere(device: Any) -> dict[int, int] | None:
    """The bytes that tensors of this process hold on other devices of the type, by index, where there are any.

    None where torch's module does not count them, and of the host.
    """
    import torch

    module = torch.get_device_module(device)
    if device.type == "cpu" or not hasattr(module, "memory_allocated"):
        return None
    try:
        held = {index: int(module.memory_allocated(index)) for index in range(module.device_count())}
    except Exception:
        return None
    return {index: count for index, count in held.items() if count and index != device.index}


def current(device: Any) -> Any:
    """The current device of its type, as torch's module says."""
    import torch

    return torch.get_device_module(device).current_device()


def totals(platform: Any) -> Iterator[tuple[Any, expect.Answer, int]]:
    """Each device of which torch's module says what it has, with the platform's total, a number, and torch's."""
    for device in worker.devices(platform):
        answer = expect.ask(platform, "get_device_total_memory", worker.index_of(device))
        if there := capacity(device):
            yield device, expect.Answer(answers.number(answer), answer.call, answer.where), there


def asking_keeps(platform: Any, steps: Sequence[str], look: Callable[[Any], Any], what: str) -> None:
    """Hold, drop and ask, on a device that is not the first where there are two.

    A violation where a question changes what ``look`` sees of the device, or what the tensors hold.
    """
    device = worker.devices(platform)[:2][-1]
    worker.make_current(platform, device)
    afresh(device)
    held: list[Any] = []
    for step in steps:
        if step == "hold":
            held.append(worker.hold(device, MIB))
        elif step == "drop":
            del held[:1]
        else:
            before = look(device)
            member, asked = _QUESTIONS[step], (worker.index_of(device),) if step == "total" else ()
            answer = expect.ask(platform, member, *asked)
            expect.equal(look(device), before, call=f"{answer.call}; {what}, on {device}", where=answer.where)
    found = {number for tensor in held for number in worker.values(tensor[:: MIB // 4])}
    expect.equal(found - {7}, set(), call="the tensors held while memory was asked for")


def at_least(usage: expect.Answer, size: int, *, who: str = "tensors") -> None:
    """A violation where the usage is less than the ``size`` bytes that tensors hold."""
    seen = answers.number(usage)
    expect.that(seen >= size, expected=f"at least the {size} bytes that {who} hold", seen=f"{seen:.0f}", answer=usage)


def rises(platform: Any, device: Any) -> None:
    """A violation unless usage rises, in one of several rounds, by half at least of what is held in addition."""
    held, seen = [], []
    for size in _ROUNDS:
        before = _usage(platform)
        held.append(worker.hold(device, size * MIB))
        answer = expect.ask(platform, "get_current_memory_usage")
        rise = answers.number(answer) - before
        if 2 * rise >= size * MIB:
            return
        seen.append(f"{rise / MIB:.0f} MiB for {size} MiB")
    expect.fail(
        expected="usage to rise with what tensors hold",
        seen=", ".join(seen),
        call=answer.call,
        where=answer.where,
    )


def counts_once(platform: Any, device: Any) -> None:
    """A violation where usage rises, in each of several rounds, by half as much again as is held in addition.

    A pool that grows ahead of what is asked of it, and other processes, make some rounds rise more, not all.
    """
    held, seen = [], []
    for _ in range(_TWICE):
        before = _usage(platform)
        held.append(worker.hold(device, 64 * MIB))
        answer = expect.ask(platform, "get_current_memory_usage")
        seen.append(answers.number(answer) - before)
    expect.that(
        min(seen) < 96 * MIB,
        expected="each byte that tensors hold to count once",
        seen=f"{', '.join(f'{rise / MIB:.0f} MiB' for rise in seen)} more, each time that 64 MiB more were held",
        answer=answer,
    )


def ignores(platform: Any, other: Any, *asked: Any) -> None:
    """A violation where usage, of the current device or of ``asked``, rises in most rounds by what ``other`` holds."""
    held, seen = [], []
    for _ in range(5):
        before = _usage(platform, *asked)
        held.append(worker.hold(other, 32 * MIB))
        answer = expect.ask(platform, "get_current_memory_usage", *asked)
        rise = answers.number(answer) - before
        seen.append(rise)
    expect.that(
        sum(rise >= 16 * MIB for rise in seen) < 3,
        expected=f"what {other} holds not to count",
        seen=f"{', '.join(f'{rise / MIB:.0f} MiB' for rise in seen)} more, each time that {other} was given 32 MiB",
        answer=answer,
    )


def comes_back(platform: Any, device: Any) -> None:
    """A violation unless half at least of what was held is available again, in one of several rounds, when dropped."""
    call = expect.spell("get_available_memory", (worker.index_of(device),))
    where = expect.place_of(platform, "get_available_memory")
    _moves(platform, device, lambda: _free(platform, device), expect.Answer("more", call, where))


def falls(platform: Any, device: Any) -> None:
    """A violation unless usage falls by half at least of what was held, in one of several rounds, when dropped."""
    where = expect.place_of(platform, "get_current_memory_usage")
    less = expect.Answer("less", expect.spell("get_current_memory_usage"), where)
    _moves(platform, device, lambda: -_usage(platform), less)


def _moves(platform: Any, device: Any, measure: Callable[[], float], wanted: expect.Answer) -> None:
    """Hold and drop, in several rounds; in one of them the measure must rise by half at least of what was held."""
    seen = []
    for _ in range(5):
        held = worker.hold(device, _DROPPED * MIB)
        before = measure()
        del held
        for member in ("synchronize", "empty_cache"):
            expect.ask(platform, member)
        rise = measure() - before
        if 2 * rise >= _DROPPED * MIB:
            return
        seen.append(f"{rise / MIB:.0f} MiB")
    expect.fail(
        expected=f"about {_DROPPED} MiB {wanted.value}, once dropped and the cache emptied",
        seen=f"{', '.join(seen)} {wanted.value}",
        call=wanted.call,
        where=wanted.where,
    )


def _usage(platform: Any, *asked: Any) -> float:
    return answers.number(expect.ask(platform, "get_current_memory_usage", *asked))


def _free(platform: Any, device: Any) -> float:
    free: float = expect.ask(platform, "get_available_memory", worker.index_of(device)).value[0]
    return free
