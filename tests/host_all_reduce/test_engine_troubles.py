"""What an engine's ranks are told where something goes wrong, and that nothing is left behind."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_all_reduce.engine_ranks import ranks
from sglang_conformance.ranks.pool import Pool

NOTHING = ["", ""]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with ranks(str(tmp_path_factory.mktemp("meeting"))) as made:
        yield made


def run(pool: Pool, name: str, size: int = 2, **arguments: Any) -> tuple[Any, ...]:
    report = pool.run(f"host_all_reduce.trouble_ranks:{name}", arguments, size=size)
    assert not report.failures, report.summary()
    return report.values


def survivors(pool: Pool, name: str, size: int = 2, **arguments: Any) -> list[Any]:
    """What the ranks but the last have, which is killed."""
    report = pool.run(f"host_all_reduce.trouble_ranks:{name}", arguments, size=size)
    assert [failure.rank for failure in report.failures] == [size - 1], report.summary()
    return [rank.value for rank in report.ranks[:-1]]


MISMATCHES = {
    "count": ("all_reduce of 5 float32", "all_reduce of 4 float32"),
    "nothing": ("all_reduce of 0 float32", "all_reduce of 4 float32"),
    "type": ("all_reduce of 4 int32", "all_reduce of 4 float32"),
    "shots": ("all_reduce of 400000 float32", "all_reduce of 4 float32"),
    "tiles": ("all_reduce of 400000 float32", "all_reduce of 900000 float32"),
    "registered": ("all_reduce of 300000 float32", "all_reduce of 299999 float32"),
    "call": ("empty of 4 float32", "all_reduce of 4 float32"),
    "empty": ("empty of 5 float32", "empty of 4 float32"),
}


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("what", MISMATCHES)
def test_calls_that_do_not_match_are_told_on_every_rank(pool: Pool, what: str, size: int) -> None:
    odd = size - 1
    theirs, ours = MISMATCHES[what]
    for number, (first, after, again) in enumerate(run(pool, "mismatched", size, what=what, odd=odd)):
        own, other, call = (theirs, 0, ours) if number == odd else (ours, odd, theirs)
        expected = f"rank {number} calls {own}, but rank {other} calls {call}"
        assert first == ["MismatchError", expected]
        assert after == ["UnusableError", f"this engine takes no calls: an earlier one has failed ({expected})"]
        assert again == NOTHING


def test_tensors_laid_out_otherwise_on_another_rank_do_not_match(pool: Pool) -> None:
    for first, _, again in run(pool, "mismatched", what="strides", odd=1):
        assert first[0] == "MismatchError"
        assert re.search(r"all_reduce of 400 float32, not contiguous \(strides [0-9a-f]{8}\)", first[1])
        assert again == NOTHING


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("while_", ["small", "large", "empty"])
@pytest.mark.parametrize(("how", "why"), [("left", "has left"), ("dropped", "has left"), ("killed", "has ended")])
def test_a_rank_that_goes_is_told(pool: Pool, how: str, why: str, while_: str, size: int) -> None:
    last = rf"rank {size - 1} \(process \d+\) {why}"
    others = r"rank \d \(process \d+\) has (failed|left)"  # which another of those left has seen first
    take = survivors if how == "killed" else run
    for first, after in list(take(pool, "absent", size, how=how, while_=while_))[: size - 1]:
        assert first[0] == "AbsentError"
        assert re.fullmatch(last if size == 2 else f"{last}|{others}", first[1])
        assert after == ["UnusableError", f"this engine takes no calls: an earlier one has failed ({first[1]})"]


@pytest.mark.parametrize("while_", ["small", "large", "empty"])
def test_a_rank_that_is_late_is_told_on_all(pool: Pool, while_: str) -> None:
    first, last = run(pool, "absent", how="late", while_=while_)
    assert first[0] == ["AbsentError", "rank 1 did not come within 0.5 s"]
    assert "AbsentError" in (last[0][0], last[1][0]) or last[1][0] == "UnusableError"


@pytest.mark.parametrize("size", [2, 3])
def test_a_rank_killed_at_work_is_told(pool: Pool, size: int) -> None:
    for kind, text in survivors(pool, "killed_at_work", size):
        assert kind == "AbsentError"
        assert re.fullmatch(r"rank \d \(process \d+\) has (ended|failed|left)", text)


@pytest.mark.parametrize("size", [2, 3])
def test_a_rank_killed_while_it_joins_is_told_and_leaves_nothing(pool: Pool, size: int) -> None:
    *others, last = run(pool, "killed_while_joining", size)
    for first, again in others:
        assert first[0] == "AbsentError"
        assert again == NOTHING
    assert last[1] == NOTHING


def test_what_cannot_be_is_refused_and_harms_nothing(pool: Pool) -> None:
    expected = [
        ("ValueError", "tensor has 4 elements, out 5"),
        ("TypeError", "tensor is of torch.float32, out of torch.float64"),
        ("TypeError", "complex64 cannot be summed, only float32, float64"),
        ("TypeError", "float8_e4m3fn cannot be summed"),
        ("ValueError", "out lies partly where tensor does"),
        ("ValueError", "out lies partly where tensor does"),
        ("ValueError", "not both contiguous, and not laid out alike"),
        ("ValueError", "tensor has gaps or overlaps itself"),
        ("ValueError", "not both contiguous, and not laid out alike"),
        ("ValueError", "tensor has gaps or overlaps itself"),
        ("ValueError", "not both contiguous, and not laid out alike"),
        ("ValueError", "tensor is on cpu, out on meta"),
        ("TypeError", "complex64 cannot be summed"),
        ("ValueError", "(-4,)"),
    ]
    for answers in run(pool, "refused"):
        assert [kind for kind, _ in answers] == [kind for kind, _ in expected]
        for (_, text), (_, part) in zip(answers, expected, strict=True):
            assert part in text


@pytest.mark.parametrize("size", [1, 2, 3])
def test_tensors_without_gaps_may_be_laid_out_in_any_way(pool: Pool, size: int) -> None:
    run(pool, "laid_out_otherwise", size)


def test_a_second_thread_is_refused(pool: Pool) -> None:
    first, second = run(pool, "two_threads")[0]
    assert first == NOTHING
    assert second[0] == "UnusableError"
    assert second[1].startswith("another thread is in a call of this engine")


def test_closing_ends_what_another_thread_waits_for(pool: Pool) -> None:
    first, other = run(pool, "closed")
    assert first[0] == ["StoppedError", "the engine was closed"]
    assert first[1][0] == first[2][0] == "UnusableError"
    assert other[1][0] == "AbsentError"
    assert re.fullmatch(r"rank 0 \(process \d+\) has (left|failed)", other[1][1])


def test_a_fork_cannot_use_its_rank_s_engine_nor_harm_it(pool: Pool) -> None:
    for kind, text in run(pool, "forked"):
        assert kind == "UnusableError"
        assert text == "this engine takes no calls: it belongs to process N, of which this is a fork"


def test_an_interruption_is_told_on_all_ranks(pool: Pool) -> None:
    first, other = run(pool, "interrupted")
    assert first[0] == ["TimeoutError", "enough"]
    assert first[1][0] == "UnusableError"
    assert other[0] == NOTHING
    assert other[1][0] == "AbsentError"
    assert re.fullmatch(r"rank 0 \(process \d+\) has failed", other[1][1])


@pytest.mark.parametrize("size", [2, 3])
def test_engines_come_and_go_at_one_name_without_a_trace(pool: Pool, size: int) -> None:
    run(pool, "come_and_go", size, times=2)
    for left in run(pool, "come_and_go", size, times=20):
        assert left == [0, 0, 0]
    assert not [name for name in os.listdir("/dev/shm") if name.startswith("sglang-host")]


def test_shared_tensors_live_as_long_as_they_are_held(pool: Pool) -> None:
    for seen in run(pool, "regions", 3):
        assert seen == [1, 1, 0, 0]


def test_memory_that_cannot_be_had_is_refused_on_all_ranks(pool: Pool) -> None:
    for kind, text in run(pool, "too_large", 3):
        assert kind == "MachineError"
        assert "cannot share" in text


@pytest.mark.parametrize("size", [2, 4])
def test_a_shared_tensor_may_be_written_as_soon_as_its_sum_has_ended(pool: Pool, size: int) -> None:
    run(pool, "not_written_while_read", size, rounds=40)


def test_nothing_is_left_of_ranks_that_were_killed(tmp_path: Path) -> None:
    """Neither memory nor a name: both end with the processes."""
    with ranks(str(tmp_path)) as made:
        survivors(made, "killed_at_work")
        names = Path("/proc/net/unix").read_text()
    assert not [name for name in os.listdir("/dev/shm") if name.startswith("sglang-host")]
    import hashlib

    for number in range(1, 4):
        digest = hashlib.blake2b(f"all-reduce-{tmp_path}.{number}".encode(), digest_size=16).hexdigest()
        assert digest not in names
