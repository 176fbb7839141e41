"""One verdict for a group: each rank in turn fails, hangs, dies or lies at each step, and the others act alike."""

from __future__ import annotations

import functools
import itertools
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore, HashStore, PrefixStore, TCPStore

from reference.custom_worlds import joined
from sglang_reference._custom_all_reduce import board as boards
from sglang_reference._custom_all_reduce.board import StoreBoard
from sglang_reference._custom_all_reduce.consensus import Deadlines, Seat, agree, establish
from sglang_reference._custom_all_reduce.deciding import decide
from sglang_reference._custom_all_reduce.generations import FIRST, NONE, SECOND, Verdict
from sglang_reference._custom_all_reduce.in_time import in_time
from sglang_reference._custom_all_reduce.topology import Device, Settings, Topology

RELEASE = "0.5.23"
AMPLE = Deadlines(60.0, 60.0)  # where all come
SHORT = Deadlines(1.0, 1.0)  # where one does not
JOIN = 240.0


class Dead(BaseException):
    """The rank has ended here."""


class Engine:
    """An engine that knows whether it is open."""

    def __init__(self, generation: str) -> None:
        self.generation = generation
        self.open = True

    def close(self) -> None:
        self.open = False


@dataclass
class Member:
    """One rank of an imagined group, in a thread. ``wrong`` replaces what it does at one step."""

    topology: Topology
    rank: int
    wrong: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    made: list[Engine] = field(default_factory=list)
    verdict: Verdict | None = None
    final: Verdict | None = None
    engine: Engine | None = None

    def device(self) -> Device:
        found: Device = self._at("device", lambda: self.topology.ranks[self.rank].device)
        return found

    def lanes(self, peer: Device) -> int:
        return int(self._at("lanes", lambda: self._view(peer).lanes))

    def access(self, peer: Device) -> bool:
        return bool(self._at("access", lambda: self._view(peer).access))

    def make(self, generation: str) -> Engine:
        engine: Engine = self._at(f"make {generation}", lambda: Engine(generation))
        self.made.append(engine)
        return engine

    def _view(self, peer: Device) -> Any:
        return self.topology.ranks[self.rank].views[int(peer.device.removeprefix("GPU-"))]

    def _at(self, step: str, right: Callable[[], Any]) -> Any:
        return self.wrong.get(step, right)()

    def live(self, board: Any, deadlines: Deadlines) -> None:
        seat = Seat(board, self.rank, self.topology.size, deadlines)
        try:
            agreed = agree(seat, self, self.settings, RELEASE)
            self.verdict = agreed.verdict
            makers = {name: functools.partial(self.make, name) for name in (SECOND, FIRST)}
            established = establish(seat, agreed.verdict, makers, Engine.close)
            self.engine, self.final = established.engine, established.verdict
        except Dead:
            pass


class MemoryBoard:
    """A board for the threads of one process."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._lock = threading.Lock()

    def settle(self, key: str, text: str) -> str:
        with self._lock:
            return self._texts.setdefault(key, text)

    def read(self, key: str) -> str | None:
        with self._lock:
            return self._texts.get(key)


class DyingBoard:
    """The board of a rank that ends when it would leave a text of this kind; nothing of it is left then."""

    def __init__(self, board: Any, at: str) -> None:
        self._board = board
        self._at = at

    def settle(self, key: str, text: str) -> str:
        if key.startswith(self._at):
            raise Dead
        return str(self._board.settle(key, text))

    def read(self, key: str) -> str | None:
        text: str | None = self._board.read(key)
        return text


class LyingBoard(DyingBoard):
    """The board of a rank that leaves another text of this kind than it should."""

    def __init__(self, board: Any, at: str, lie: Callable[[str], str]) -> None:
        super().__init__(board, at)
        self._lie = lie

    def settle(self, key: str, text: str) -> str:
        return str(self._board.settle(key, self._lie(text) if key.startswith(self._at) else text))


def run(members: list[Member], boards_of: list[Any], deadlines: Deadlines) -> None:
    threads = [
        threading.Thread(target=member.live, args=(board, deadlines), daemon=True)
        for member, board in zip(members, boards_of, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN)
        assert not thread.is_alive(), "a rank waits for ever"


def met(
    topology: Topology,
    wrong: Mapping[int, Mapping[str, Callable[[], Any]]] | None = None,
    deadlines: Deadlines = AMPLE,
    board_of: Callable[[int, Any], Any] = lambda rank, board: board,
) -> list[Member]:
    board = MemoryBoard()
    members = [Member(topology, rank, (wrong or {}).get(rank, {})) for rank in range(topology.size)]
    run(members, [board_of(rank, board) for rank in range(topology.size)], deadlines)
    return members


def dying(rank: int, at: str) -> Callable[[int, Any], Any]:
    return lambda place, board: DyingBoard(board, at) if place == rank else board


def at_once(group: Callable[[int], list[Member]], count: int) -> list[list[Member]]:
    """The groups of this test for each rank in turn, which wait at the same time."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(group, range(count)))


