"""What came of a server of several processes: where it failed first, and what of it is left."""

from __future__ import annotations

import _thread
import inspect
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from journey.stories import launcher, stopped, worker
from sglang_conformance.contract import tables
from sglang_conformance.contract.model import Contract
from sglang_conformance.hosts.serving import NotServed
from sglang_conformance.journey import attended, launched, left, settled, shared
from sglang_conformance.journey.attended import Attended, facts_of, stack_of
from sglang_conformance.journey.launched import Launched, Start, likeliest
from sglang_conformance.journey.leg import Leg
from sglang_conformance.journey.recording import Recorder
from sglang_conformance.journey.trace import END, Role
from sglang_conformance.probes.observe import observe
from sglang_conformance.probes.result import Result
from sglang_conformance.suite import expect, journey_roles
from sglang_conformance.suite.aids import started

LEG = Leg(arguments=(("page_size", 16),))
HEARD = "RuntimeError: Initialization failed. Rank PP0 TP0 scheduler died"
FAILED = stopped(launcher(), "arguments settled", error=HEARD)


def failing(*workers: Any, **facts: Any) -> Launched:
    return Launched(LEG, traces=(FAILED, *workers), error=HEARD, starts=(Start(),), **facts)


def test_a_leg_is_read_back_as_it_was_written() -> None:
    leg = replace(LEG, graphs=(1, 8), tp=2, dtype="bfloat16")
    assert Leg.from_json(json.loads(json.dumps(leg.to_json()))) == leg


def test_a_workers_failure_comes_before_what_the_launching_process_heard() -> None:
    found = failing(stopped(worker(0), "post_load_model", error="MemoryError: no room")).failure
    assert found is not None
    assert (found.role, found.member, found.what) == (
        "worker 0",
        "post_load_model",
        "post_load_model() raised MemoryError: no room",
    )
    assert found.at is not None
    assert found.at > 0.7  # since the launching process began


def test_where_a_worker_hung_is_told_by_the_last_of_its_stacks() -> None:
    hung = stopped(worker(0), "init_backend")
    stacks = "".join(
        "Timeout (0:00:05)!\nThread 0x00 (most recent call first):\n"
        f'  File "/plugins/acme/driver.py", line {line} in wait\n  File "/plugins/acme/platform.py", line 3 in start\n'
        for line in (10, 20)
    )
    found = failing(hung, stacks={hung.pid: stacks}).failure
    assert found is not None
    assert (found.what, found.cause) == ("init_backend() did not return", "/plugins/acme/driver.py:20")


def test_what_only_the_launching_process_knows_is_told_of_it() -> None:
    found = failing().failure
    assert found is not None
    assert found.role == "launcher"
    bare = Launched(LEG, error="TypeError: it\nis so", starts=(Start(unsendable=("_lock",)),)).failure
    assert bare is not None
    assert bare.member == "apply_server_args_defaults"
    assert "server_args._lock cannot be sent" in bare.what
    assert Launched(LEG, traces=(launcher(), worker(0))).failure is None


def test_what_the_host_lacks_is_nobodys_failure() -> None:
    lacking = failing(uncovered_worker())
    assert lacking.uncovered == "the reference serves no such thing"
    with pytest.raises(expect.NotCovered):
        started.first(lacking)
    with pytest.raises(expect.NotReached, match="no platform"):
        started.first(Launched(LEG, obstacle="no platform"))


def test_what_an_installed_sglang_lacks_is_not_run() -> None:
    lacking = failing(uncovered_worker("NotServed", "it lacks gguf"))
    assert (lacking.unserved, lacking.uncovered) == ("it lacks gguf", "")
    with pytest.raises(NotServed, match="it lacks gguf"):
        started.first(lacking)
    here = Launched(LEG, error="NotServed: it lacks gguf", starts=(Start(),), traces=(FAILED,))
    assert here.unserved == "it lacks gguf"


