"""JOUR: a platform serves while its pool is full, requests come and go at any time, and prefixes are shared.

PYTEST_DONT_REWRITE
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NoReturn

from hypothesis import example, given

from ..journey.leg import Leg
from ..journey.served import Served
from . import expect
from .aids import answers, holdings
from .declare import on_ranks, requirement
from .member import Member
from .serving import pressing, schedules
from .serving.legs import PAGED
from .serving.schedules import Schedule

_WORTH = 25  # usual examples: a schedule takes that much longer
_ROUNDS = 5
_LARGE = 16384  # slots: what is kept of a server must show where memory is counted by large blocks
_ALL: Mapping[str, Any] = {
    "disable_radix_cache": False,
    "chunked_prefill_size": 2 * schedules.PAGE,
    "max_running_requests": schedules.FEW_ROWS,
}
_ON_HOST = "the host's own memory is not looked at: much else moves it"


@requirement("JOUR-040")
@on_ranks(1, joined=False, worth=_WORTH)
@given(schedule=schedules.crowds())
@example(schedule=schedules.CROWD)
def test_full_pool_gives_the_same_tokens(member: Member, schedule: Schedule) -> Any:
    server = pressing.pressed(member)
    served = server.serve(schedule)
    if schedule == schedules.CROWD and not served.retracted:
        _not_reached(f"no request had to give way, in a pool of {served.after.total} slots")
    return server.told()


@requirement("JOUR-041")
@on_ranks(1, joined=False, worth=_WORTH)
@given(schedule=schedules.families())
@example(schedule=schedules.FAMILY)
def test_shared_prefixes_give_the_same_tokens(member: Member, schedule: Schedule) -> Any:
    server = pressing.pressed(member, disable_radix_cache=False)
    served = server.serve(schedule)
    if schedule == schedules.FAMILY and not served.cached:
        _not_reached("the prefix cache had no token of any request")
    return server.told()


@requirement("JOUR-042")
@on_ranks(1, joined=False, worth=_WORTH)
@given(schedule=schedules.leavers())
@example(schedule=schedules.LEAVERS)
def test_cancelled_requests_leave_the_others_alone(member: Member, schedule: Schedule) -> Any:
    server = pressing.pressed(member, **_ALL)
    server.serve(schedule)
    if schedule == schedules.LEAVERS:
        never = {pressing.WAITING, pressing.PREFILL, pressing.DECODE} - server.cancelled.keys()
        if never:
            _not_reached(f"no request was cancelled {' or '.join(sorted(never))}")
    return server.told()


@requirement("JOUR-043")
@on_ranks(2, joined=False, worth=_WORTH)
@given(schedule=schedules.leavers())
@example(schedule=schedules.LEAVERS)
def test_ranks_keep_step_under_pressure(member: Member, schedule: Schedule) -> Any:
    server = pressing.pressed(member, tp=member.size, **_ALL)
    server.serve(schedule)
    return server.told()


@requirement("JOUR-044")
@on_ranks(1, joined=False)
def test_serving_does_not_eat_memory(member: Member, platform: Any) -> str:
    if member.device.type == "cpu":
        return _ON_HOST
    server, used = pressing.pressed(member), []
    for _ in range(_ROUNDS):
        served = server.serve(schedules.HANDFUL)
        used.append(_usage(member, platform))
    return _judged(used, served, f"serving {server.serving.leg}, {_ROUNDS} times the same requests")


@requirement("JOUR-045")
@on_ranks(1, joined=False)
def test_server_gives_back_what_it_took(member: Member, platform: Any) -> str:
    if member.device.type == "cpu":
        return _ON_HOST
    leg, used = Leg("llama", arguments=(*PAGED, ("max_total_tokens", _LARGE))), []
    for _ in range(_ROUNDS - 1):
        with pressing.server(member, leg) as server:
            served = server.serve(schedules.HANDFUL[:1])
        del server
        used.append(_usage(member, platform))
    return _judged(used, served, f"serving {leg} by {_ROUNDS - 1} servers, one after another")


def _usage(member: Member, platform: Any) -> float:
    """What is in use once all that is nobody's has been given back, in bytes."""
    gc.collect()
    holdings.afresh(member.device)
    return answers.number(expect.ask(platform, "get_current_memory_usage", member.device))


def _judged(used: Sequence[float], served: Served, call: str) -> str:
    """Fail where more is in use each time. The first may have brought what is kept for good."""
    shown = ", ".join(f"{each:.0f}" for each in used)
    grows = all(later > former for former, later in pairwise(used))
    vendors = [f"the {part}, {served.classes[part]}" for part, place in served.places.items() if place]
    expect.that(
        not grows,
        expected="no more in use after the last time than after one before it",
        seen=f"{shown} bytes",
        call=f"{call}; platform.get_current_memory_usage() after each",
        where=next(filter(None, served.places.values()), ""),
        cause=f"something keeps tensors that nobody needs; of the platform's are here: {'; '.join(vendors) or 'none'}",
    )
    return f"{shown} bytes in use"


def _not_reached(reason: str) -> NoReturn:
    raise expect.NotReached(f"nothing has pressed on the server: {reason}")