def require_alike(members: list[Member], generation: str, *, of: str = "") -> None:
    """All have the same engine, or none has one, and all that was made besides is closed; the reason names ``of``."""
    finals = [member.final for member in members]
    assert all(final is not None for final in finals)
    assert {final.generation for final in finals if final} == {generation}
    assert len({final.reason for final in finals if final}) == 1
    for member in members:
        assert (member.engine.generation if member.engine else NONE) == generation
        assert [engine for engine in member.made if engine.open] == ([member.engine] if member.engine else [])
        assert member.final is not None
        assert of in member.final.reason


def raises() -> Any:
    raise ValueError("the driver says no")


def ends() -> Any:
    raise SystemExit(3)


@contextmanager
def hanging() -> Iterator[Callable[[], Any]]:
    """A probe that hangs, until the test is over."""
    over = threading.Event()

    def hang() -> Any:
        over.wait(JOIN)
        raise RuntimeError("the test is over")

    try:
        yield hang
    finally:
        over.set()


# All is well.


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_ranks_that_are_all_well_have_the_same_engine(size: int) -> None:
    require_alike(met(joined(size)), SECOND if size > 1 else NONE)


def test_ranks_without_links_step_down_together() -> None:
    require_alike(met(joined(2, lanes=0)), FIRST, of="no lane of NVLink or XGMI joins ranks 0 and 1")
    require_alike(met(joined(3, lanes=0)), NONE)


def test_two_ranks_on_one_device_have_no_lanes_and_have_its_memory() -> None:
    topology = joined(2)
    shared = Topology(tuple(replace(rank, device=topology.ranks[0].device) for rank in topology.ranks))
    require_alike(met(shared), FIRST)


def test_one_rank_that_has_switched_it_off_has_done_so_for_all() -> None:
    board, topology = MemoryBoard(), joined(3)
    members = [Member(topology, rank, settings=Settings(enabled=rank != 1)) for rank in range(3)]
    run(members, [board] * 3, AMPLE)
    require_alike(members, NONE, of="custom all-reduce is switched off on rank 1 of 3")


# Each rank in turn, at each step: what the group has then.

STEPS = {"device": NONE, "lanes": FIRST, "access": NONE, "make second": FIRST}


@pytest.mark.parametrize("how", [raises, ends])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("rank", [0, 1])
def test_rank_that_fails_brings_all_one_step_down(rank: int, step: str, how: Callable[[], Any]) -> None:
    require_alike(met(joined(2), {rank: {step: how}}), STEPS[step], of=f"rank {rank} ")


@pytest.mark.parametrize("step", ["lanes", "make second"])
@pytest.mark.parametrize("rank", range(4))
def test_among_four_the_next_best_without_links_is_none_and_without_an_engine_the_first(rank: int, step: str) -> None:
    expected = FIRST if step == "make second" else NONE
    require_alike(met(joined(4), {rank: {step: raises}}), expected, of=f"rank {rank} ")


@pytest.mark.parametrize("rank", range(2))
def test_rank_that_can_make_neither_leaves_none(rank: int) -> None:
    wrong = {rank: {"make second": raises, "make first": raises}}
    members = met(joined(2), wrong)
    require_alike(members, NONE, of=f"rank {rank} has not made it: ValueError: the driver says no")
    assert members[1 - rank].made[0].generation == SECOND


@pytest.mark.parametrize("step", STEPS)
def test_rank_that_hangs_brings_all_one_step_down_in_time(step: str) -> None:
    with hanging() as hang:
        groups = at_once(lambda rank: met(joined(2), {rank: {step: hang}}, SHORT), 2)
        for rank, members in enumerate(groups):
            require_alike(members, STEPS[step], of=f"rank {rank} ")
            require_alike(members, STEPS[step], of="nothing came of it within 1 s")


@pytest.mark.parametrize("at", ["device", "facts", "made/second"])
def test_rank_that_dies_leaves_the_others_alike_and_is_named(at: str) -> None:
    groups = at_once(lambda rank: met(joined(3), None, SHORT, dying(rank, at)), 3)
    for rank, members in enumerate(groups):
        left = [member for member in members if member.rank != rank]
        require_alike(left, NONE, of=f"rank {rank} has not {'made it' if at == 'made/second' else 'told'}")


@pytest.mark.parametrize(("at", "generation"), [("verdict", NONE), ("outcome/second", SECOND)])
def test_rank_that_dies_while_settling_leaves_the_others_alike(at: str, generation: str) -> None:
    """Once it has made its engine, the others have theirs: that it has ended since is for their operations to find."""
    members = met(joined(3), None, SHORT, dying(1, at))
    require_alike([member for member in members if member.rank != 1], generation)