def test_workers_that_were_killed_when_their_server_was_ended_are_not_blamed_for_a_later_one() -> None:
    killed = replace(stopped(worker(0), "post_load_model"), pid=7)
    dead = replace(stopped(worker(0), "init_backend", error="KeyError: 'attention_backend'"), pid=8)
    good = Start(tokens=((1,),), ended=0.2, pids=(7,), exits=(None,))
    found = Launched(LEG, traces=(FAILED, killed, dead), error=HEARD, starts=(good, Start()), installed=True).failure
    assert found is not None
    assert found.member == "init_backend"
    unended = replace(good, ended=None)  # that it was killed may be why it could not be ended
    found = Launched(LEG, traces=(FAILED, killed), error=HEARD, starts=(unended,), installed=True).failure
    assert found is not None
    assert found.member == "post_load_model"


def test_how_workers_end_is_seen_where_they_are_not_killed() -> None:
    start = Start(tokens=((1,),), ready=1.0, ended=0.2)
    for installed, end in ((True, None), (False, 0)):
        well = Launched(LEG, starts=(replace(start, exits=(end, end)),), installed=installed)
        assert journey_roles.test_server_comes_up_in_processes_of_its_own(well).endswith("1 worker")
        for wrong in (3, -9):
            ill = Launched(LEG, starts=(replace(start, exits=(end, wrong)),), installed=installed)
            with pytest.raises(expect.Violation, match=str(wrong)):
                journey_roles.test_server_comes_up_in_processes_of_its_own(ill)


def test_arguments_of_workers_are_judged_where_one_said_them() -> None:
    check = journey_roles.test_arguments_stand_in_the_workers_as_they_were_settled
    start = Start(tokens=((1,),), arguments={"page_size": 16}, pids=(7, 8))
    with pytest.raises(expect.NotReached, match="no worker said"):
        check(Launched(LEG, starts=(start,)))
    check(Launched(LEG, starts=(start,), workers={7: {"page_size": 16}}))
    with pytest.raises(expect.Violation, match="page_size=1"):
        check(Launched(LEG, starts=(start,), workers={7: {"page_size": 1}}))


def uncovered_worker(kind: str = "NotCovered", why: str = "the reference serves no such thing") -> Any:
    recorder = Recorder(Role("worker", 0))
    recorder.failed(type(kind, (ImportError,), {})(why))
    return recorder.trace()


def test_a_hook_may_answer_in_the_cores_place_where_that_is_older_than_the_member() -> None:
    contract: Contract = tables.load("0.5.23")
    start = launcher()
    (place,) = (index for index, event in enumerate(start.events) if event.kind == "applied")
    for target, members in (
        ("sglang.srt.utils.common.get_available_gpu_memory", {"get_device_total_memory", "get_current_memory_usage"}),
        ("sglang.srt.model_executor.model_runner.ModelRunner.load_model", set()),
    ):
        events = list(start.events)
        events[place] = replace(events[place], name=target, arguments=("AROUND acme.hooks.memory",))
        found = started.answered_by_hooks(Launched(LEG, traces=(replace(start, events=tuple(events)),)), contract)
        assert members <= found
        assert bool(members) == bool(found & {"get_device_total_memory"})
        assert "post_load_model" not in found


def test_a_record_is_read_from_what_each_process_wrote(tmp_path: Path) -> None:
    recorder = Recorder(Role("worker", 0), tmp_path)
    recorder.mark(END)
    pid = recorder.trace().pid
    facts_of(tmp_path, pid).write_text('{"arguments": {"page_size": 16}}')
    stack_of(tmp_path, pid).write_text("Timeout")
    progress = (json.dumps({"tokens": [[1, 2]], "pids": [pid], "exits": [0], "ready": 1.5}),)
    found = launched.read(LEG, tmp_path, Result({"devices": ["cuda"]}, progress=progress), out_of_tree=True, device="x")
    assert found.starts == (Start(tokens=((1, 2),), pids=(pid,), exits=(0,), ready=1.5),)
    assert (found.workers, found.stacks, found.devices) == ({pid: {"page_size": 16}}, {pid: "Timeout"}, ("cuda",))
    assert [trace.role for trace in found.of_start(0)] == [Role("worker", 0)]


def test_arguments_are_what_was_decided_last() -> None:
    arguments = SimpleNamespace(device="sim", page_size=None, dtype=object, _lock=threading.Lock())
    arguments._resolved_overrides = [("one", {"page_size": 1}), ("two", {"page_size": 64})]
    assert settled.values(arguments) == {"device": "sim", "page_size": 64, "dtype": "class object"}
    assert settled.unsendable(arguments) == ["_lock"]


