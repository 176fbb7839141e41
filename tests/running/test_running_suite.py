"""How checks are declared, called, and forked in part."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from sglang_conformance.certificate.model import Finding
from sglang_conformance.suite import execute, expect, isolate
from sglang_conformance.suite.declare import ATTRIBUTE, Check, in_controller, in_host, in_probe, parameters, requirement
from sglang_conformance.suite.expect import Declined, NotReached, Violation

# Declaring.


def test_declared_check_names_its_requirements_and_its_place() -> None:
    @requirement("MEM-001", "MEM-002")
    @in_probe
    def test_total(platform: Any) -> None: ...

    check: Check = getattr(test_total, ATTRIBUTE)
    assert check.requirements == ("MEM-001", "MEM-002")
    assert (check.name, check.place) == ("test_total", "platform")
    assert check.line == test_total.__code__.co_firstlineno
    assert parameters(test_total) == ("platform",)


@pytest.mark.parametrize(
    ("decorator", "place"), [(in_controller, "controller"), (in_host, "host"), (in_probe, "platform")]
)
def test_decorator_says_where_a_body_runs(decorator: Callable[[Any], Any], place: str) -> None:
    @decorator
    def body() -> None: ...

    assert getattr(body, ATTRIBUTE).place == place


def test_check_has_the_node_id_that_pytest_prints() -> None:
    check = Check("sglang_conformance.suite.memory", "test_total", "platform")
    assert (check.id, check.area) == ("sglang_conformance/suite/memory.py::test_total", "memory")


def test_drawn_arguments_are_not_filled() -> None:
    from hypothesis import given
    from hypothesis import strategies as st

    @given(size=st.integers())
    def body(platform: Any, size: int) -> None: ...

    assert parameters(body) == ("platform",)


# Running a body.


def raising(error: BaseException) -> Callable[..., None]:
    def body() -> None:
        raise error

    return body


def test_body_is_given_what_it_names() -> None:
    got: list[Any] = []

    def body(contract: Any, platform: Any) -> None:
        got.append((contract, platform))

    assert execute.call(body, {"platform": 1, "contract": 2, "host": 3}) == {"outcome": "pass", "message": ""}
    assert got == [(2, 1)]


@pytest.mark.parametrize(
    ("error", "outcome"), [(Declined("None, as documented"), "unsupported"), (NotReached("n"), "blocked")]
)
def test_declined_and_not_reached_are_outcomes(error: Exception, outcome: str) -> None:
    assert execute.call(raising(error), {}) == {"outcome": outcome, "message": str(error)}


def test_violation_travels_as_it_is() -> None:
    violation = Violation(Finding("a", "b"))
    with pytest.raises(Violation) as caught:
        execute.call(raising(violation), {})
    assert caught.value is violation


# A fork for a part of a check.


@pytest.mark.parametrize("value", [None, 3, {"a": [1, "x"]}, "x" * (1 << 20)])
def test_value_of_a_fork_comes_back(value: Any) -> None:
    assert isolate.in_fork(lambda: value) == isolate.Outcome(value)


def test_error_of_a_fork_comes_back_by_its_type() -> None:
    outcome = isolate.in_fork(raising(KeyError("k")))
    assert (outcome.error, outcome.message) == ("KeyError", "'k'")
    assert "LookupError" in outcome.bases
    assert str(outcome) == "KeyError: 'k'"


def test_exit_of_a_fork_is_an_error() -> None:
    assert isolate.in_fork(lambda: os._exit(0)).error == "Ended"
    assert "-9" in isolate.in_fork(lambda: os.kill(os.getpid(), signal.SIGKILL)).message
    assert isolate.in_fork(lambda: sys.exit(3)).error == "SystemExit"


def test_hang_of_a_fork_ends_at_its_deadline() -> None:
    started = time.monotonic()
    outcome = isolate.in_fork(lambda: time.sleep(600), deadline=0.2)
    assert outcome.error == "Hung"
    assert 0.2 <= time.monotonic() - started < 5


def test_forks_run_side_by_side_and_keep_their_order() -> None:
    reader, writer = os.pipe()
    waits, answers = lambda: os.read(reader, 1).decode(), lambda: os.write(writer, b"x")
    assert [outcome.value for outcome in isolate.in_forks([waits, answers])] == ["x", 1]


def test_hang_of_one_fork_leaves_the_others_answers() -> None:
    outcomes = isolate.in_forks([lambda: time.sleep(600), lambda: 7], deadline=0.3)
    assert [outcome.error or outcome.value for outcome in outcomes] == ["Hung", 7]


def test_what_comes_of_a_fork_settles_in_its_value_or_a_violation() -> None:
    assert isolate.in_fork(lambda: 7).settled("a call") == 7
    with pytest.raises(Violation, match="expected no error; saw KeyError: 'k'"):
        isolate.in_fork(raising(KeyError("k"))).settled("a call")
    with pytest.raises(Violation, match="expected an answer; saw the process ended with 3"):
        isolate.in_fork(lambda: os._exit(3)).settled("a call")
    with pytest.raises(Violation, match=r"expected an answer; saw nothing after 0.1 s"):
        isolate.in_fork(lambda: time.sleep(600), deadline=0.1).settled("a call")
    with pytest.raises(expect.NotCovered, match="no such module"):
        isolate.in_fork(raising(expect.NotCovered("no such module"))).settled("a call")


def test_violation_in_a_fork_keeps_its_finding_and_gains_the_call() -> None:
    with pytest.raises(Violation) as caught:
        isolate.in_fork(raising(Violation(Finding("a", "b", "f()", "x.py:3")))).settled("a call")
    assert caught.value.finding == {**vars(Finding("a", "b", "a call: f()", "x.py:3"))}


def test_process_that_starts_afresh_has_this_ones_environment_and_is_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDED_ON", "yes")
    assert isolate.spawned(os.getenv, "HANDED_ON", deadline=60).value == "yes"
    assert isolate.spawned(os.getppid, deadline=60).value == os.getpid()


def test_process_that_starts_afresh_may_end_raise_or_hang() -> None:
    assert isolate.spawned(os._exit, 3, deadline=60) == isolate.Outcome(
        error="Ended", message="the process ended with 3, without an answer"
    )
    assert isolate.spawned(os.chdir, "/nowhere/at/all", deadline=60).error == "FileNotFoundError"
    assert isolate.spawned(time.sleep, 600, deadline=0.5).error == "Hung"


def test_value_of_a_fork_that_is_no_plain_data_is_an_error() -> None:
    assert isolate.in_fork(lambda: {1, 2}).error == "TypeError"


def test_fork_changes_nothing_here() -> None:
    isolate.in_fork(lambda: os.environ.update(CHANGED_IN_A_FORK="1"))
    assert "CHANGED_IN_A_FORK" not in os.environ