def test_rank_that_never_comes_is_named() -> None:
    topology, board = joined(3), MemoryBoard()
    members = [Member(topology, rank) for rank in (0, 2)]
    run(members, [board, board], SHORT)
    require_alike(members, NONE, of="rank 1 has not told its device in time")


def test_rank_that_comes_too_late_has_what_the_others_have() -> None:
    topology, board = joined(3), MemoryBoard()
    early, late = [Member(topology, rank) for rank in (0, 2)], Member(topology, 1)
    run(early, [board, board], SHORT)
    run([late], [board], SHORT)
    require_alike([*early, late], NONE, of="rank 1 has not told its device in time")


def lanes_to_all(text: str) -> str:
    said = json.loads(text)
    return json.dumps({**said, "views": [[18, True] for _ in said["views"]]})


LIES: dict[str, tuple[str, Callable[[str], str], str]] = {
    "links that the other does not see": ("facts", lanes_to_all, NONE),
    "nothing of what is asked": ("facts", lambda text: "{}", NONE),
    "garbage": ("facts", lambda text: "\x00[", NONE),
    "a list": ("device", lambda text: "[1, 2]", NONE),
    "a device without a node": ("device", lambda text: '{"device": {"device": "GPU-9"}, "missing": ""}', NONE),
    "too few views": ("facts", lambda text: text.replace('"views": [[', '"views": [[0, true], ['), NONE),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("rank", range(4))
def test_rank_that_lies_deceives_nobody(rank: int, lie: str) -> None:
    at, tells, expected = LIES[lie]
    world = joined(4, lanes=0) if lie.startswith("links") else joined(4)
    members = met(world, board_of=lambda place, board: LyingBoard(board, at, tells) if place == rank else board)
    require_alike(members, expected)


@pytest.mark.parametrize("rank", range(2))
def test_rank_that_lies_about_its_engine_cannot_keep_it_alone(rank: int) -> None:
    def deny(text: str) -> str:
        return json.dumps({"trouble": "I would rather not"})

    members = met(
        joined(2), board_of=lambda place, board: LyingBoard(board, "made/second", deny) if place == rank else board
    )
    require_alike(members, FIRST, of=f"rank {rank} has not made it: I would rather not")


def test_engine_that_comes_too_late_is_closed() -> None:
    gate, late = threading.Event(), Engine(SECOND)
    closed = threading.Event()

    def slow() -> Engine:
        gate.wait(JOIN)
        return late

    def discard(engine: Engine) -> None:
        engine.close()
        closed.set()

    assert in_time(slow, 0.05, discard).trouble == "nothing came of it within 0.05 s"
    gate.set()
    assert closed.wait(JOIN)
    assert not late.open


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_to_whomever_those_that_are_left_act_alike(seed: int) -> None:
    """Ranks fail and are delayed at random steps, around the deadlines of the others."""
    rng = random.Random(seed)
    size, tight = rng.randint(2, 5), Deadlines(0.3, 0.3)

    def slow(seconds: float, step: str, member: Callable[[], Any]) -> Callable[[], Any]:
        def act() -> Any:
            time.sleep(seconds)
            return member()

        return act

    topology, board = joined(size), MemoryBoard()
    members = [Member(topology, rank) for rank in range(size)]
    for member in members:
        if rng.random() < 0.6:
            step = rng.choice(["device", "make second", "make first"])
            right: Callable[[], Any] = (
                functools.partial(getattr, topology.ranks[member.rank], "device")
                if step == "device"
                else functools.partial(Engine, step.removeprefix("make "))
            )
            member.wrong = {step: rng.choice([raises, slow(rng.uniform(0.0, 0.8), step, right)])}
    run(members, [board] * size, tight)
    assert len({member.final.generation for member in members if member.final}) == 1
    generation = next(member.final.generation for member in members if member.final)
    assert [member.engine.generation if member.engine else NONE for member in members] == [generation] * size


# Boards.


def test_board_that_is_gone_is_a_reason() -> None:
    class Gone:
        def settle(self, key: str, text: str) -> str:
            raise ConnectionResetError("the store has ended")

        def read(self, key: str) -> str | None:
            raise ConnectionResetError("the store has ended")

    members = [Member(joined(2), 0)]
    run(members, [Gone()], SHORT)
    require_alike(members, NONE, of="rank 0 cannot reach the others any more: the store has ended")
    agreed = met(joined(2))[0].verdict
    assert agreed is not None
    lost = Member(joined(2), 1)
    makers = {SECOND: functools.partial(lost.make, SECOND)}
    assert establish(Seat(Gone(), 1, 2, SHORT), agreed, makers, Engine.close).engine is None
    assert not lost.made[0].open


def stores(folder: Path) -> list[Any]:
    return [
        HashStore(),
        FileStore(str(folder / "store"), 2),
        TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=30)),
    ]


