"""What the kernels do with the memory that ranks share, taken down from the interpreter, and explored in every order.

Within a launch a block's steps follow from its number alone: which memory it reads and writes, which words it raises
and which it waits for. So each kernel is run once for each rank, with all words raised so high that nothing is waited
for; what is taken down then is explored as if the ranks ran at any speed against each other.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from reference.cuda_host import HostDevice
from sglang_conformance.ranks.rank import Rank
from sglang_reference._cuda_all_reduce.buffers import Place
from sglang_reference._cuda_all_reduce.engine import Engine
from sglang_reference._cuda_all_reduce.layout import Algorithm, Layout

_HIGH = 1 << 40
_PACK = 16


# Taking down, in a rank's process, where Triton interprets: all ranks are in that one.


class _Here(HostDevice):
    """A device of a rank whose peers are in the same process: what others open is theirs as it is."""

    def export(self, address: int) -> Place:
        return Place(str(address).encode(), 0)

    def open(self, handle: bytes) -> int:
        return int(handle)

    def close(self, address: int) -> None:
        if address in self._maps:
            super().close(address)

    free = close

    def looks(self, seconds: float) -> int:
        return 1


class _Gather:
    """Gathers among threads."""

    def __init__(self, rank: int, values: list[Any], barrier: threading.Barrier) -> None:
        self._rank, self._values, self._barrier = rank, values, barrier

    def __call__(self, value: Any) -> list[Any]:
        self.tell(value)
        self._barrier.wait()
        told = list(self._values)
        self._barrier.wait()
        return told

    def tell(self, value: Any) -> None:
        self._values[self._rank] = value


def _on_all(size: int, action: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(action, range(size)))


Planned = tuple[str, int, bool]
"""An operation: its algorithm, how many packs, whether its inputs are registered."""
Graphs = dict[tuple[str, int], Callable[[], None]]


def taken_down(rank: Rank, size: int, blocks: int, operations: Sequence[Planned]) -> dict[str, Any]:
    """What is noted of operations, one after the other.

    One with registered inputs is captured once, and replayed when it comes again.
    """
    layout = Layout(size, blocks, 1 << 14, 1 << 14)
    made, inputs, graphs = _ready(layout, operations)
    bases = made[0]._shared.addresses
    program: list[list[Any]] = [[] for _ in range(size)]
    for operation in operations:
        for at, engine in enumerate(made):
            _raise_words(layout, bases, _HIGH)
            with _noting() as notes:
                _run(engine, inputs[at], graphs[at], operation)
            fill = [inputs[at].data_ptr(), inputs[at].data_ptr() + _PACK * operation[1]]
            program[at].append({"notes": notes, "fill": fill if operation[2] else None})
    for engine in made:
        engine.check()
    starts = [*bases, *(each.data_ptr() for each in inputs)]
    ends = [*(base + layout.total_bytes for base in bases), *(each.data_ptr() + each.nbytes for each in inputs)]
    return {
        "shared": list(zip(starts, ends, strict=True)),
        "boards": [[base, base + layout.board_bytes] for base in bases],
        "rows": [row[0] for row in layout.table([0])],
        "program": program,
    }


def _ready(layout: Layout, operations: Sequence[Planned]) -> tuple[list[Any], list[torch.Tensor], list[Graphs]]:
    """Engines of all ranks, their inputs, and what they have captured."""
    size = layout.world
    values: list[Any] = [None] * size
    barrier = threading.Barrier(size, timeout=60)
    devices = [_Here() for _ in range(size)]
    inputs = [torch.zeros(4096) for _ in range(size)]

    def make(at: int) -> Engine:
        return Engine(at, layout, devices[at], _Gather(at, values, barrier), rows=8)

    made = _on_all(size, make)
    return made, inputs, _on_all(size, lambda at: _captured(made[at], devices[at], inputs[at], operations))


def _run(engine: Engine, source: torch.Tensor, graphs: Graphs, operation: Planned) -> None:
    algorithm, packs, registered = operation
    if registered:
        graphs[algorithm, packs]()
    else:
        engine.all_reduce(source[: 4 * packs], torch.zeros(4 * packs), Algorithm(algorithm))


def _captured(engine: Engine, device: HostDevice, source: torch.Tensor, operations: Sequence[Planned]) -> Graphs:
    launches = {}
    with engine.capture():
        for algorithm, packs in dict.fromkeys((algorithm, packs) for algorithm, packs, held in operations if held):
            device.graph = []
            engine.all_reduce(source[: 4 * packs], torch.zeros(4 * packs), Algorithm(algorithm))
            [launches[algorithm, packs]] = device.graph
            device.graph = None
    return launches


def _raise_words(layout: Layout, bases: Sequence[int], value: int) -> None:
    for base in bases:
        words = (ctypes.c_int64 * (layout.board_bytes // 8)).from_address(base)
        for index in range(layout.head_words, len(words)):
            words[index] = value


@contextlib.contextmanager
def _noting() -> Iterator[list[Any]]:
    """Note what the interpreter does with memory: block, kind, spans of bytes, and the words' value."""
    from triton.runtime import interpreter

    notes: list[Any] = []
    builder: Any = interpreter.interpreter_builder
    load, store, change = builder.create_masked_load, builder.create_masked_store, builder.create_atomic_rmw

    def note(kind: str, pointers: Any, mask: Any, value: int = 0) -> None:
        chosen = np.atleast_1d(np.broadcast_to(mask.data, pointers.data.shape))
        addresses = np.atleast_1d(pointers.data)[chosen].astype(np.int64)
        if len(addresses):
            width = pointers.get_element_ty().primitive_bitwidth // 8
            words = kind in ("raise", "await")  # each for itself
            breaks = np.flatnonzero(words | (np.diff(addresses) != width)) + 1
            parts = np.split(addresses, breaks)
            notes.append([builder.grid_idx[0], kind, [[int(p[0]), int(p[-1]) + width] for p in parts], value])

    def noted_load(pointers: Any, mask: Any, *rest: Any) -> Any:
        note("read", pointers, mask)
        return load(pointers, mask, *rest)

    def noted_store(pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        note("write", pointers, mask)
        return store(pointers, value, mask, *rest)

    def noted_change(operation: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        raised = int(np.max(value.data))
        note("raise" if raised else "await", pointers, mask, raised)
        return change(operation, pointers, value, mask, *rest)

    changed = {"create_masked_load": noted_load, "create_masked_store": noted_store, "create_atomic_rmw": noted_change}
    vars(builder).update(changed)
    try:
        yield notes
    finally:
        for name in changed:
            del vars(builder)[name]


def thresholds(rank: Rank, size: int, algorithm: str, registered: bool) -> list[list[int]]:
    """What each meeting of an operation comes to, where one peer's word there is one too low: what is reported.

    The first operation has number 1. With all words at 1 nothing may be reported; then by meeting and peer, one at 0.
    """
    layout = Layout(size, 1, 1 << 12, 1 << 12)
    operations = [(algorithm, 16, registered)]
    found = []
    for low in [None, *itertools.product(range(2), range(1, size))]:
        made, inputs, graphs = _ready(layout, operations)
        bases = made[0]._shared.addresses
        _raise_words(layout, bases, 1)
        if low is not None:
            meeting, peer = low
            ctypes.c_int64.from_address(bases[0] + 8 * (layout.head_words + 16 * meeting + peer)).value = 0
        _run(made[0], inputs[0], graphs[0], operations[0])
        found.append(made[0]._report.tolist())
    return found


# Exploring.

Span = tuple[int, int]
Words = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Step:
    """What a block does: it reads and writes, or raises words (address, value), or waits until words are as high."""

    reads: tuple[Span, ...] = ()
    writes: tuple[Span, ...] = ()
    raises: Words = ()
    awaits: Words = ()


Block = tuple[Step, ...]
Operation = tuple[Block, ...]
Program = tuple[tuple[Operation, ...], ...]
"""The steps by rank, operation, block."""


def program_of(taken: dict[str, Any]) -> Program:
    """The steps of what was taken down: what touches no shared memory is left out."""
    return tuple(tuple(itertools.chain.from_iterable(_done(each, taken) for each in rank)) for rank in taken["program"])


def _done(noted: dict[str, Any], taken: dict[str, Any]) -> list[Operation]:
    """An operation; before one of a registered input that is written anew, which is one of its own."""
    if not noted["fill"]:  # an input that is not registered is nobody else's
        return [_operation(noted, taken, taken["shared"][: len(taken["boards"])])]
    first, last = noted["fill"]
    return [((Step(writes=((first, last),)),),), _operation(noted, taken, taken["shared"])]


def _operation(noted: dict[str, Any], taken: dict[str, Any], areas: Sequence[Sequence[int]]) -> Operation:
    blocks: dict[int, list[Step]] = {}
    for block, kind, spans, value in noted["notes"]:
        steps = blocks.setdefault(block, [])
        words = tuple((first, value) for first, _ in spans)
        if kind == "raise":
            steps.append(Step(raises=words))
        elif kind == "await":
            raised = next(step.raises for step in reversed(steps) if step.raises)
            steps.append(Step(awaits=tuple((address, raised[0][1]) for address, _ in words)))
        else:
            shared = tuple((a, b) for a, b in spans if _within(a, areas) and not _within(a, taken["boards"]))
            if shared:
                steps.append(Step(reads=shared) if kind == "read" else Step(writes=shared))
    return tuple(tuple(steps) for _, steps in sorted(blocks.items()))


def _within(address: int, areas: Sequence[Sequence[int]]) -> bool:
    return any(first <= address < last for first, last in areas)


def coarse(program: Program) -> Program:
    """The same with all that a block reads and writes between two meetings as one step."""

    def merged(block: Block) -> Block:
        steps: list[Step] = []
        for step in block:
            last = steps[-1] if steps else None
            if last and not (step.raises or step.awaits or last.raises or last.awaits):
                steps[-1] = Step(last.reads + step.reads, last.writes + step.writes)
            else:
                steps.append(step)
        return tuple(steps)

    return tuple(tuple(tuple(map(merged, operation)) for operation in rank) for rank in program)


State = tuple[tuple[int, tuple[int, ...]], ...]  # of each rank: its operation, and where in it its blocks are


def explore(program: Program) -> tuple[int, str]:
    """How many states there are, and what is wrong in one of them; empty where nothing is in any.

    Wrong are two steps that either may come first, and of which one writes what the other reads or writes; and a state
    in which nothing can go on.
    """
    program = coarse(program)
    raised = _raised(program)
    first: State = tuple(_after(rank, 0, ()) for rank in program)
    seen, queue = {first}, deque([first])
    while queue:
        state = queue.popleft()
        ready = [
            (rank, block, program[rank][operation][block][at])
            for rank, (operation, places) in enumerate(state)
            for block, at in enumerate(places)
            if at < len(program[rank][operation][block])
        ]
        able = [each for each in ready if all(_is_raised(state, raised, word) for word in each[2].awaits)]
        if ready and not able:
            return len(seen), f"nothing goes on in {state}"
        for one, other in itertools.combinations(able, 2):
            if _clash(one[2], other[2]):
                return len(seen), f"rank {one[0]} and rank {other[0]} touch the same memory in {state}"
        for rank, block, _ in able:
            operation, places = state[rank]
            moved = tuple(at + (number == block) for number, at in enumerate(places))
            following = (*state[:rank], _after(program[rank], operation, moved), *state[rank + 1 :])
            if following not in seen:
                seen.add(following)
                queue.append(following)
    return len(seen), ""


def _after(rank: Sequence[Operation], operation: int, places: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Where a rank is: in its next operation, where all blocks of the present one are at their end."""
    if not places:
        return operation, (0,) * len(rank[operation])
    if operation + 1 < len(rank) and all(at == len(b) for at, b in zip(places, rank[operation], strict=True)):
        return operation + 1, (0,) * len(rank[operation + 1])
    return operation, places


def _raised(program: Program) -> dict[int, list[tuple[int, int, int, int, int]]]:
    """By word: to which value, by which rank, in which operation, block and step it is raised."""
    found: dict[int, list[tuple[int, int, int, int, int]]] = {}
    for rank, operations in enumerate(program):
        for number, operation in enumerate(operations):
            for block, steps in enumerate(operation):
                for at, step in enumerate(steps):
                    for address, value in step.raises:
                        found.setdefault(address, []).append((value, rank, number, block, at))
    return found


def _is_raised(state: State, raised: dict[int, list[tuple[int, int, int, int, int]]], word: tuple[int, int]) -> bool:
    address, wanted = word
    for value, rank, number, block, at in raised.get(address, ()):
        operation, places = state[rank]
        if value >= wanted and (operation > number or (operation == number and places[block] > at)):
            return True
    return False


def _clash(one: Step, other: Step) -> bool:
    return _meet(one.writes, other.writes) or _meet(one.writes, other.reads) or _meet(one.reads, other.writes)


def _meet(some: Sequence[Span], others: Sequence[Span]) -> bool:
    return any(a < d and c < b for a, b in some for c, d in others)


def stale(program: Program) -> list[str]:
    """Reads that see what another operation has written, in one order of all steps; in all, where there is no race."""
    raised, written = _raised(program), {}
    state: State = tuple(_after(rank, 0, ()) for rank in program)
    found, moving = [], True
    while moving:
        moving = False
        for rank, operations in enumerate(program):
            operation, places = state[rank]
            for block, at in enumerate(places):
                steps = operations[operation][block]
                if at == len(steps) or not all(_is_raised(state, raised, word) for word in steps[at].awaits):
                    continue
                for pack in _packs(steps[at].writes):
                    written[pack] = operation + (not any(step.raises for step in steps))  # for the next one
                found += [
                    f"rank {rank} reads in {operation} what {written.get(pack)} wrote at {pack:#x}"
                    for pack in _packs(steps[at].reads)
                    if written.get(pack) != operation
                ]
                moved = tuple(place + (number == block) for number, place in enumerate(places))
                state = (*state[:rank], _after(operations, operation, moved), *state[rank + 1 :])
                moving = True
                break
    return found


def _packs(spans: Sequence[Span]) -> list[int]:
    return [pack for first, last in spans for pack in range(first, last, _PACK)]


# What must be found to be wrong.


def without_meeting(program: Program, which: int) -> Program:
    """The same, where blocks do not take part in their first (0) or last (-1) meeting."""

    def changed(block: Block) -> Block:
        told = [at for at, step in enumerate(block) if step.raises][which]
        return tuple(step for at, step in enumerate(block) if at not in (told, told + 1))

    return _each(program, changed)


def without_waiting(program: Program, which: int) -> Program:
    """The same, where blocks raise their words in a meeting and go on."""

    def changed(block: Block) -> Block:
        at = [at for at, step in enumerate(block) if step.awaits][which]
        return (*block[:at], *block[at + 1 :])

    return _each(program, changed)


def told_too_early(program: Program) -> Program:
    """The same, where blocks raise their words before they have written."""

    def changed(block: Block) -> Block:
        at = next(at for at, step in enumerate(block) if step.raises)
        return (block[at], *block[:at], *block[at + 1 :])

    return _each(program, changed)


def never_alternating(program: Program, taken: dict[str, Any]) -> Program:
    """The same, where what is there twice is there once."""
    rows = taken["rows"]
    bases = [first for first, _ in taken["boards"]]

    def moved(span: Span) -> Span:
        base = max((base for base in bases if base <= span[0]), default=0)
        at = max((index for index, offset in enumerate(rows) if base + offset <= span[0]), default=0)
        inside = any(first <= span[0] < last for first, last in taken["shared"][: len(bases)])
        by = rows[at] - rows[at - 1] if inside and at in (2, 4, 6) else 0
        return span[0] - by, span[1] - by

    def changed(block: Block) -> Block:
        return tuple(
            replace(step, reads=tuple(map(moved, step.reads)), writes=tuple(map(moved, step.writes))) for step in block
        )

    return _each(program, changed)


def _each(program: Program, changed: Callable[[Block], Block]) -> Program:
    """The same, with every block changed in which ranks meet."""

    def each(block: Block) -> Block:
        return changed(block) if any(step.raises for step in block) else block

    return tuple(tuple(tuple(map(each, operation)) for operation in rank) for rank in program)
