"""``sglang-conformance journey``: the command as a user meets it, in a process of its own, which leaves none behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema  # type: ignore[import-untyped]
import pytest

from journey.stories import journey, launcher, served, stopped, worker
from plugin.conftest import environment
from probes.processes import MARK, comes_true, marked
from sglang_conformance.cli import main
from sglang_conformance.journey.story import Failure, Journey
from zoo.workshop import ACME, SIM, Edit, Plugin, build

SECONDS = 110
SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "reports/schemas/journey-1.schema.json").read_text(encoding="utf-8")
)
COMMAND = """
import sys
from sglang_conformance.cli import main

status = main()
found = {"torch", "sglang", "sglang_reference", "acme", "sglang_simulated"} & set(sys.modules)
sys.exit(f"imported: {found}" if found else status)
"""
QUICK = ("--sglang=reference", "--model=llama")
POST_LOAD = Edit(
    "platform.py",
    "    def init_backend(self) -> None:\n",
    "    def post_load_model(self, model: Any) -> None:\n"
    '        raise RuntimeError("the weights cannot be packed")\n\n'
    "    def init_backend(self) -> None:\n",
)


class Ran(NamedTuple):
    """What the command came to."""

    status: int
    out: str
    err: str


def started(folder: Path, *options: str, paths: Sequence[Path] = (), mark: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "journey", *options],
        cwd=folder,
        env=environment(paths, **{MARK: mark}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str], mark: str) -> Ran:
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert comes_true(lambda: not marked(mark)), f"left running: {marked(mark)}\n{out}\n{err}"
    return Ran(process.returncode, out, err)


def travelled(folder: Path, *options: str, of: Plugin | None = None, edits: tuple[Edit, ...] = ()) -> Ran:
    mark = uuid.uuid4().hex
    paths = [] if of is None else [build(of, folder / "installed", edits)]
    return ended(started(folder, *options, paths=paths, mark=mark), mark)


def recorded(folder: Path) -> Journey:
    data = json.loads((folder / "journey.json").read_text())
    jsonschema.validate(data, SCHEMA)
    return Journey.from_json(data)


def test_cpu_serves_and_the_record_is_by_its_schema(tmp_path: Path) -> None:
    ran = travelled(tmp_path, "cpu", *QUICK, "--json=journey.json")
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == "journey of cpu, by sglang-conformance journey"
    assert lines[-1] == "cpu: served 1 of 1 legs, 48 tokens, all right"
    assert max(map(len, lines)) <= 100
    (leg,) = recorded(tmp_path).legs
    assert (leg.name, leg.tokens, leg.right, leg.findings, leg.failure) == ("llama, eager, float32", 48, 48, (), None)
    assert [str(trace.role) for trace in leg.traces] == ["launcher", "worker 0"]


def test_simulated_accelerator_serves_with_two_ranks_and_graphs(tmp_path: Path) -> None:
    options = ("--tp=2", "--graphs=1,8", "--dtype=bfloat16", "--json=journey.json")
    ran = travelled(tmp_path, "sim", *QUICK, *options, of=SIM)
    assert (ran.status, ran.err) == (0, "")
    (leg,) = recorded(tmp_path).legs
    assert (leg.name, leg.right, leg.findings) == ("llama, TP 2, graphs, bfloat16", 48, ())
    assert [str(trace.role) for trace in leg.traces] == ["launcher", "worker 0", "worker 1"]
    assert "get_graph_runner_cls() = class SimGraphRunner" in ran.out
    assert {role for hook in leg.hooks for role in hook.applied} == {"launcher", "worker 0", "worker 1"}


def test_a_platform_that_fails_in_the_middle_is_told_with_member_and_line(tmp_path: Path) -> None:
    ran = travelled(tmp_path, "acme", *QUICK, "--json=journey.json", of=ACME, edits=(POST_LOAD,))
    assert (ran.status, ran.err) == (1, "")
    assert "RuntimeError: the weights cannot be packed" in ran.out
    assert "member  post_load_model" in ran.out
    assert "line    acme/platform.py:" in ran.out
    failure = recorded(tmp_path).legs[0].failure
    assert failure is not None
    assert (failure.member, failure.role, failure.fault) == ("post_load_model", "worker 0", "platform")
    last = " ".join(ran.out.partition("\nacme: ")[2].split())
    assert last.startswith("llama, eager, float32 failed: post_load_model(a LlamaForCausalLM) raised RuntimeError")


def test_a_platform_that_does_not_come_to_life_is_one_line(tmp_path: Path) -> None:
    wrong = Edit("__init__.py", 'return "acme.platform.AcmePlatform"', 'raise OSError("no driver")')
    ran = travelled(tmp_path, "acme", *QUICK, of=ACME, edits=(wrong,))
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.count("\n") == 1
    assert ran.err.startswith("sglang-conformance journey: the platform could not be resolved: ")


def test_interrupted_it_leaves_nothing(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    process = started(tmp_path, "cpu", *QUICK[:1], mark=mark)
    assert process.stdout is not None
    process.stdout.readline()  # it has begun
    os.killpg(process.pid, signal.SIGINT)
    ran = ended(process, mark)
    assert (ran.status, ran.err) == (130, "sglang-conformance journey: interrupted\n")


def test_a_reader_that_has_gone_ends_it(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    process = started(tmp_path, "cpu", *QUICK[:1], mark=mark)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(SECONDS) == 1
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert comes_true(lambda: not marked(mark))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("nothing",), "nothing: no such platform"),
        (("cpu", "--contract=0.4.9"), "--contract=0.4.9: "),
        (("cpu", "--model=gpt"), "--model=gpt: 'gpt' is none of them; name some of llama, latent, mixtral, llama-tied"),
        (("cpu", "--model=,"), "--model=,: it is empty; name some of"),
        (("cpu", "--dtype=int8"), "--dtype=int8: 'int8' is none of them; name some of float32"),
        (("cpu", "--tp=3"), "--tp=3: 1, 2, 4 or 8 ranks can share these models"),
        (("cpu", "--graphs=0"), "--graphs=0: batch sizes from 1 to 64 are needed, as in 1,2,4,8"),
        (("cpu", "--graphs="), "--graphs=: batch sizes"),
        (("cpu", "--deadline=0"), "--deadline=0: a number of seconds above 0 is needed"),
        (("cpu", "--json=no/such/folder.json"), "--json=no/such/folder.json: there is no folder no/such"),
    ],
)
def test_options_that_cannot_be_used_are_one_line(
    options: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["journey", "--sglang=reference", *options]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"sglang-conformance journey: {complaint}")
    assert said.err.count("\n") == 1


def test_schema_is_of_every_record_and_strict() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    failure = Failure("it did not return", "", "init_backend", "worker 0", at=None)
    wrong = served("llama", traces=(launcher(), stopped(worker(), "init_backend")), failure=failure)
    data = json.loads(journey(served(), wrong, served("latent", traces=(), not_run="no room")).dumps())
    jsonschema.validate(data, SCHEMA)
    assert data["schema"] == SCHEMA["$id"]
    data["legs"][0]["more"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, SCHEMA)
