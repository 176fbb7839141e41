from __future__ import annotations

from itertools import chain
from typing import get_args

import pytest

from sglang_conformance.radar.finding import Finding, Kind, Severity
from sglang_conformance.radar.reading.facts import Place
from sglang_conformance.suite import expect, interface


def test_each_kind_of_finding_is_the_matter_of_some_requirement_and_of_one_table() -> None:
    tables = [interface.USES, interface.HOOKS, interface.OVERRIDES, interface.FACTORIES]
    tables += [interface.UNREAD, interface.GOING, interface.LEFT]
    assert sorted(chain(*tables)) == sorted(get_args(Kind))


def test_a_failure_says_how_to_mend_the_first_and_how_many_more_there_are() -> None:
    def found(name: str) -> Finding:
        return Finding("import", Severity.BREAKS, name, f"imports {name}", Place("v.py", 7), "it went", f"use {name}2")

    interface._none([], expected="what is there")
    with pytest.raises(expect.Violation) as caught:
        interface._none([found("a"), found("b")], expected="what is there")
    told = caught.value.finding
    assert told["expected"] == "what is there: use a2"
    assert (told["seen"], told["where"]) == ("imports a, and 1 more, which radar lists", "v.py:7")
    assert told["cause"] == "it went"
    assert "v.py:7: imports b (it went); use b2" in told["detail"]
