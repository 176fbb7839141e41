"""Schedules that press on a server, and the audit of its allocator."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given

from sglang_conformance.cases import drawn
from sglang_conformance.journey.checkpoints import LLAMA
from sglang_conformance.suite import expect, journey_pressure
from sglang_conformance.suite.serving import schedules
from sglang_conformance.suite.serving.auditing import Audit
from sglang_conformance.suite.serving.schedules import PAGE, PAGES, Schedule

STRATEGIES = (schedules.crowds(), schedules.families(), schedules.leavers())
NAMED = (schedules.CROWD, schedules.FAMILY, schedules.LEAVERS, schedules.HANDFUL)


def _pages(tokens: int) -> int:
    return -(-tokens // PAGE)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=["crowds", "families", "leavers"])
def test_every_request_fits_into_the_pool_alone(strategy: Any) -> None:
    @given(schedule=strategy)
    def body(member: object, schedule: Schedule) -> None: ...

    cases = [case["schedule"] for case in drawn(body, 60)]
    assert json.loads(json.dumps(cases)) == cases
    assert max(_pages(each["length"] + each["new"]) for case in cases for each in case) < PAGES
    # What is asked for in all is more than there is, in most of them.
    crowded = [sum(_pages(each["length"] + each["new"]) for each in case) > PAGES for case in cases]
    assert sum(crowded) > len(cases) / 2


@pytest.mark.parametrize("schedule", NAMED, ids=["crowd", "family", "leavers", "handful"])
def test_requests_of_a_schedule_have_names_that_do_not_begin_alike(schedule: Schedule) -> None:
    made = schedules.requests(schedule, LLAMA)
    assert [len(each.prompt) for each in made] == [each["length"] for each in schedule]
    names = [each.name for each in made]
    assert not [one for one in names for other in names if one != other and other.startswith(one)]
    assert all(each.leaves is None or each.leaves >= each.arrives for each in made)


def test_texts_have_nothing_in_common() -> None:
    pages = [schedules.text(LLAMA, number)[:PAGE] for number in range(10)]
    assert len(set(pages)) == len(pages)


def test_family_is_too_large_to_be_kept() -> None:
    longest: dict[int, int] = {}
    for each in schedules.FAMILY:
        longest[each["text"]] = max(longest.get(each["text"], 0), each["length"])
    assert sum(length // PAGE for length in longest.values()) > PAGES


def test_each_property_names_a_schedule_of_its_own() -> None:
    bodies = (
        journey_pressure.test_full_pool_gives_the_same_tokens,
        journey_pressure.test_shared_prefixes_give_the_same_tokens,
        journey_pressure.test_cancelled_requests_leave_the_others_alone,
        journey_pressure.test_ranks_keep_step_under_pressure,
    )
    first = [drawn(body, 2)[0]["schedule"] for body in bodies]
    assert first == [schedules.CROWD, schedules.FAMILY, schedules.LEAVERS, schedules.LEAVERS]


class Allocator:
    """Pages from the first on, as long as there are any; ``wrong`` says in what way not."""

    page_size = PAGE
    size = PAGES * PAGE

    def __init__(self, wrong: str = "") -> None:
        self.wrong = wrong
        self.clear()

    def clear(self) -> None:
        self.pages = list(range(1, PAGES + 1))
        self.held: list[int] | None = None

    def available_size(self) -> int:
        return len(self.pages) * PAGE

    def alloc_extend(self, prefix: Any, prefix_cpu: Any, lengths: Any, lengths_cpu: Any, last: Any, count: int) -> Any:
        slots: list[int] = []
        for first, end, slot in zip(prefix_cpu.tolist(), lengths_cpu.tolist(), last.tolist(), strict=True):
            for position in range(first, end):
                slot = slot + 1 if position % PAGE else self.pages.pop(0) * PAGE
                slots.append(slot)
        if self.wrong == "twice" and len(self.pages) < PAGES - 2:
            slots = [slot - slots[0] + PAGE for slot in slots]
        return torch.tensor(slots[:-1] if self.wrong == "fewer" else slots)

    def alloc_decode(self, lengths: Any, lengths_cpu: Any, last: Any) -> Any:
        if self.wrong == "none":
            return None
        return self.alloc_extend(lengths - 1, lengths_cpu - 1, lengths, lengths_cpu, last, len(last))

    def free(self, free_index: Any) -> None:
        pages = sorted({slot // PAGE for slot in free_index.tolist()})
        pages = pages[:-1] if self.wrong == "loses" else pages
        if self.held is None:
            self.pages += pages
        else:
            self.held += pages

    def free_segment(self, free_index: Any, *, start_pos: int) -> None:
        self.free(free_index)

    def free_group_begin(self) -> None:
        self.held = []

    def free_group_end(self) -> None:
        held, self.held = self.held or [], None
        self.pages += held


def _extend(allocator: Allocator, first: int, end: int, last: int = -1) -> Any:
    one, other = torch.tensor([first]), torch.tensor([end])
    return allocator.alloc_extend(one, one, other, other, torch.tensor([last]), end - first)


def _life(allocator: Allocator) -> None:
    """A request comes, goes on, and goes; another does so in a group."""
    slots = _extend(allocator, 0, PAGE + 1)
    more = allocator.alloc_decode(torch.tensor([PAGE + 2]), torch.tensor([PAGE + 2]), slots[-1:])
    other = _extend(allocator, 0, 2 * PAGE)
    allocator.free(torch.cat([slots, more]))
    allocator.free_group_begin()
    allocator.free_segment(other, start_pos=0)
    allocator.free_group_end()


def test_audit_of_a_right_allocator_is_quiet() -> None:
    allocator = Allocator()
    with Audit(allocator).on():
        _life(allocator)
        _extend(allocator, 0, 1)
        allocator.clear()
    assert "free" not in vars(allocator)
    assert allocator.available_size() == PAGES * PAGE


@pytest.mark.parametrize(
    ("wrong", "seen"),
    [
        ("twice", "was handed out before"),
        ("fewer", "16 slots for 17 tokens"),
        ("none", "None: 6 pages are free, 0 are needed"),
        ("loses", "80"),
    ],
)
def test_audit_tells_the_first_wrong_answer(wrong: str, seen: str) -> None:
    allocator = Allocator(wrong)
    with pytest.raises(expect.Violation) as caught, Audit(allocator).on():
        _life(allocator)
    assert seen in caught.value.finding["seen"]
    assert "get_paged_allocator_cls()" in caught.value.finding["cause"]
