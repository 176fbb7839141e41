"""CAR: reductions in a row, beside each other and between computations: in several groups, on streams, in threads.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import contextlib
import random
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from . import expect
from .collecting import apart, tensors
from .collecting.judging import REFUSED, Verdict, attempt, offered
from .communicating import spies as streams
from .declare import on_ranks, requirement
from .grouping import beside
from .member import Member
from .reducing import calls, engines, forms, many, sizes

_MANY, _MANY_OF_FOUR = 2000, 400
_STEPS = 48
_AT_ONCE = 20  # calls of each thread
_SHARE = 0.25  # of a check's time, for threads that are refused


@requirement("CAR-039")
@on_ranks(2, 4, watched=False)
def test_thousands_back_to_back(member: Member) -> str:
    found = engines.group_s(member)
    with Verdict() as verdict:
        done = many.back_to_back(member, verdict, found, _MANY if member.size == 2 else _MANY_OF_FOUR)
    return f"{done} in a row on {member.size} ranks"


@requirement("CAR-040")
@on_ranks(2, 4)
def test_the_same_memory_in_other_lengths_and_types(member: Member) -> None:
    found, memory = engines.group_s(member), tensors.memory(member.device)
    served = sizes.served(member)
    with Verdict() as verdict:
        for number in range(12):
            dtype = list(served)[number % len(served)]
            brought = forms.flat(dtype, member.size, (8, 256, 16, 504, 64)[number % 5], number)
            tensor = tensors.again(memory, brought.of(member.number), dtype)
            call = f"{calls.spelt(brought)} where others were before"
            if calls.alike(member, found, [(tensor, brought.words())])[0]:
                calls.judge(verdict, attempt(call, found.custom_all_reduce, tensor), brought, call)


@requirement("CAR-041")
@on_ranks(2, 4, watched=False)
def test_several_groups_take_turns(member: Member) -> None:
    first, served, pattern = engines.group_s(member), sizes.served(member), random.Random(4)
    lists = {"second": beside.everyone(member.size), "pairs": beside.pairs(member.size)}
    pause, made = apart.at_odd_times(member), []
    with engines.further(member, lists) as further, Verdict() as verdict:
        everyone = list(range(member.size))
        pair = next(ranks for ranks in lists["pairs"] if member.number in ranks)
        turns = [(first, everyone), (further["second"], everyone), (further["pairs"], pair)]
        expect.that(turns[1][0] is not None, expected="one too", seen="none", call="a second group of all ranks")
        for step in range(_STEPS):
            found, ranks = turns[pattern.randrange(3)]
            if found is None:  # for pairs it need not be enabled
                continue
            dtype, count = list(served.items())[step % len(served)]
            brought = forms.flat(dtype, len(ranks), count * (1 + step % 3), step)
            tensor, _ = calls.given(member, brought, ranks.index(member.number))
            if engines.accepts(found, tensor, brought.words()):
                pause()
                call = f"{calls.spelt(brought)}, call {step + 1}, in a group of ranks {ranks}"
                made.append((attempt(call, found.custom_all_reduce, tensor), brought, call))
        for got, brought, call in made:
            calls.judge(verdict, got, brought, call)


@requirement("CAR-042")
@on_ranks(2, 4)
def test_groups_of_some_ranks_sum_their_own(member: Member) -> None:
    served = sizes.served(member)
    lists = {"strided": beside.strided(member.size), "pairs": beside.pairs(member.size)}
    with beside.added(member, lists) as made, Verdict() as verdict:
        for name, each in lists.items():
            ranks = next(ranks for ranks in each if member.number in ranks)
            said = member.side.to_all(engines.of(made[name]) is not None)
            if len(ranks) == 1:
                continue
            call, place = f"a group of ranks {ranks}", ranks.index(member.number)
            verdict.equal([said[rank] for rank in ranks], [said[ranks[0]]] * len(ranks), call=f"enabled, in {call}")
            for dtype, count in served.items():
                brought = forms.flat(dtype, len(ranks), count, ranks[0])
                tensor, _ = calls.given(member, brought, place)
                words = f"GroupCoordinator.all_reduce of {brought.words()} in {call}"
                calls.judge(verdict, attempt(words, made[name].all_reduce, tensor), brought, words)


@requirement("CAR-043")
@on_ranks(2, 4)
def test_work_is_ordered_with_the_compute_around_it(member: Member) -> None:
    """On its caller's stream it needs no waiting: what is before it is done, what comes after sees its result."""
    import torch

    found, served = engines.group_s(member), sizes.served(member)
    module = streams.module_with_streams(member)
    busy = torch.ones(512, 512, device=member.device)
    with Verdict() as verdict:
        for number in range(6):
            dtype, count = list(served.items())[number % len(served)]
            brought = forms.flat(dtype, member.size, count, number)
            given, _ = calls.given(member, brought)
            tensors.synchronise(member.device)
            call, stream = f"{calls.spelt(brought)} between computations on a stream", module.Stream()
            with module.stream(stream):
                late = tensors.poisoned((count,), dtype, member.device)
                for _ in range(20 * (number // 2 % 2)):
                    busy = (busy @ busy).clamp(max=1.0)
                late.copy_(given)  # only once all that is done
                result = attempt(call, found.custom_all_reduce, late)
                got = result * 1.0 if isinstance(result, torch.Tensor) else result
                late.fill_(float("nan"))
            stream.synchronize()
            calls.judge(verdict, got, brought, call)


@requirement("CAR-044")
@on_ranks(2, 4)
def test_stream_device_and_random_numbers_stay(member: Member) -> None:
    import torch

    found, served, module = engines.group_s(member), sizes.served(member), torch.get_device_module(member.device)
    module.set_device(member.device)
    side = module.Stream() if hasattr(module, "Stream") and member.device.type != "cpu" else None

    def seen() -> tuple[Any, ...]:
        stream = module.current_stream() if side is not None else None
        return (stream, module.current_device(), torch.get_default_dtype(), torch.rand(2).tolist())

    with module.stream(side) if side is not None else contextlib.nullcontext():
        for dtype, count in served.items():
            brought = forms.flat(dtype, member.size, count)
            tensor, _ = calls.given(member, brought)
            for action, words in (
                (partial(engines.accepts, found, tensor), "should_custom_ar"),
                (partial(found.custom_all_reduce, tensor), "custom_all_reduce"),
            ):
                torch.manual_seed(5)
                wanted = seen()
                torch.manual_seed(5)
                call = f"{engines.OWNER}.{words}"
                attempt(call, action)
                told = f"after {call}: the current stream, the current device, the default type, random numbers"
                expect.equal(seen(), wanted, call=told, where=engines.where(found, words))


@requirement("CAR-045")
@on_ranks(2, 4)
def test_streams_take_turns(member: Member) -> None:
    found, served = engines.group_s(member), sizes.served(member)
    module = streams.module_with_streams(member)
    both, made = [module.Stream(), module.Stream()], []
    for number in range(12):
        dtype, count = list(served.items())[number % len(served)]
        brought = forms.flat(dtype, member.size, count, number)
        tensor, _ = calls.given(member, brought)
        tensors.synchronise(member.device)
        with module.stream(both[number % 2]):
            call = f"{calls.spelt(brought)}, call {number + 1}, on two streams in turns"
            made.append((offered(member, found.custom_all_reduce, tensor), brought, call))
    with Verdict() as verdict:
        for stream in both:
            stream.synchronize()
        for got, brought, call in made:
            calls.judge(verdict, got, brought, call)


@requirement("CAR-046")
@on_ranks(2, 4)
def test_threads_take_turns(member: Member) -> None:
    found, served = engines.group_s(member), sizes.served(member)
    with Verdict() as verdict:
        for number in range(6):
            dtype, count = list(served.items())[number % len(served)]
            brought = forms.flat(dtype, member.size, count, number)
            tensor, _ = calls.given(member, brought)
            reduce = partial(offered, member, found.custom_all_reduce, tensor)
            got = streams.in_a_thread(member, reduce) if number % 2 else reduce()
            call = f"{calls.spelt(brought)}, call {number + 1}, by two threads in turns"
            calls.judge(verdict, got, brought, call)


@requirement("CAR-047")
@on_ranks(2, 4, watched=False)
def test_threads_at_once_are_served_right_or_refused(member: Member) -> None:
    """Both bring the same, so that it does not matter whose call meets whose."""
    found, served = engines.group_s(member), sizes.served(member)
    dtype, count = next(iter(served.items()))
    brought = forms.flat(dtype, member.size, count)
    with ThreadPoolExecutor(2) as executor:
        begun = [executor.submit(_insisting, member, found, brought) for _ in range(2)]
        results = [each.result(member.seconds) for each in begun]
    with Verdict() as verdict:
        for number, got in enumerate(each for some in results for each in some):
            call = f"{calls.spelt(brought)}, call {number + 1}, two threads calling at once"
            calls.judge(verdict, got, brought, call)
    member.note(any(got is not REFUSED for some in results for got in some))


def _insisting(member: Member, found: Any, brought: forms.Brought) -> list[Any]:
    """Reduce so many times; whoever is refused tries again for a while, so that all ranks reduce equally often."""
    import torch

    torch.get_device_module(member.device).set_device(member.device)
    tensor, _ = calls.given(member, brought)
    until, made = time.monotonic() + _SHARE * member.seconds, list[Any]()
    while len(made) < _AT_ONCE:
        try:
            made.append(found.custom_all_reduce(tensor))
        except Exception as error:
            expect.pass_on_uncovered(error)
            if time.monotonic() > until:
                return [*made, REFUSED]
            time.sleep(0.0005)
    return made
