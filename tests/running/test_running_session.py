"""What a run makes of a probe's result, of a story, of a traceback: pure functions, judged by values."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sglang_conformance
from sglang_conformance.blame import is_vendor, stack_in, vendor_line
from sglang_conformance.certificate.model import Finding, Observation
from sglang_conformance.hosts.serving import NotServed
from sglang_conformance.hosts.story import STEPS, Story, _place, read
from sglang_conformance.journey.launched import Launched
from sglang_conformance.journey.leg import Leg
from sglang_conformance.probes.result import Failure, Result, readable
from sglang_conformance.session import Session, finding_of, observe
from sglang_conformance.suite import journey_roles
from sglang_conformance.suite.declare import Check

KIT = Path(sglang_conformance.__file__).parent
STDLIB = Path(sysconfig.get_path("stdlib"))
CHECK = Check("sglang_conformance.suite.memory", "test_total", "platform", ("MEM-001",), line=7)
VENDOR = ("/opt/acme/acme/device.py", 31, "total")
OURS = (str(KIT / "suite" / "memory.py"), 12, "test_total")


def raised(**changes: Any) -> Failure:
    options: dict[str, Any] = {"kind": "raised", "type": "ValueError", "message": "no", "bases": ("ValueError",)}
    return Failure(**{**options, **changes})


# What an observation is made of.


@pytest.mark.parametrize("outcome", ["pass", "unsupported", "blocked"])
def test_value_of_a_probe_is_its_outcome(outcome: str) -> None:
    seen = observe(CHECK, Result({"outcome": outcome, "message": "m"}))
    assert seen == Observation(CHECK.id, ("MEM-001",), outcome, "m")  # type: ignore[arg-type]


def test_defect_of_the_host_is_kept_with_what_shows_it() -> None:
    shown = {"expected": "an int", "seen": "None", "call": "c", "where": "", "cause": "", "detail": ""}
    seen = observe(CHECK, Result({"outcome": "host-defect", "message": "SGLang's own", "finding": shown}))
    assert (seen.outcome, seen.message, seen.finding) == ("host-defect", "SGLang's own", Finding(**shown))


def test_violation_is_a_failure_with_its_finding() -> None:
    finding = {"expected": "an int", "seen": "None", "call": "c", "where": "w", "cause": "", "detail": "its own"}
    failure = raised(type="Violation", bases=("Violation", "AssertionError"), finding=finding, notes=("Draw 1: 3",))
    seen = observe(CHECK, Result(failure=failure, output="printed\n"))
    assert (seen.outcome, seen.message) == ("fail", "expected an int; saw None")
    assert seen.finding == Finding("an int", "None", "c", "w", "", "Draw 1: 3\nits own\nprinted")


@pytest.mark.parametrize("finding", [{"a": 1}, [1], "text", 7])
def test_what_a_vendors_error_calls_a_finding_is_none(finding: Any) -> None:
    seen = observe(CHECK, Result(failure=raised(finding=finding, frames=(OURS, VENDOR))))
    assert seen.outcome == "fail"
    assert seen.finding is not None
    assert seen.finding.seen == "ValueError: no"


def test_error_in_vendor_code_is_a_failure_at_its_line() -> None:
    seen = observe(CHECK, Result(failure=raised(frames=(OURS, VENDOR), traceback="Traceback ...")))
    assert seen.outcome == "fail"
    assert seen.finding == Finding("no error", "ValueError: no", "", "/opt/acme/acme/device.py:31", "", "Traceback ...")


def test_error_of_the_check_itself_blames_nobody() -> None:
    seen = observe(CHECK, Result(failure=raised(frames=(OURS,), traceback="Traceback ...")))
    assert (seen.outcome, seen.finding) == ("not-run", None)
    assert seen.message.startswith("the check itself failed: ValueError: no")


@pytest.mark.parametrize(
    ("error", "outcome"), [("NotServed: it lacks gguf", "not-run"), ("NotCovered: it lacks gguf", "blocked")]
)
def test_record_that_could_not_be_made_here_is_not_run_or_blocks(error: str, outcome: str) -> None:
    check = Check(journey_roles.__name__, "test_a_second_start_serves_the_same", "controller", ("JOUR-057",), line=7)
    host = SimpleNamespace(contract=None, kind="installed")
    run = SimpleNamespace(config=SimpleNamespace(subject=None, host=host), launched=Launched(Leg(), error=error))
    seen = Session._judge_here(run, check)  # type: ignore[arg-type]
    assert (seen.outcome, seen.message) == (outcome, "it lacks gguf")


def test_module_that_the_reference_does_not_cover_blocks() -> None:
    failure = raised(type="NotCovered", bases=("NotCovered", "ImportError"), message="needs --sglang=installed")
    seen = observe(CHECK, Result(failure=failure))
    assert (seen.outcome, seen.message) == ("blocked", "needs --sglang=installed")


def test_what_an_installed_sglang_lacks_to_serve_is_not_run() -> None:
    bases = tuple(kind.__name__ for kind in NotServed.__mro__)
    seen = observe(
        CHECK, Result(failure=raised(type="NotServed", bases=bases, message="it lacks gguf; pip install gguf"))
    )
    assert (seen.outcome, seen.message, seen.finding) == ("not-run", "it lacks gguf; pip install gguf", None)


def test_hang_is_a_failure_at_the_line_of_its_stack() -> None:
    stack = f'Thread 0x1 (most recent call first):\n  File "{STDLIB}/threading.py", line 5 in wait\n'
    stack += '  File "/opt/acme/acme/device.py", line 31 in total\n'
    stack += f'  File "{KIT}/suite/memory.py", line 12 in test_total\n'
    seen = observe(
        CHECK, Result(failure=Failure("hung", "Hung", "still running after 1 s; it was killed"), output=stack)
    )
    assert seen.outcome == "fail"
    assert seen.finding is not None
    assert seen.finding.expected == "an answer before the deadline"
    assert seen.finding.where == "/opt/acme/acme/device.py:31"
    assert seen.finding.detail == stack.rstrip()


@pytest.mark.parametrize("kind", ["exited", "killed"])
def test_end_of_the_process_is_a_failure(kind: Any) -> None:
    finding = finding_of(Failure(kind, "Ended", "its process was killed by SIGSEGV"), "driver: bus error\n", "c()")
    assert finding.expected == "an answer; platform code must not end its process"
    assert (finding.seen, finding.call) == ("its process was killed by SIGSEGV", "c()")
    assert finding.detail == "driver: bus error"


@pytest.mark.parametrize(("count", "kept"), [(0, 0), (40, 40), (41, 41), (1000, 41)])
def test_long_text_is_cut_in_the_middle(count: int, kept: int) -> None:
    rows = readable("".join(f"{n}\n" for n in range(count))).splitlines()
    assert len(rows) == kept
    if count > 40:
        assert (rows[0], rows[-1]) == ("0", str(count - 1))
        assert rows[20] == f"[... {count - 40} lines ...]"


# Whose line it is.


@pytest.mark.parametrize(
    ("file", "theirs"),
    [
        ("/opt/acme/acme/device.py", True),
        ("/venv/lib/python3.11/site-packages/acme/device.py", True),
        ("/venv/lib/python3.11/site-packages/torch_acme/device.py", True),
        ("/venv/lib/python3.11/site-packages/sglang_acme/platform.py", True),
        ("/usr/lib/python3/dist-packages/acme.py", True),
        ("/venv/lib/python3.11/site-packages/torch/nn/init.py", False),
        ("/venv/lib/python3.11/site-packages/sglang/srt/platforms/__init__.py", False),
        ("/venv/lib/python3.11/site-packages/sglang_reference/environ.py", False),
        ("/home/me/project/reference/sglang_reference/environ.py", False),
        ("/home/me/sglang/python/sglang/srt/platforms/__init__.py", False),
        ("/home/me/releases/0.5.23/sglang/kernels/ops/kvcache/cache_move.py", False),
        ("/home/me/sglang/acme/kernels/device.py", True),
        (str(STDLIB / "threading.py"), False),
        (str(KIT / "suite" / "memory.py"), False),
        (f"{KIT}_acme/device.py", True),
        (f"{STDLIB}_acme/device.py", True),
        ("<string>", False),
        ("<frozen importlib._bootstrap>", False),
    ],
)
def test_vendor_code_is_told_from_all_other(file: str, theirs: bool) -> None:
    assert is_vendor(file) is theirs


def test_vendors_line_is_the_innermost_of_theirs() -> None:
    outer = ("/opt/acme/acme/__init__.py", 3, "activate")
    inner = (str(STDLIB / "json" / "__init__.py"), 9, "loads")
    assert vendor_line([OURS, outer, VENDOR, inner]) == "/opt/acme/acme/device.py:31"
    assert vendor_line([OURS, inner]) == ""
    assert vendor_line([]) == ""


def test_stack_is_found_among_other_output() -> None:
    output = 'driver: hello\nCurrent thread 0x00 (most recent call first):\n  File "/a.py", line 5 in inner\n'
    output += '  File "/b c.py", line 7 in outer\nmore\n'
    assert stack_in(output) == [("/b c.py", 7, "outer"), ("/a.py", 5, "inner")]
    assert stack_in("nothing\n") == []


# What a story tells.


def step(name: str, **changes: Any) -> str:
    record: dict[str, Any] = {"name": name, "value": {}, "failure": None, "changes": {"patches": []}, "seconds": 0.1}
    return json.dumps({**record, **changes})


def begins(name: str) -> str:
    return json.dumps({"begins": name})


def failed(message: str) -> dict[str, Any]:
    frames = [["/opt/acme/acme/__init__.py", 3, "<module>"]]
    said = {"type": "OSError", "message": message, "bases": ["OSError"], "frames": frames, "traceback": "T"}
    return {**said, "notes": [], "finding": None}


def test_story_told_to_its_end_has_every_step() -> None:
    told = tuple(text for name in STEPS for text in (begins(name), step(name)))
    story = read(Result(None, None, "output", told, orphans=2))
    assert [s.name for s in story.steps] == list(STEPS)
    assert story.failed is None
    assert (story.output, story.orphans) == ("output", 2)


def test_step_that_raised_ends_the_story() -> None:
    told = (begins("import"), step("import", failure=failed("no driver")))
    story = read(Result(progress=told))
    assert story.failed is not None
    assert story.failed.failure is not None
    assert story.failed.failure.message == "no driver"
    assert story.failed.failure.frames == (("/opt/acme/acme/__init__.py", 3, "<module>"),)
    assert story.step("activate") is None


@pytest.mark.parametrize("name", ["import", "activate", "hooks"])
def test_step_in_which_the_process_ended_has_failed(name: str) -> None:
    before = STEPS[: STEPS.index(name)]
    told = tuple(text for other in before for text in (begins(other), step(other)))
    end = Failure("killed", "Killed", "its process was killed by SIGSEGV")
    story = read(Result(None, end, "", (*told, begins(name)), seconds=0.5))
    assert story.failed is not None
    assert (story.failed.name, story.failed.failure, story.failed.changes) == (name, end, {})
    assert [s.name for s in story.steps] == [*before, name]


def test_end_before_the_first_step_is_the_first_steps() -> None:
    end = Failure("hung", "Hung", "still running")
    story = read(Result(failure=end))
    assert [(s.name, s.failure) for s in story.steps] == [("import", end)]


def test_end_between_two_steps_loses_no_step() -> None:
    end = Failure("killed", "Killed", "its process was killed by SIGKILL")
    story = read(Result(None, end, "", (begins("import"), step("import"))))
    assert [s.name for s in story.steps] == ["import"]


def test_hook_that_stands_in_for_something_not_loaded_yet_has_no_place() -> None:
    class Lazy:
        def __call__(self) -> None: ...

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(f"{name}: the driver is not loaded")

    assert _place(Lazy()) == {"where": ""}
    assert _place(begins)["where"].startswith(__file__)


def test_empty_story_has_no_failure() -> None:
    assert Story().failed is None
    assert Story().step("import") is None
