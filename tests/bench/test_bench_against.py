"""One run against another's record: what is said to have changed, and what not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.taken import SETTING, measured
from sglang_conformance.bench import against, record
from sglang_conformance.bench.layout import WIDTH
from sglang_conformance.bench.model import Measured
from sglang_conformance.errors import OptionError


def slowed(case: Measured, engine: str, factor: float) -> Measured:
    """The case, with one engine that takes so many times as long."""
    taken = tuple(
        replace(each, seconds=tuple(factor * s for s in each.seconds)) if each.engine == engine else each
        for each in case.taken
    )
    return replace(case, taken=taken)


def compared(then: list[Measured], now: list[Measured], setting: record.Setting = SETTING) -> list[str]:
    return list(against.lines(record.to_json(SETTING, then), record.to_json(setting, now)))


def test_what_is_slower_by_more_than_its_spread_is_said() -> None:
    lines = compared([measured()], [slowed(measured(), "group", 1.2)])
    group, pynccl, backend, copy = (line.split() for line in lines[-4:])
    assert group == ["1", "MiB", "2", "float32", "group", "220.2", "264.2", "+20", "%", "3.81x", "3.17x", "slower"]
    assert pynccl[-3:] == ["%", "4.00x", "4.00x"]
    assert backend[-1] == "1.00x"
    assert copy == ["1", "MiB", "2", "float32", "copy", "104.9", "104.9", "+0", "%"]


@pytest.mark.parametrize(("factor", "said"), [(0.5, "faster"), (0.98, ""), (1.02, ""), (2.0, "slower")])
def test_what_lies_within_the_spread_is_not(factor: float, said: str) -> None:
    group = compared([measured()], [slowed(measured(), "group", factor)])[-4]
    assert group.endswith(f"  {said}" if said else "x")


def test_lines_fit_and_cases_that_only_one_has_are_left_out() -> None:
    lines = compared([measured(1 << 34), measured(64)], [measured(1 << 34, wrong=1), measured(128)])
    assert max(map(len, lines)) <= WIDTH
    assert sum(" GiB " in line for line in lines) == 4
    assert not any(" B " in line for line in lines)


def test_nothing_in_common_is_said() -> None:
    assert compared([measured(64)], [measured(128)])[-1] == "  there is nothing that both have measured"


def test_other_settings_are_named() -> None:
    other = replace(SETTING, release="0.5.21", cpu="Another", iterations=9)
    lines = compared([measured()], [measured()], other)
    assert "  not alike: host sglang: 0.5.23 then, 0.5.21 now" in lines
    assert "  not alike: machine processor: A processor of some name, 3.4 GHz then, Another now" in lines
    assert "  not alike: iterations: 3 then, 9 now" in lines
    assert not any("not alike" in line for line in compared([measured()], [measured()]))


def test_record_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text(record.dumps(SETTING, [measured()]))
    assert against.load(file) == json.loads(file.read_text())


def broken(change: Any) -> str:
    data = record.to_json(SETTING, [measured()])
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("{", "that is no JSON"),
        ("[]", "no record of sglang-conformance/bench/1"),
        ("{}", "no record of sglang-conformance/bench/1"),
        (broken(lambda data: data.update(schema="sglang-conformance/certificate/1")), "no record of"),
        (broken(lambda data: data.pop("machine")), "no record of"),
        (broken(lambda data: data["results"][0].pop("time_us")), "no record of"),
        (broken(lambda data: data.update(results=[1])), "no record of"),
    ],
)
def test_what_is_no_record_is_told_in_a_line(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "bench.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(OptionError, match="give the file that --json wrote") as refused:
        against.load(file)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
