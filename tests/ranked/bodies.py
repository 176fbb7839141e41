"""Bodies of checks on ranks, right and wrong, for the tests of how such checks are run."""

from __future__ import annotations

import os
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sglang_conformance.suite import expect
from sglang_conformance.suite.collecting.judging import offered
from sglang_conformance.suite.declare import on_ranks
from sglang_conformance.suite.grouping import beside, joining
from sglang_conformance.suite.member import Member


@on_ranks(2, 3)
def test_sum_is_right(member: Member) -> None:
    import torch
    import torch.distributed as dist

    tensor = torch.tensor([2.0**member.number], device=member.device)
    expect.attempt("all_reduce", lambda: dist.all_reduce(tensor, group=member.group))
    expect.equal(tensor.tolist(), [2.0**member.size - 1], call="all_reduce")


@on_ranks(2)
@given(number=st.integers(0, 1000), text=st.sampled_from(["a", "b"]))
def test_last_rank_fails_from_seven(member: Member, number: int, text: str) -> None:
    meets(member)
    if member.number == member.size - 1:
        expect.that(number < 7, expected="less than 7", seen=str(number), call=f"look at {number}")


@on_ranks(2)
@given(number=st.integers(0, 1000))
def test_all_ranks_see_the_same(member: Member, number: int) -> None:
    import torch.distributed as dist

    seen: list[int] = [0] * member.size
    dist.all_gather_object(seen, number, group=member.coordinator.cpu_group)
    expect.equal(len(set(seen)), 1, call="the drawn values")


@on_ranks(2)
@given(number=st.integers(0, 3))
def test_one_rank_hangs(member: Member, number: int) -> None:
    if member.number == 1 and number == 2:
        time.sleep(100)
    meets(member)


@on_ranks(2)
def test_one_rank_exits(member: Member) -> None:
    if member.number == 1:
        os._exit(7)
    meets(member)


@on_ranks(2)
def test_ranks_call_different_things(member: Member) -> None:
    import torch
    import torch.distributed as dist

    tensor = torch.ones(2, device=member.device)
    operation = dist.ReduceOp.SUM if member.number == 0 else dist.ReduceOp.MAX
    expect.attempt("all_reduce", lambda: dist.all_reduce(tensor, operation, group=member.group))


@on_ranks(2)
def test_all_decline(member: Member) -> None:
    raise expect.Declined("not offered")


@on_ranks(2)
def test_one_declines(member: Member) -> None:
    if member.number == 0:
        raise expect.Declined("not offered")


@on_ranks(2)
@given(number=st.integers(0, 3))
def test_all_are_refused(member: Member, number: int) -> None:
    offered(member, refusing)


@on_ranks(2)
def test_some_is_refused(member: Member) -> None:
    offered(member, refusing)
    offered(member, int, 7)


@on_ranks(2)
def test_one_rank_is_refused(member: Member) -> None:
    offered(member, int, 7)
    offered(member, refusing if member.number == 1 else int)


@on_ranks(2, 3)
def test_two_ranks_decline(member: Member) -> None:
    if member.size == 2:
        raise expect.Declined("not for two")
    expect.equal(member.size, 2, call="size")


@on_ranks(2, watched=False)
def test_unwatched_rank_waits_for_nobody(member: Member) -> None:
    import torch
    import torch.distributed as dist

    began = time.monotonic()
    if member.number == 1:
        time.sleep(0.3)
    work = dist.all_reduce(torch.ones(1), group=member.group, async_op=True)
    took = time.monotonic() - began
    work.wait()
    expect.that(member.number == 1 or took < 0.2, expected="the call has begun", seen=f"{took} s", call="all_reduce")


@on_ranks(2, joined=False)
def test_nothing_is_made(member: Member) -> None:
    import torch.distributed as dist

    expect.equal(dist.is_initialized(), False, call="is_initialized()")


@on_ranks(1, 2, joined=False)
def test_leaves_its_mark(member: Member) -> None:
    expect.equal(os.environ.get("MARK"), None, call="environment")
    os.environ["MARK"] = "1"


@on_ranks(9)
def test_needs_nine(member: Member) -> None: ...


def refusing() -> None:
    raise RuntimeError("not here")


def meets(member: Member) -> None:
    import torch.distributed as dist

    dist.barrier(group=member.group)


@on_ranks(2)
def test_ranks_leave_groups_of_their_own_together(member: Member) -> None:
    seen: list[int] = []
    with beside.added(member, {"own": beside.everyone(member.size)}) as made:
        _be_late(member, made["own"], seen)
    expect.equal(seen, [member.size], call="ranks that were done when the group was destroyed")


@on_ranks(2, joined=False)
def test_ranks_leave_the_hosts_groups_together(member: Member) -> None:
    seen: list[int] = []
    with joining.joined(member, "tp=2", tp=2) as made:
        _be_late(member, made["tp"], seen)
    expect.equal(seen, [member.size], call="ranks that were done when the tp group was destroyed")


def _be_late(member: Member, coordinator: Any, seen: list[int]) -> None:
    """Have it note, when the coordinator is destroyed, how many ranks are done; one of them is late."""
    destroy = coordinator.destroy

    def noting() -> None:
        seen.append(member.side.read("done"))
        destroy()

    coordinator.destroy = noting
    if member.number == 1:
        time.sleep(0.1)
    member.side.add("done")
