"""The host library, called by its C functions on real ranks, against what each of them is defined to give."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from host_nccl.host_ranks import INVALID_ARGUMENT, INVALID_USAGE, REMOTE_ERROR, ranks
from sglang_conformance.ranks.pool import Pool


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with ranks(folder=str(tmp_path_factory.mktemp("meeting"))) as made:
        yield made


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with ranks("alone", folder=str(tmp_path_factory.mktemp("meeting"))) as made:
        yield made


def run(pool: Pool, name: str, size: int = 2, **given: Any) -> tuple[Any, ...]:
    report = pool.run(f"host_nccl.host_ranks:{name}", given, size=size)
    assert not report.failures, report.summary()
    return report.values


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_type_and_reduction(pool: Pool, size: int) -> None:
    run(pool, "all_types", size)


# One step up to 64 KiB; buffers of 1 MiB, parted among the ranks by a reduce-scatter.
@pytest.mark.parametrize("count", [0, 1, 2, 63, 16_384, 16_385, 131_075, 262_144, 262_145, 700_001])
@pytest.mark.parametrize("size", [2, 3])
def test_every_length(pool: Pool, count: int, size: int) -> None:
    run(pool, "collectives", size, dtype="float32", count=count, operation="sum", in_place=count % 2 == 0)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize(("dtype", "count"), [("int8", 1), ("bfloat16", 1001), ("float64", 70_001)])
def test_messages(pool: Pool, size: int, dtype: str, count: int) -> None:
    run(pool, "exchange", size, dtype=dtype, count=count)


def test_messages_between_two_keep_their_order(pool: Pool) -> None:
    run(pool, "messages_in_their_order")


@pytest.mark.parametrize("size", [2, 3])
def test_collectives_and_messages_in_a_group(pool: Pool, size: int) -> None:
    run(pool, "collectives_in_a_group", size)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("seed", [1, 2])
def test_random_operations_on_two_communicators(pool: Pool, size: int, seed: int) -> None:
    run(pool, "at_random", size, rounds=60, seed=seed)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("count", [9, 50_001])
def test_all_ranks_get_the_same_bits_each_time(pool: Pool, dtype: str, count: int) -> None:
    seen = {bits for _ in range(3) for bits in run(pool, "same_bits", 4, dtype=dtype, count=count)}
    assert len(seen) == 1


def test_wrong_arguments_are_refused(pool: Pool) -> None:
    run(pool, "arguments")


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("count", ("ncclAllReduce of 4 float32, sum", "ncclAllReduce of 5 float32, sum")),
        ("type", ("ncclAllReduce of 4 float16, sum", "ncclAllReduce of 4 float32, sum")),
        ("operation", ("ncclAllReduce of 4 float32, sum", "ncclAllReduce of 4 float32, prod")),
        ("root", ("ncclBroadcast of 4 float32, root 0", "ncclBroadcast of 4 float32, root 1")),
        ("kind", ("ncclAllReduce of 4 float32, sum", "ncclAllGather of 4 float32")),
        ("nothing", ("ncclAllReduce of 0 float32, sum", "ncclAllReduce of 4 float32, sum")),
    ],
)
def test_calls_that_do_not_match_are_told_on_every_rank(pool: Pool, what: str, told: tuple[str, str]) -> None:
    first, second = run(pool, "disagreeing", what=what)
    assert first == [INVALID_USAGE, f"rank 0 calls {told[0]}, but rank 1 calls {told[1]}"]
    assert second == [INVALID_USAGE, f"rank 1 calls {told[1]}, but rank 0 calls {told[0]}"]


def test_a_message_of_another_length_is_told_where_it_is_received(pool: Pool) -> None:
    _, receiver = run(pool, "disagreeing", what="message")
    assert receiver == [INVALID_USAGE, "rank 0 sends 4 float32 where 5 float32 are to be received"]


@pytest.mark.parametrize(
    ("what", "results", "told"),
    [
        ("size", {INVALID_ARGUMENT, REMOTE_ERROR}, "ranks, another came for"),
        ("place", {INVALID_USAGE, REMOTE_ERROR}, "there is a rank 0 already, process"),
        ("zeros", {INVALID_ARGUMENT}, "none of this library's"),
        ("number", {INVALID_ARGUMENT}, "rank 2 is none of 2"),
    ],
)
def test_a_join_that_cannot_succeed_ends_at_once(strangers: Pool, what: str, results: set[int], told: str) -> None:
    said = run(strangers, "joining", what=what)
    assert {result for result, _, _ in said} == results
    assert any(told in text for _, text, _ in said)
    assert all(seconds < 1 for _, _, seconds in said)
    assert not left_behind()


def test_an_id_that_was_changed_on_its_way_is_refused(strangers: Pool) -> None:
    first, second = run(strangers, "joining", what="id")
    assert (second[0], second[1]) == (
        INVALID_ARGUMENT,
        "the unique id has been changed on its way: 128 bytes must be sent",
    )
    assert first[:2] == [REMOTE_ERROR, "rank 1 did not come within 5 s"]


def test_a_rank_that_does_not_come_is_waited_for_as_long_as_is_said(strangers: Pool) -> None:
    first, _ = run(strangers, "joining", what="late")
    assert first[:2] == [REMOTE_ERROR, "rank 1 did not come within 0.3 s"]
    assert not left_behind()


def test_a_rank_that_ends_in_an_operation_is_told(pool: Pool) -> None:
    report = pool.run("host_nccl.host_ranks:killed_while_waited_for", {"joined_before": True}, size=2)
    first = report.ranks[0].value
    assert first[0] == REMOTE_ERROR
    assert "rank 1 (process" in first[1]
    assert first[1].endswith("has ended")


def test_a_rank_that_ends_while_others_join_is_told(strangers: Pool) -> None:
    first, _ = run(strangers, "killed_while_waited_for", joined_before=False)
    assert first[0] == REMOTE_ERROR
    assert first[1].endswith("has ended")


def test_an_abort_ends_what_another_thread_waits_for(pool: Pool) -> None:
    first, _ = run(pool, "aborted_by_another_thread")
    assert first == [3, "the communicator was aborted"]


def test_communicators_come_and_go_without_a_trace(pool: Pool) -> None:
    run(pool, "come_and_go", times=1)
    for left in run(pool, "come_and_go", times=20):
        assert left == [0, 0, 0]
    assert not left_behind()


def test_work_goes_to_the_stream_that_is_given(pool: Pool) -> None:
    run(pool, "on_a_stream")


def test_memory_and_windows(pool: Pool) -> None:
    run(pool, "windows_and_memory")


def test_a_communicator_tells_its_size_and_place(pool: Pool) -> None:
    assert list(run(pool, "asked", 3)) == [[3, 0], [3, 1], [3, 2]]


def left_behind() -> list[str]:
    """Files of meetings: there are none at any time."""
    return [name for name in os.listdir("/dev/shm") if name.startswith("sglang-host")]
