"""The real SGLang's engine, with another in its place: what it does by signals is told as errors and leaves nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from import_path import import_path
from sglang_conformance.journey import engines
from sglang_conformance.journey.attended import Attended, Hidden

START = """
import json, os, signal, subprocess, sys, time, types

zmq = types.ModuleType("zmq")  # as much of it as is looked at
class Context:
    def socket(self): CONTEXTS.append("open")
    def destroy(self, linger): CONTEXTS.append(f"closed, {linger}")
zmq.Context = Context
sys.modules["zmq"] = zmq
CONTEXTS = []

from pathlib import Path
from sglang_conformance.journey import engines
from sglang_conformance.journey.attended import Attended

class Engine:
    @staticmethod
    def run_detokenizer_process_func():
        pass

    def __init__(self, server_args):
        self.tokenizer_manager = types.SimpleNamespace(signal_handler_class=object)
        Context().socket()
        signal.signal(signal.SIGQUIT, server_args["custom_sigquit_handler"])
        self.child = subprocess.Popen(["sleep", "60"])
        BEGIN

begun = {}
host = engines.Installed()
try:
    engine = host.start(Engine, host.asked(), Attended(Path("."), {}, HIDDEN, 1.0), DEADLINE)
    seams = ("run_scheduler_process_func", "run_detokenizer_process_func")
    begun["seams"] = [type(getattr(engine, name)).__name__ for name in seams]
except Exception as error:
    begun["error"] = f"{type(error).__name__}: {error}"
with open(f"/proc/self/task/{os.getpid()}/children") as file:
    begun["children"] = len(file.read().split())
print(json.dumps({**begun, "contexts": CONTEXTS, "alarm": signal.getsignal(signal.SIGALRM) == signal.SIG_DFL}))
if "seams" in begun:
    engine.child.kill()
"""


def begun(begin: str, hidden: tuple[str, ...] = (), deadline: float = 20.0) -> dict[str, Any]:
    """What comes of starting an engine that does this once it has a child."""
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            START.replace("BEGIN", begin).replace("HIDDEN", repr(hidden)).replace("DEADLINE", str(deadline)),
        ],
        env={"PYTHONPATH": import_path(), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize(
    ("begin", "deadline", "error"),
    [
        (
            "os.kill(os.getpid(), signal.SIGQUIT); time.sleep(60)",
            20.0,
            "ServerFailed: a process of the server has failed",
        ),
        ("time.sleep(60)", 0.1, "TimeoutError: the server was not ready after 0.1 s"),
        ("raise RuntimeError('died during initialization')", 20.0, "RuntimeError: died during initialization"),
    ],
)
def test_server_that_fails_while_it_starts_is_told_and_leaves_nothing(begin: str, deadline: float, error: str) -> None:
    found = begun(begin, deadline=deadline)
    assert found["error"].startswith(error)
    assert found["children"] == 0
    assert found["contexts"] == ["open", "closed, 0"]
    assert found["alarm"]


def test_server_that_starts_keeps_its_processes_and_sockets_and_its_detokenizer_sees_no_more() -> None:
    shown, hiding = begun("pass"), begun("pass", hidden=("acme-plugin",))
    assert shown["seams"] == ["Attended", "function"]
    assert hiding["seams"] == ["Attended", "Hidden"]
    for found in (shown, hiding):
        assert (found["children"], found["contexts"], found["alarm"]) == (1, ["open"], True)


LOAD = """
from sglang_conformance.journey import engines
try:
    engines.load({"acme"})
except Exception as error:
    print(f"{type(error).__name__}: {error}")
else:
    print("loaded")
"""


@pytest.mark.parametrize(
    ("engine", "platform", "told"),
    [
        ("import acme.platform", "", "loaded"),
        ("import acme.platform", "raise RuntimeError('no driver')", "RuntimeError: no driver"),
        ("import sgl_kernel", "", "NotServed: "),
        ("import library", "", "NotServed: "),
    ],
)
def test_what_keeps_an_engine_from_being_imported_is_the_vendors_or_the_hosts(
    tmp_path: Path, engine: str, platform: str, told: str
) -> None:
    """``library`` is another package that SGLang wants, of which the wrong version is here."""
    home = "sglang/srt/entrypoints"
    texts = {f"{home}/engine.py": engine, "acme/platform.py": platform, "library.py": "raise ValueError('taken')"}
    for name, text in {**texts, "sglang/__init__.py": ""}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in ("server_args", "managers/scheduler", "models/registry"):
        file = tmp_path / "sglang/srt" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    ran = subprocess.run(
        [sys.executable, "-c", LOAD],
        env={"PYTHONPATH": import_path(tmp_path), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.startswith(told)


class Serving:
    """An engine whose answer is a coroutine's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def ask(self, answer: Any, deadline: float) -> Any:
        with engines.Installed().within(self, deadline):
            return self.loop.run_until_complete(answer)


async def never() -> None:
    await asyncio.Event().wait()


async def stopped_by_signal() -> None:
    engines._stop()
    await never()


async def wrong() -> None:
    raise RuntimeError("another")


async def right() -> int:
    return 3


def test_server_that_fails_while_it_serves_is_told() -> None:
    loop = asyncio.new_event_loop()
    engine = Serving(loop)
    try:
        assert engine.ask(right(), 20.0) == 3
        with pytest.raises(engines.ServerFailed, match="SIGQUIT"):
            engine.ask(stopped_by_signal(), 20.0)
        with pytest.raises(TimeoutError, match=r"no answer after 0\.05 s"):
            engine.ask(never(), 0.05)
        with pytest.raises(RuntimeError, match="another"):
            engine.ask(wrong(), 20.0)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()


def test_the_reference_has_deadlines_of_its_own_and_sees_its_workers_end() -> None:
    class Kept(SimpleNamespace):
        run_scheduler_process_func: Any

    seam = Attended(Path(), {}, (), 1.0)
    reference = engines.Reference()
    engine = reference.start(Kept, SimpleNamespace(), seam, 7.0)
    assert engine._deadline == 7.0
    assert engine.run_scheduler_process_func is seam
    with reference.within(engine, 0.0):
        pass
    assert reference.exits([None, None], [0, 3]) == [0, 3]
    assert engines.Installed().exits([None, 3], [None, 3]) == [None, 3]


def test_the_real_sglang_is_given_a_port_that_no_connection_takes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "range"
    monkeypatch.setattr(engines, "_GIVEN", file)
    assert engines.Installed().asked()["nccl_port"] > 0  # where the system does not say
    for text, inside in (("32768\t60999\n", range(10_000, 32768)), ("1024\t65535\n", range(1, 65536))):
        file.write_text(text)
        ports = {engines.Installed().asked()["nccl_port"] for _ in range(5)}
        assert ports <= set(inside)
        assert len(ports) > 1
    assert dict(engines.Reference().asked()) == {}


def test_a_function_that_is_to_be_spawned_is_not_called_here() -> None:
    with pytest.raises(RuntimeError, match="to be spawned"):
        Hidden(lambda: None, ("acme-plugin",))()
