"""An allocator is asked as the core asks it, and what it answers is held against plain numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sglang_conformance.suite import expect
from sglang_conformance.suite.aids import made_allocators, operands
from sglang_conformance.suite.aids.made_allocators import Turns
from sglang_conformance.suite.serving.allocating import Asked

PAGES, SIZE = 4, 4


class Allocator:
    """Pages in order; what is freed is taken last."""

    size, page_size = PAGES * SIZE, SIZE

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.left = list(range(1, PAGES + 1))
        self.held: list[int] | None = None

    def available_size(self) -> int:
        return len(self.left) * SIZE

    def alloc_extend(self, before: Any, _b: Any, after: Any, _a: Any, last: Any, count: int) -> torch.Tensor | None:
        assert int((after - before).sum()) == count
        return self._grown(before.tolist(), after.tolist(), last.tolist())

    def alloc_decode(self, after: torch.Tensor, _: Any, last: torch.Tensor) -> torch.Tensor | None:
        assert last.dtype == torch.int32  # as it is read from the rows of requests
        return self._grown((after - 1).tolist(), after.tolist(), last.tolist())

    def _grown(self, before: list[int], after: list[int], last: list[int]) -> torch.Tensor | None:
        if sum(-(-new // SIZE) + -old // SIZE for old, new in zip(before, after, strict=True)) > len(self.left):
            return None
        slots = []
        for old, new, slot in zip(before, after, last, strict=True):
            for place in range(old, new):
                slot = slot + 1 if place % SIZE else self.left.pop(0) * SIZE
                slots.append(slot)
        return torch.tensor(slots, dtype=torch.int64)

    def free(self, slots: torch.Tensor) -> None:
        pages = sorted({slot // SIZE for slot in slots.tolist()})
        (self.left if self.held is None else self.held).extend(pages)

    def free_segment(self, slots: torch.Tensor, *, start_pos: int) -> None:
        assert start_pos % SIZE == 0
        self.free(slots)

    def free_group_begin(self) -> None:
        self.held = []

    def free_group_end(self) -> None:
        self.left += self.held or []
        self.held = None

    def backup_state(self) -> list[int]:
        return list(self.left)

    def restore_state(self, state: list[int]) -> None:
        self.left = list(state)


def asked(**wrong: Callable[..., Any]) -> Asked:
    """The allocator with some of its methods in another's place, and who asks it."""
    return Asked(type("Wrong", (Allocator,), wrong)(), torch.device("cpu"))


def test_right_allocator_is_followed() -> None:
    asking = asked()
    asking.begin({"a": 5, "b": 1})
    asking.step(["a", "b"])
    asking.begin({"c": 5})  # more than there is
    assert {name: len(slots) for name, slots in asking.pages.owned.items()} == {"a": 6, "b": 2}
    asking.shorten("a", 1)
    assert asking.pages.owned["a"] == [4, 5, 6, 7]
    restore = asking.back_up()
    asking.begin({"c": 5})
    restore()
    assert set(asking.pages.owned) == {"a", "b"}
    asking.end(["a", "b"], together=True)
    asking.begin({"d": 16})
    asking.end(["d"], segments=True)
    asking.clear()
    assert asking.pages.free == PAGES


def none(*_: Any) -> None:
    return None


def first_page(self: Allocator, *given: Any) -> torch.Tensor:
    return torch.arange(SIZE, SIZE + given[-1])


@pytest.mark.parametrize(
    ("wrong", "seen"),
    [
        ({"alloc_extend": none}, "None: 4 pages of 4 are free"),
        ({"alloc_extend": lambda *_: torch.ones(5)}, "tensor"),
        ({"alloc_extend": lambda *_: torch.arange(5)}, "slot 0 for position 0"),
        ({"alloc_extend": lambda *_: torch.arange(5, 10)}, "it stands at 1 in its page"),
        ({"alloc_extend": lambda *_: torch.arange(16, 21)}, "the pool has the slots 4 to 19"),
        ({"alloc_extend": lambda *_: torch.arange(4)}, "4 slots for 5 tokens"),
        ({"available_size": lambda self: len(self.left)}, "2"),
    ],
)
def test_wrong_answer_is_told(wrong: dict[str, Any], seen: str) -> None:
    with pytest.raises(expect.Violation) as caught:
        asked(**wrong).begin({"a": 5})
    assert seen in caught.value.finding["seen"]


def test_page_of_two_requests_is_told() -> None:
    asking = asked(alloc_extend=first_page, available_size=lambda self: (PAGES - len(asking.pages.owned)) * SIZE)
    asking.begin({"a": 4})
    with pytest.raises(expect.Violation) as caught:
        asking.begin({"b": 4})
    assert "page 1 belongs to request a" in caught.value.finding["seen"]


def none_of_it(self: Allocator) -> None:
    if not hasattr(self, "left"):
        self.left, self.held = [1, 2, 3, 4], None


@pytest.mark.parametrize(
    ("turn", "wrong"),
    [
        (lambda asking: asking.end(["a", "b"], together=True), {"free_group_end": lambda self: self.left.pop()}),
        (lambda asking: asking.end(["a"], segments=True), {"free_segment": lambda self, slots, *, start_pos: None}),
        (lambda asking: asking.shorten("a", 1), {"free": lambda self, slots: self.left.append(1)}),
        (lambda asking: asking.clear(), {"clear": none_of_it}),
    ],
)
def test_slots_that_are_lost_are_told(turn: Callable[[Asked], None], wrong: dict[str, Any]) -> None:
    asking = asked(**wrong)
    asking.begin({"a": 9, "b": 1})
    with pytest.raises(expect.Violation):
        turn(asking)


def test_turns_are_taken_as_far_as_they_can_be() -> None:
    asking, beyond = asked(), asked()
    said: Turns = [
        ("decode", {"a": 1}),
        ("extend", {"a": 20}),
        ("extend", {"b": 3}),
        ("decode", {"b": 1}),
        ("free", {"b": 1}),
    ]
    made_allocators.play(asking, said)
    made_allocators.play(beyond, said, beyond=True)
    assert asking.pages.owned == beyond.pages.owned == {}


@pytest.mark.parametrize("dtype", operands.DTYPES)
def test_numbers_are_the_same_in_float64(dtype: str) -> None:
    bench = operands.Bench(torch.device("cpu"), dtype)
    for part in (False, True):
        numbers = bench.drawn((3, 8), 1, part=part)
        assert numbers.there.is_contiguous() is not part
        assert (numbers.there.double().numpy() == numbers.true).all()


def test_rounding_is_allowed_and_more_is_not() -> None:
    bench = operands.Bench(torch.device("cpu"), "bfloat16")
    numbers = bench.drawn((4, 64), 1)
    operands.close(bench, numbers.there, numbers.true * (1 + 2**-9), "residual", "x", "")
    for wrong in (numbers.there * 1.2, numbers.there.float(), numbers.there * float("nan"), numbers.there[:2]):
        with pytest.raises(expect.Violation):
            operands.close(bench, wrong, numbers.true, "residual", "x", "")
