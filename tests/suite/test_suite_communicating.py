"""What the checks of PyNCCL see between a communicator and its library, and what they hold against it."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Any

import pytest

from sglang_conformance.contract import tables
from sglang_conformance.suite import expect
from sglang_conformance.suite.communicating import spies, states


class Library:
    def ncclAllReduce(self, *given: Any) -> str:  # noqa: N802
        return "reduced"

    def ncclGroupStart(self) -> None:  # noqa: N802
        """Nothing."""

    def other(self) -> str:
        return "other"


class Communicator:
    def __init__(self) -> None:
        self.nccl = Library()
        self.disabled = True

    @contextlib.contextmanager
    def change_state(self, enable: bool | None = None) -> Iterator[None]:
        before, self.disabled = self.disabled, enable is False
        try:
            yield
        finally:
            self.disabled = before


def test_a_spy_notes_plain_numbers_and_passes_everything_on() -> None:
    communicator = Communicator()
    library = communicator.nccl
    with spies.on_library(communicator) as seen:
        assert communicator.nccl.ncclAllReduce(ctypes.c_void_p(16), 3, ctypes.c_void_p(32)) == "reduced"
        communicator.nccl.ncclGroupStart()
        communicator.nccl.ncclAllReduce(ctypes.c_void_p(16), 3, ctypes.c_void_p(None))
        assert communicator.nccl.other() == "other"
    assert communicator.nccl is library
    assert seen.calls[0] == ("ncclAllReduce", (16, 3, 32))
    assert seen.streams() == [32, 0]


def test_what_keeps_no_library_cannot_be_looked_at() -> None:
    with pytest.raises(expect.Declined), spies.on_library(object()):
        pass


def test_right_scopes_pass_the_machine() -> None:
    states.run_machine(Communicator())


def test_scopes_that_forget_what_was_fail_the_machine() -> None:
    class Forgetful(Communicator):
        @contextlib.contextmanager
        def change_state(self, enable: bool | None = None) -> Iterator[None]:
            self.disabled = enable is False
            yield
            self.disabled = True

    with pytest.raises(expect.Violation) as caught:
        states.run_machine(Forgetful())
    assert "disabled after enter change_state(" in caught.value.finding["call"]


@pytest.mark.parametrize(("release", "has", "lacks"), [("0.5.11", "cp_all_gather_into_tensor", "all_to_all_single")])
def test_the_cores_calls_follow_the_release(release: str, has: str, lacks: str) -> None:
    calls = states.core_calls(tables.load(release))
    assert has in calls
    assert lacks not in calls
    later = states.core_calls(tables.load("0.5.23"))
    assert lacks in later
    assert has not in later


def test_a_method_that_cannot_take_a_call_is_told_with_the_call() -> None:
    class Short:
        def all_gather(self, output: Any, input: Any) -> None:
            """No sizes."""

    calls = states.core_calls(tables.load("0.5.23"))
    with pytest.raises(expect.Violation) as caught:
        states.require_fit(Short(), "all_gather", calls["all_gather"])
    assert caught.value.finding["call"] == "pynccl_comm.all_gather(output, input, sizes=…)"
    with pytest.raises(expect.Violation, match="expected a method; saw none"):
        states.require_fit(Short(), "broadcast", calls["broadcast"])