@pytest.mark.parametrize("kind", range(3), ids=["hash", "file", "tcp"])
def test_board_on_each_store_keeps_the_first_text(kind: int, tmp_path: Path) -> None:
    board = StoreBoard(PrefixStore("group", stores(tmp_path)[kind]), "custom/1")
    assert board.read("verdict") is None
    assert board.settle("verdict", "first") == "first"
    assert board.settle("verdict", "second") == "first"
    assert board.read("verdict") == "first"
    assert boards.texts(board, ["verdict", "never"], 0.05, lambda: False) == ["first", None]
    assert boards.texts(board, ["never"], JOIN, lambda: True) == [None]


def rank_in_a_process(folder: Path, rank: int, pipe: Any) -> None:
    """Meet three times, each time at another board; the last time rank 2 is killed."""
    dist.init_process_group("gloo", store=FileStore(str(folder / "store"), 3), rank=rank, world_size=3)
    group = dist.new_group([0, 1, 2], backend="gloo")
    told = []
    for meeting in range(3):
        last = meeting == 2
        member = Member(joined(3), rank)
        if last and rank == 2:
            member.wrong = {"access": lambda: os.kill(os.getpid(), signal.SIGKILL)}
        member.live(boards.board_of(group), Deadlines(4.0, 4.0) if last else AMPLE)
        assert member.final is not None
        told.append((member.final.generation, member.final.reason))
    pipe.send(told)


def test_processes_of_a_group_agree_and_also_where_one_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe(duplex=False) for _ in range(3)]
    processes = [
        context.Process(target=rank_in_a_process, args=(tmp_path, rank, pipes[rank][1]), daemon=True)
        for rank in range(3)
    ]
    for process in processes:
        process.start()
    try:
        for rank in (0, 1):
            assert pipes[rank][0].poll(JOIN), f"rank {rank} waits for ever"
        told = [pipes[rank][0].recv() for rank in (0, 1)]
    finally:
        for process in processes:
            process.kill()
            process.join()
    assert told[0] == told[1]
    assert [generation for generation, _ in told[0]] == [SECOND, SECOND, NONE]
    assert "rank 2 has not told its facts in time" in told[0][2][1]


# From the environment to the verdict.


def decided(folder: Path, size: int, platform: Any = None, **table: Any) -> list[Verdict]:
    environ = {}
    if table:
        (folder / "table.json").write_text(json.dumps(table))
        environ = {"SGLANG_REFERENCE_TOPOLOGY": str(folder / "table.json")}
    board = MemoryBoard()
    with ThreadPoolExecutor(size) as pool:
        agreed = pool.map(
            lambda rank: decide(Seat(board, rank, size, AMPLE), 0, RELEASE, environ=environ, platform=platform),
            range(size),
        )
        return [each.verdict for each in agreed]


def test_table_decides_for_all_ranks(tmp_path: Path) -> None:
    ranks = [{"node": "a", "device": f"GPU-{rank}"} for rank in range(2)]
    linked = decided(tmp_path, 2, ranks=ranks, lanes=[{"between": [0, 1], "up": 4}])
    assert {verdict.generation for verdict in linked} == {SECOND}
    assert {verdict.generation for verdict in decided(tmp_path, 2, ranks=ranks)} == {FIRST}
    assert {verdict.generation for verdict in decided(tmp_path, 2, ranks=ranks, no_access=[[0, 1]])} == {NONE}
    short = decided(tmp_path, 2, ranks=ranks[:1])
    assert {verdict.generation for verdict in short} == {NONE}
    assert "rank 1 cannot tell its device" in short[0].reason


def test_platform_that_offers_its_facts_is_asked(tmp_path: Path) -> None:
    numbers = itertools.count()

    class Offering:
        def get_all_reduce_device(self) -> dict[str, Any]:
            return {"device": f"SIM-{next(numbers)}", "kind": "cuda"}

        def get_all_reduce_lanes(self, uuid: str) -> int:
            return 2

        def get_all_reduce_access(self, uuid: str) -> bool:
            return True

    assert {verdict.generation for verdict in decided(tmp_path, 3, Offering())} == {SECOND}


def test_where_nobody_knows_the_facts_all_ranks_hear_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    verdicts = decided(tmp_path, 2)
    assert {verdict.generation for verdict in verdicts} == {NONE}
    assert "cannot tell its device: Unavailable: pynvml is not installed" in verdicts[0].reason
    assert len({verdict.reason for verdict in verdicts}) == 1