def test_what_a_process_decides_for_itself_holds_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sglang.srt.runtime_context", raising=False)
    assert settled.overridden() == {}
    log = [("one", {"page_size": 1, "weight_version": "a"}), ("two", {"page_size": 64, "dtype": object})]
    context = SimpleNamespace(overrides_log=lambda: log)
    monkeypatch.setitem(sys.modules, "sglang.srt.runtime_context", SimpleNamespace(get_context=lambda: context))
    assert settled.overridden() == {"page_size": 64, "dtype": "class object"}
    del context.overrides_log  # before 0.5.17
    assert settled.overridden() == {}


def test_a_scheduler_is_only_to_be_spawned(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="to be spawned"):
        Attended(tmp_path, {}, (), 1.0)()


def test_a_worker_says_its_arguments_when_it_is_ready_and_when_it_ends(tmp_path: Path) -> None:
    arguments, sent = SimpleNamespace(page_size=16), list[object]()
    given = inspect.signature(lambda server_args: None).bind(arguments)
    process = attended._Process(Recorder(Role("worker", 0)), tmp_path / "facts", given)
    pipe = attended._Told(SimpleNamespace(send=sent.append, closed=False), process.tell)
    pipe.send({"status": "ready"})
    assert (sent, pipe.closed) == ([{"status": "ready"}], False)
    assert json.loads(process.facts.read_text()) == {"arguments": {"page_size": 16}}
    arguments.page_size = 1
    process.ends()
    assert json.loads(process.facts.read_text()) == {"arguments": {"page_size": 1}}
    assert process.recorder.trace().ended
    broken = attended._Process(Recorder(Role("worker", 0)), tmp_path / "none")
    broken.failed(KeyError("attention_backend"))
    broken.ends()
    assert not broken.recorder.trace().ended
    assert not broken.facts.exists()


def test_a_native_thread_may_be_spared_by_its_name() -> None:
    before, end = observe(), _thread.allocate_lock()
    end.acquire()

    def run() -> None:
        Path(f"/proc/self/task/{_thread.get_native_id()}/comm").write_text("ZMQbg/IO/0")
        with end:
            pass

    _thread.start_new_thread(run, ())
    try:
        wait_until(lambda: any("ZMQbg/IO/0" in left._named(number) for number in os.listdir("/proc/self/task")))
        seen = left.look(before, 0.0, frozenset)["threads"]
        spared = left.look(before, 0.0, frozenset, ("ZMQbg/",))["threads"]
        assert len(set(seen) - set(spared)) == 1
    finally:
        end.release()


def wait_until(done: Callable[[], bool]) -> None:
    moment = time.monotonic() + 20.0
    while not done():
        assert time.monotonic() < moment
        time.sleep(0.01)


def test_what_a_server_leaves_is_found_and_what_ends_is_not() -> None:
    before = observe()
    event = threading.Event()
    thread = threading.Thread(target=event.wait, name="left over", daemon=True)
    thread.start()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        found = left.look(before, 0.0, lambda: frozenset({"of-nobody-any-more"}))
        assert found["shared memory"] == ["of-nobody-any-more"]
        assert "left over" in found["threads"]
        assert any(text.startswith(f"{process.pid}: ") for text in found["processes"])
    finally:
        event.set()
        thread.join()
        process.communicate(b"\n")
    after = left.look(before, 5.0, frozenset)
    assert not [text for text in after["processes"] if text.startswith(f"{process.pid}: ")]
    assert "left over" not in after["threads"]


def test_the_oracles_tokens_are_those_of_the_models_prompts() -> None:
    found = likeliest(LEG, 4)
    assert [len(tokens) for tokens in found] == [4] * len(LEG.checkpoint.prompts)


def test_a_record_is_made_once_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made: list[int] = []

    def make() -> Launched:
        made.append(1)
        return failing()

    found = [shared.once("run", make, 20.0) for _ in range(2)]
    assert made == [1]
    assert found[0] == found[1]
    with shared._alone(tmp_path / "run.lock", 0.0) as alone:
        assert alone
        assert shared.once("run", make, 0.0).error == HEARD  # another process is at it for too long
    assert made == [1, 1]
    shared.forget("run")
    shared.forget("run")
    assert list(tmp_path.iterdir()) == []
