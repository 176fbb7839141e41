"""The board on which ranks meet, with threads in the ranks' place."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from sglang_conformance.ranks.board import INSIDE, OUTSIDE, WAITING, Board, Call, Disagreement

Body = Callable[[Board, int], object]


class Meeting:
    """Ranks' boards on one memory, and the controller's view."""

    def __init__(self, size: int) -> None:
        descriptor = Board.make(size)
        self.boards = [Board(descriptor, size, rank) for rank in range(size)]
        self.controller = Board(descriptor, size)
        os.close(descriptor)
        for board in self.boards:
            board.begin(1)

    def all(self, *bodies: Body) -> list[str]:
        """Run a body for each rank at once; what each raised, as text."""
        raised = [""] * len(self.boards)

        def run(rank: int, body: Body) -> None:
            try:
                body(self.boards[rank], rank)
            except Disagreement as error:
                raised[rank] = str(error)

        each = bodies * len(self.boards) if len(bodies) == 1 else bodies
        threads = [threading.Thread(target=run, args=pair) for pair in enumerate(each)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        return raised


@pytest.fixture
def two() -> Meeting:
    return Meeting(2)


def enter(text: str, *, members: Sequence[int] = (0, 1), group: str = "all", seconds: float = 20.0) -> Body:
    def body(board: Board, rank: int) -> None:
        with board.entering(group, members, text, text, seconds):
            pass

    return body


def test_ranks_that_agree_pass(two: Meeting) -> None:
    assert two.all(enter("sum")) == ["", ""]


def test_ranks_that_differ_are_told_both_calls(two: Meeting) -> None:
    assert two.all(enter("sum of 2"), enter("sum of 3")) == [
        "this rank comes to call 1 with sum of 2, rank 1 with sum of 3",
        "this rank comes to call 1 with sum of 3, rank 0 with sum of 2",
    ]


def test_only_what_must_agree_is_compared(two: Meeting) -> None:
    def body(board: Board, rank: int) -> None:
        with board.entering("all", (0, 1), f"rows of rank {rank}", "rows", 20):
            pass

    assert two.all(body) == ["", ""]


def test_rank_that_has_finished_is_not_waited_for(two: Meeting) -> None:
    def leaves(board: Board, rank: int) -> None:
        board.finish()

    assert two.all(leaves, enter("sum")) == ["", "rank 0 ended its check without call 1, sum"]


def test_rank_that_is_dead_is_not_waited_for(two: Meeting) -> None:
    two.controller.bury(0)
    assert two.all(lambda board, rank: None, enter("sum")) == ["", "rank 0 ended its check without call 1, sum"]


def test_rank_that_called_and_finished_was_there(two: Meeting) -> None:
    def calls_and_leaves(board: Board, rank: int) -> None:
        enter("sum")(board, rank)
        board.finish()

    assert two.all(calls_and_leaves) == ["", ""]


def test_rank_that_has_not_begun_the_check_is_waited_for(two: Meeting) -> None:
    def late(board: Board, rank: int) -> None:
        board.finish()  # the last check
        time.sleep(0.05)
        board.begin(2)
        enter("sum")(board, rank)

    def early(board: Board, rank: int) -> None:
        board.finish()
        board.begin(2)
        enter("sum")(board, rank)

    assert two.all(late, early) == ["", ""]


def test_rank_that_does_not_come_is_waited_for_so_long(two: Meeting) -> None:
    assert two.all(lambda board, rank: None, enter("sum", seconds=0.05)) == [
        "",
        "rank 0 has not come to call 1, sum, after 0.05 s",
    ]


def test_groups_are_apart() -> None:
    meeting = Meeting(3)

    def body(board: Board, rank: int) -> None:
        for place in (0, 1):
            if rank in (place, place + 1):
                enter(f"sum {place}", members=(place, place + 1), group=f"pair {place}")(board, rank)

    assert meeting.all(body) == ["", "", ""]


def test_many_calls_in_many_groups_agree() -> None:
    meeting = Meeting(3)
    draw = random.Random(5)
    groups = [(f"g{n}", sorted(draw.sample(range(3), draw.choice([2, 3])))) for n in range(12)]
    calls = [draw.choice(groups) for _ in range(400)]

    def body(board: Board, rank: int) -> None:
        for number, (group, members) in enumerate(calls):
            if rank in members:
                enter(f"call {number}", members=members, group=group)(board, rank)

    assert meeting.all(body) == ["", "", ""]


def test_more_groups_than_there_is_room_for_go_unwatched(two: Meeting) -> None:
    def body(board: Board, rank: int) -> None:
        for number in range(1024):
            enter("sum", group=f"g{number}")(board, rank)
        enter(f"of rank {rank}", group="one too many")(board, rank)

    assert two.all(body) == ["", ""]


def test_controller_sees_where_each_rank_is(two: Meeting) -> None:
    one, controller = two.boards[0], two.controller
    assert controller.latest(0) is None
    assert controller.part(0) == 0
    one.reach(3)
    assert controller.part(0) == 3
    with one.entering("alone", (0,), "sum", "sum", 1):
        assert controller.latest(0) == Call(1, "sum", INSIDE)
    assert controller.latest(0) == Call(1, "sum", OUTSIDE)
    with pytest.raises(Disagreement), one.entering("all", (0, 1), "max", "max", 0.01):
        pass
    assert controller.latest(0) == Call(1, "max", WAITING)
    assert str(controller.latest(0)) == "waits to enter call 1, max"
    one.begin(2)
    assert controller.latest(0) is None
    assert controller.part(0) == 0
    with pytest.raises(ValueError, match="makes no calls"):
        controller.begin(1)


def test_long_texts_are_cut(two: Meeting) -> None:
    with two.boards[0].entering("alone", (0,), "ä" * 500, "", 1):
        call = two.controller.latest(0)
    assert call is not None
    assert call.text.startswith("ä" * 100)
    assert len(call.text) < 250
