"""In whatever order the ranks' kernels run: nobody reads what is not written yet, nor writes what is still read."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sglang_conformance.ranks.pool import Pool

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs Triton: pip install 'sglang-conformance[cuda]'", allow_module_level=True)

from reference import cuda_protocol as protocol
from reference.cuda_ranks import ranks

ALGORITHMS = ["1shot_push", "2shot_push", "1shot_pull", "2shot_pull"]
Operations = list[tuple[str, int, bool]]


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with ranks() as made:
        yield made


def taken_down(pool: Pool, size: int, blocks: int, operations: Operations) -> Any:
    given = {"size": size, "blocks": blocks, "operations": operations}
    report = pool.run("reference.cuda_protocol:taken_down", given, size=1, seconds=60)
    assert not report.failures, report.text()
    return report.values[0]


# Of two blocks, 8 packs take one; these take both, as each block serves up to 128 packs of an input, or of a chunk.
BOTH = {algorithm: 200 * int(algorithm[0]) for algorithm in ALGORITHMS}
MIXED: Operations = [("1shot_push", 8, False), ("2shot_pull", 400, False), ("1shot_pull", 8, False)]
REPLAYED: Operations = [
    ("1shot_pull", 8, True),
    ("2shot_pull", 8, True),
    ("1shot_pull", 8, True),
    ("1shot_push", 8, False),
]


@pytest.mark.parametrize(
    ("size", "blocks", "operations"),
    [
        *((2, 1, [(algorithm, 8, False)] * 4) for algorithm in ALGORITHMS),
        *((2, 2, [(algorithm, BOTH[algorithm], False)] * 3) for algorithm in ALGORITHMS),
        *((3, 1, [(algorithm, 8, False)] * 3) for algorithm in ALGORITHMS),
        *((2, 1, [(algorithm, 8, True)] * 4) for algorithm in ALGORITHMS[2:]),
        *((2, 2, [(algorithm, BOTH[algorithm], True)] * 2) for algorithm in ALGORITHMS[2:]),
        (2, 2, MIXED),
        (2, 2, [*MIXED[::-1], ("2shot_push", 400, False)]),
        (2, 1, REPLAYED),
        (2, 1, REPLAYED[::-1]),
        (2, 2, [("2shot_pull", 400, True), ("1shot_push", 8, False), ("2shot_pull", 400, True)]),
    ],
    ids=lambda given: (
        "+".join(f"{each[0]}{'r' * each[2]}{each[1]}" for each in given) if isinstance(given, list) else None
    ),
)
def test_every_order_is_right(pool: Pool, size: int, blocks: int, operations: Operations) -> None:
    program = protocol.program_of(taken_down(pool, size, blocks, operations))
    assert [len(rank) for rank in program] == [sum(1 + held for *_, held in operations)] * size
    taken = [max(len(operation) for operation in rank) for rank in program]
    assert taken == [blocks] * size
    states, wrong = protocol.explore(program)
    assert not wrong
    assert states > 50
    assert protocol.stale(program) == []


@pytest.mark.parametrize(
    ("operations", "change"),
    [
        *(([(algorithm, 8, False)] * 4, protocol.told_too_early) for algorithm in ALGORITHMS),
        *(([(algorithm, 8, False)] * 4, lambda p: protocol.without_waiting(p, 0)) for algorithm in ALGORITHMS),
        *(([(f"2shot_{how}", 8, False)] * 4, lambda p: protocol.without_waiting(p, -1)) for how in ("push", "pull")),
        *(([(algorithm, 8, True)] * 2, lambda p: protocol.without_waiting(p, -1)) for algorithm in ALGORITHMS[2:]),
        *(([(algorithm, 8, True)] * 2, lambda p: protocol.without_meeting(p, -1)) for algorithm in ALGORITHMS[2:]),
    ],
)
def test_what_is_left_out_is_found(
    pool: Pool, operations: Operations, change: Callable[[protocol.Program], protocol.Program]
) -> None:
    program = protocol.program_of(taken_down(pool, 2, 1, operations))
    assert not protocol.explore(program)[1]
    assert protocol.explore(change(program))[1]


@pytest.mark.parametrize("algorithm", ["1shot_push", "1shot_pull"])
def test_memory_that_is_there_once_is_not_enough(pool: Pool, algorithm: str) -> None:
    taken = taken_down(pool, 2, 1, [(algorithm, 8, False)] * 3)
    program = protocol.program_of(taken)
    assert "touch the same memory" in protocol.explore(protocol.never_alternating(program, taken))[1]


@pytest.mark.parametrize(
    ("algorithm", "registered"), [*((name, False) for name in ALGORITHMS), *((name, True) for name in ALGORITHMS[2:])]
)
def test_waits_are_for_the_number_of_the_operation(pool: Pool, algorithm: str, registered: bool) -> None:
    given = {"size": 3, "algorithm": algorithm, "registered": registered}
    report = pool.run("reference.cuda_protocol:thresholds", given, size=1, seconds=60)
    assert not report.failures, report.text()
    meetings = 2 if algorithm.startswith("2") or registered else 1
    late = [[1 + peer, 1] if meeting < meetings else [0, 0] for meeting in range(2) for peer in (1, 2)]
    assert report.values[0] == [[0, 0], *late]
