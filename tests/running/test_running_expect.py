"""How a check speaks: asserts that say what was expected, what was seen, which call and which line."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from sglang_conformance.certificate.model import Finding
from sglang_conformance.hosts.serving import NotServed
from sglang_conformance.suite import expect
from sglang_conformance.suite.expect import Answer, Violation


class Platform:
    """A platform with members of every kind."""

    def total(self, device_id: int = 0) -> int:
        return 16

    @classmethod
    def seed(cls) -> None: ...

    @staticmethod
    def static() -> None: ...

    @property
    def flag(self) -> bool:
        return True

    @cached_property
    def cached(self) -> bool:
        return True

    constant = 3

    def broken(self) -> None:
        raise OSError("no driver")

    def missing(self) -> None:
        raise NotImplementedError


def finding_of(action: Callable[[], Any]) -> Finding:
    with pytest.raises(Violation) as caught:
        action()
    return Finding(**caught.value.finding)


def test_answer_knows_its_call_and_its_place() -> None:
    answer = expect.ask(Platform(), "total", 1)
    assert (answer.value, answer.call) == (16, "platform.total(1)")
    assert line_at(answer.where) == "def total(self, device_id: int = 0) -> int:"


@pytest.mark.parametrize("member", ["total", "seed", "static", "flag", "cached", "constant"])
def test_place_of_a_member_is_a_line_of_its_class(member: str) -> None:
    file, _, line = expect.place_of(Platform(), member).rpartition(":")
    assert file == __file__
    last = Platform.missing.__code__.co_firstlineno
    assert last - 40 < int(line) <= last


def test_what_a_member_raises_is_a_violation_at_its_line() -> None:
    finding = finding_of(lambda: expect.ask(Platform(), "broken"))
    assert (finding.expected, finding.seen, finding.call) == ("an answer", "OSError: no driver", "platform.broken()")
    assert line_at(finding.where) == 'raise OSError("no driver")'


def test_member_that_is_absent_is_a_violation() -> None:
    assert finding_of(lambda: expect.ask(Platform(), "absent")).seen.startswith("AttributeError")


def test_what_the_reference_does_not_cover_passes_through() -> None:
    class NotCovered(ImportError):
        pass

    def imports() -> None:
        raise NotCovered

    with pytest.raises(NotCovered):
        expect.attempt("import", imports)


def test_what_an_installed_sglang_lacks_to_serve_passes_through() -> None:
    def serves() -> None:
        raise NotServed("it lacks gguf")

    with pytest.raises(NotServed, match="it lacks gguf"):
        expect.attempt("serving llama", serves)


def test_refusal_is_the_documented_error_and_no_other() -> None:
    expect.refused(Platform(), "missing", errors=NotImplementedError)
    expect.refused(Platform(), "broken", errors=(ValueError, OSError))
    assert finding_of(lambda: expect.refused(Platform(), "broken", errors=ValueError)).expected == "ValueError"
    assert finding_of(lambda: expect.refused(Platform(), "total", errors=ValueError)).seen == "the answer 16"


@pytest.mark.parametrize(
    ("value", "kind", "right"),
    [(1, int, True), (True, int, False), (True, (int, bool), True), (1.0, int, False), (None, (int, type(None)), True)],
)
def test_instance_takes_no_bool_for_an_int(value: Any, kind: Any, right: bool) -> None:
    answer = Answer(value, "platform.total()", "")
    if right:
        expect.instance(answer, kind)
    else:
        assert repr(value) in finding_of(lambda: expect.instance(answer, kind)).seen


def test_equality_says_both_values() -> None:
    expect.equal(3, 3)
    finding = finding_of(lambda: expect.equal(Answer(3, "platform.count()", "w:1"), 4))
    assert (finding.expected, finding.seen, finding.call, finding.where) == ("4", "3", "platform.count()", "w:1")


def test_shown_value_is_short_whatever_it_is() -> None:
    class Unshown:
        def __repr__(self) -> str:
            raise ValueError

    assert expect.show("x" * 1000) == "'" + "x" * 156 + "..."
    assert expect.show(Unshown()) == "<a Unshown whose repr raised ValueError>"


def test_call_is_spelt_as_a_person_would() -> None:
    assert expect.spell("get", (1, "a"), {"kind": None}) == "platform.get(1, 'a', kind=None)"


def line_at(where: str) -> str:
    file, _, line = where.rpartition(":")
    return Path(file).read_text().splitlines()[int(line) - 1].strip()
